# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""What was verified, and which process has read it: a record in /run, and what can be told without one.

Times of files lie (chmod, cp -p, a clock that is set), so equality with what was noted goes before all times.
"""

import contextlib
import glob
import hashlib
import json
import os
import stat
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from .. import paths
from . import processes
from .host import Host
from .processes import Listener
from .servers import Server

# As Linux follows them
_MOST_LINKS = 40
# What a file that was written in one go has between its times
_WRITTEN_SECONDS = 0.1
# Within which a start has written its PID file
_START_SECONDS = 2.0


class Inputs(NamedTuple):
    """Identify what a server reads.

    `files` has (device, inode, time, size, hash) of each file, `folders` the time of each folder that an Include names.
    A time is the last change of the file or folder, of a link on the way to it, or of a folder above it, in ns.
    """

    files: Dict[str, List[Any]]
    folders: Dict[str, int]

    def differs_from(self, other: "Inputs", by_content: bool = False) -> Tuple[str, ...]:
        """Return the names of what is not the same; `by_content` counts nothing but the bytes of files."""
        names = set(self.files) | set(other.files)
        if by_content:
            return tuple(sorted(name for name in names if _hash(self, name) != _hash(other, name)))
        changed = [name for name in names if self.files.get(name) != other.files.get(name)]
        changed += [name for name in self.folders if self.folders.get(name) != other.folders.get(name)]
        return tuple(sorted(changed))

    def stay(self, later: "Inputs") -> bool:
        """Return whether files are the same ones later, to the byte.

        Their times may be earlier then: a new name in a folder hides that the folder was changed before.
        """
        pairs = [(found, later.files.get(name)) for name, found in self.files.items()]
        return set(self.files) == set(later.files) and all(
            now and (now[:2], now[3:]) == (found[:2], found[3:]) and now[2] <= found[2] for found, now in pairs
        )

    def without(self, file: str) -> "Inputs":
        """Return the same without a file."""
        return Inputs({name: found for name, found in self.files.items() if name != file}, self.folders)


def _hash(inputs: Inputs, name: str) -> Any:
    return inputs.files[name][-1] if name in inputs.files else None


class Entry(NamedTuple):
    """Hold what was verified of a server, for which policy (its section), and its process then.

    `has_read` says that the process has read that; if it is False, it was not known whether it had.
    """

    server: str
    inputs: Inputs
    policy: Any
    generation: Optional[List[Any]]
    has_read: bool = True


class Record(NamedTuple):
    """Hold all entries, and when they were written, in seconds since the boot; the clock was ahead by `clock`.

    `seen` are the generations of the processes that were there then, also of those of which there is no entry.
    """

    at: float
    clock: float
    entries: Tuple[Entry, ...]
    seen: Sequence[List[Any]] = ()


class Reading(NamedTuple):
    """Say what a server has read.

    `is_current` tells whether that is its configuration as it is now, None for unknown. `changed` names the files that
    have changed since, or may have. `policy` is the section that it has read, if the record has one.
    """

    is_current: Optional[bool]
    changed: Tuple[str, ...] = ()
    policy: Any = None
    is_noted: bool = False


def identify(files: Sequence[str], folders: Sequence[str]) -> Inputs:
    """Return what files and folders are now; a folder may be a pattern of several."""
    found: Dict[str, List[Any]] = {}
    for file in files:
        with contextlib.suppress(OSError):
            status = os.stat(file)
            content = ""
            # A pipe is not waited for.
            if stat.S_ISREG(status.st_mode):
                with open(file, "rb") as stream:
                    content = digest(stream.read())
            changed = max(status.st_ctime_ns, _way_changed(file))
            found[file] = [status.st_dev, status.st_ino, changed, status.st_size, content]
    times = {}
    for folder in folders:
        for place in (folder, *_fitting(folder)):
            with contextlib.suppress(OSError):
                times[place] = max(_changed(place), _way_changed(place))
    return Inputs(found, times)


def digest(content: bytes) -> str:
    """Return what two files of the same bytes have in common."""
    return hashlib.sha256(content).hexdigest()


def _fitting(pattern: str) -> List[str]:
    """Return the folders that a pattern fits, and those on the way to it in which another might be; none for a name."""
    found: List[str] = []
    while glob.has_magic(pattern):
        found += glob.glob(pattern)
        pattern = os.path.dirname(pattern)
    return [*found, pattern] if found else []


def _changed(folder: str) -> int:
    """Return when names in a folder have changed; of one that is not there, those where it would be."""
    while not os.path.isdir(folder) and folder != os.path.dirname(folder):
        folder = os.path.dirname(folder)
    return os.stat(folder).st_ctime_ns


def _way_changed(path: str) -> int:
    """Return when something on the way to a file was changed: a symbolic link, or a folder that was moved here.

    A new name in a folder gives it both times at once, a move gives it a ctime of its own.
    """
    times = [0]
    links = 0
    here, rest = "/", path.split("/")
    while rest and links < _MOST_LINKS:
        here = os.path.normpath(os.path.join(here, rest.pop(0)))
        if not os.path.lexists(here):
            break
        status = os.lstat(here)
        if stat.S_ISLNK(status.st_mode):
            links += 1
            times.append(status.st_ctime_ns)
            rest = os.readlink(here).split("/") + rest
            here = "/" if os.path.isabs(os.readlink(here)) else os.path.dirname(here)
        # Nobody moves /etc.
        elif rest and here.count("/") > 1 and status.st_ctime_ns != status.st_mtime_ns:
            times.append(status.st_ctime_ns)
    return max(times)


def generation(listener: Listener) -> List[Any]:
    """Return what is another whenever a process has read its files anew: its sockets change at each SIGHUP."""
    return [listener.pid, listener.began, list(listener.sockets)]


def _has_read_anew(listener: Listener, entry: Entry) -> bool:
    """Return whether a process has read its files since it was noted; it opens its sockets one by one."""
    before, now = entry.generation, generation(listener)
    return before is not None and before[:2] == now[:2] and not set(before[2]) & set(now[2])


def key(server: Server) -> str:
    """Return by what a server is known again: all of one key are asked the same, and answer the same."""
    if server.arguments is None:
        return f"process {server.listener.pid}" if server.listener else server.name
    return " ".join([server.program, server.main, *server.arguments.telling])


def load(host: Host) -> Optional[Record]:
    """Return what was noted since the boot, None if that is nothing that can be read."""
    try:
        with open(host.at(paths.RECORD), encoding="utf-8") as stream:
            found = json.load(stream)
        if found["boot"] != _boot(host):
            return None
        entries = [Entry(one[0], Inputs(*one[1]), *one[2:]) for one in found["entries"]]
        return Record(found["at"], found["clock"], tuple(entries), found["seen"])
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None


def save(entries: Sequence[Entry], now: Sequence[Server], host: Host) -> None:
    """Note what was verified, and which servers there are now; what cannot be written is not noted."""
    seen = [generation(server.listener) for server in now if server.listener]
    _write(Record(processes.since_boot(), processes.clock(), tuple(entries), seen), host)


def carry_over(before: Inputs, after: Inputs, host: Host) -> None:
    """Have a record say of what a run of ours has restored, to the byte, that it has not changed since."""
    old = load(host)
    if old is None:
        return
    entries = []
    for entry in old.entries:
        files, folders = dict(entry.inputs.files), dict(entry.inputs.folders)
        for name, found in after.files.items():
            if name in files and files[name] == before.files.get(name) and found[-1] == files[name][-1]:
                files[name] = found
        for folder, changed in after.folders.items():
            if folder in folders and folders[folder] == before.folders.get(folder):
                folders[folder] = changed
        entries.append(entry._replace(inputs=Inputs(files, folders)))
    _write(old._replace(entries=tuple(entries)), host)


def _write(noted: Record, host: Host) -> None:
    file = host.at(paths.RECORD)
    staged = os.path.join(os.path.dirname(file), f".{os.path.basename(file)}.new")
    content = {"boot": _boot(host), **noted._asdict()}
    with contextlib.suppress(OSError):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(staged)
        descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as stream:
            json.dump(content, stream)
        os.rename(staged, file)


def forget(host: Host) -> None:
    """Take the record away."""
    with contextlib.suppress(OSError):
        os.unlink(host.at(paths.RECORD))


def _boot(host: Host) -> str:
    return processes.text(host.at("/proc/sys/kernel/random/boot_id")).strip()


def reading(server: Server, inputs: Inputs, record: Optional[Record], pid_file: str) -> Reading:
    """Return what a server has read, by the first evidence there is; `pid_file` is where it says that it writes."""
    listener = server.listener
    if listener is None:
        return Reading(True)
    noted = [entry for entry in record.entries if entry.server == key(server)] if record else []
    for entry in noted:
        if entry.has_read and entry.generation == generation(listener):
            changed = inputs.differs_from(entry.inputs, by_content=True)
            return Reading(not changed, changed, entry.policy, True)
    for entry in noted:
        # It was started later or has read its files anew, and nothing has changed since.
        is_later = record is not None and processes.in_seconds(listener.began) > record.at
        if (is_later or _has_read_anew(listener, entry)) and not inputs.differs_from(entry.inputs):
            return Reading(True, (), entry.policy, True)
    at = _read_at(listener, pid_file, server, record)
    later = [file for file, found in inputs.files.items() if found[2] >= at * 1e9]
    later += [folder for folder, changed in inputs.folders.items() if changed >= at * 1e9]
    return Reading(None if later else True, tuple(sorted(later)))


def changed_since_read(
    names: Sequence[str], until: float, server: Server, record: Optional[Record], pid_file: str
) -> Tuple[str, ...]:
    """Return the files that have changed since a server has read its files, and before another time.

    Where it is not known when it has read them, the time counts at which that was noted.
    """
    at = _read_at(server.listener, pid_file, server, record) if server.listener else 0.0
    if not at and record:
        at = record.at + record.clock
    there = filter(os.path.exists, names if at else ())
    return tuple(name for name in there if at <= max(os.stat(name).st_ctime, os.lstat(name).st_ctime) < until)


def wrote_pid_file(listener: Listener, pid_file: str) -> Optional[float]:
    """Return when a process has written its PID file, in seconds since the epoch: when it has read its files last."""
    if os.path.isabs(pid_file) and processes.pid_in(pid_file) == listener.pid:
        status = os.stat(pid_file)
        # sshd sets both at once, others who touch it do not.
        if abs(status.st_mtime - status.st_ctime) < _WRITTEN_SECONDS:
            return status.st_mtime
    return None


def _read_at(listener: Listener, pid_file: str, server: Server, record: Optional[Record]) -> float:
    """Return when a process has read its files at the latest that is sure, in seconds since the epoch.

    It began at some ticks since the boot, and has written its PID file when it had read its files, at each SIGHUP too.
    The one moves when the clock is set, the other does not: if nothing shows that it was not set, the earlier counts.
    """
    began = processes.on_the_clock(listener.began)
    wrote = wrote_pid_file(listener, pid_file)
    is_steady = server.steady_since is not None and listener.began >= server.steady_since
    # The clock was not set since the record, if that is older than what it read last: what was there then had read it.
    latest = processes.in_seconds(listener.began)
    if wrote is not None and not (record and generation(listener) in record.seen):
        latest = max(latest, wrote - processes.clock())
    if record and latest >= record.at:
        is_steady = is_steady or abs(processes.clock() - record.clock) <= processes.STEP_SECONDS
    if is_steady:
        # It tells systemd that it runs before it writes that file: what is changed in between it has not read.
        was_signalled = any(_has_read_anew(listener, entry) for entry in record.entries) if record else False
        is_of_the_start = wrote is not None and wrote - began < _START_SECONDS and not was_signalled
        return began if wrote is None or is_of_the_start else max(began, wrote)
    return min(began, wrote) if wrote is not None else 0.0
