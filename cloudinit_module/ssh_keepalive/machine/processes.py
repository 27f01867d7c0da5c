# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The processes of sshd, as /proc shows them."""

import contextlib
import os
import re
import socket
import struct
import time
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from .host import Host
from .problem import Problem, UnansweredError

# The boot's seconds; time.CLOCK_BOOTTIME is there from Python 3.7 on.
_CLOCK_BOOTTIME = 7
# systemd shows whole seconds of a start: a clock that was set by less than this is not told from one that ran on.
STEP_SECONDS = 2.0
# The title of one that takes connections, from 8.2 on: its command line joined by blanks; its end may be cut off.
_LISTENER = re.compile(r"[^\s:]+: (?P<command>/\S+(?: .*)?) \[listener\] [0-9]+ of [0-9]+-[0-9]+ startups$", re.DOTALL)
# At the end of the names of Alpine's programs with PAM or Kerberos (openssh-server-pam, -krb5)
FLAVOUR = r"(?:\.pam|\.krb5)?"
_PROGRAM = re.compile(rf"sshd(?:-session|-auth)?{FLAVOUR}$")
# How a process begins that has not given itself a title, as before 8.2
_RAW = re.compile(r"/(.*/)?sshd$")
# What follows the program's path in /proc after an upgrade
_REPLACED = " (deleted)"
# proc_net(5)
_LISTENS = "0A"
# Of TCP, in a file of /proc/net that counts sockets
_NO_SOCKETS = re.compile(r"^TCP6?: inuse 0\b", re.MULTILINE)
# All addresses of the machine
WILDCARDS = ("0.0.0.0", "::")  # noqa: S104


class Listener(NamedTuple):
    """Hold a process that takes connections.

    The words of its command line are None if its title is cut off. `began` is in clock ticks since the boot. `sockets`
    are the inodes of the sockets that it listens on: they change whenever it reads its files anew. `program` is None if
    it was replaced since the start, and `path` is how it was started, be it by a link. `addresses` are those of TCP.
    """

    pid: int
    parent: int
    began: int
    sockets: Tuple[int, ...]
    addresses: Tuple[Tuple[str, int], ...]
    program: Optional[str]
    words: Optional[Tuple[str, ...]]
    path: str = ""

    @property
    def starts_anew(self) -> bool:
        """Return whether a signal has it start the same program again; it ends where that is not found."""
        return self.program is not None and os.path.realpath(self.path) == os.path.realpath(self.program)


class Process(NamedTuple):
    pid: int
    parent: int
    uid: int
    program: str
    title: str
    words: Tuple[str, ...]
    began: int


def since_boot() -> float:
    """Return the seconds since the boot, which no setting of the clock changes."""
    return time.clock_gettime(_CLOCK_BOOTTIME)


def clock() -> float:
    """Return by how many seconds the clock leads over the seconds since the boot, which changes when it is set."""
    return time.time() - since_boot()


def in_seconds(ticks: int) -> float:
    """Return the seconds since the boot at some clock ticks since it."""
    return ticks / os.sysconf("SC_CLK_TCK")


def on_the_clock(ticks: int) -> float:
    """Return the seconds since the epoch, as the clock has them now, at some ticks since the boot."""
    return clock() + in_seconds(ticks)


def own_start(host: Host) -> float:
    """Return when this process began, in seconds since the epoch."""
    with contextlib.suppress(OSError):
        return on_the_clock(int(_fields(host.at("/proc/self"))[19]))
    return time.time()


def listeners(host: Host) -> List[Listener]:
    """Return root's processes of sshd that take connections, the oldest first."""
    found = of_sshd(host)
    result = []
    for process in found.values():
        is_raw = bool(_RAW.match(process.words[0]))
        # The title of a session, which may listen for a forward, has a name in place of the path.
        if process.uid != 0 or not (is_raw or _titled(process.title)):
            continue
        sockets, addresses = listening(process.pid, host)
        if sockets:
            program = process.program.replace(_REPLACED, "")
            path, words = (process.words[0], process.words[1:]) if is_raw else _command(process.title, program)
            place = (process.pid, process.parent, process.began)
            known = None if process.program.endswith(_REPLACED) else program
            result.append(Listener(*place, sockets, addresses, known, words, path))
    pids = {listener.pid for listener in result}
    # One that was forked this moment is its parent's twin.
    result = [listener for listener in result if listener.parent not in pids]
    return sorted(result, key=lambda listener: (listener.began, listener.pid))


def _titled(title: str) -> Optional[str]:
    """Return the path in a title as sshd gives itself, which may be a link's, None for another title."""
    titled = re.match(r"[^\s:]+: (/\S+)( |$)", title)
    return titled.group(1) if titled else None


def _is_program(path: str, program: str) -> bool:
    return os.path.realpath(path) == program.replace(_REPLACED, "")


def is_any(host: Host) -> bool:
    """Return whether there is any process of sshd's, be it one that is about to take connections."""
    return bool(of_sshd(host))


def _command(title: str, program: str) -> Tuple[str, Optional[Tuple[str, ...]]]:
    """Return the path and the words that a title has, None for words that may be cut off."""
    whole = _LISTENER.match(title)
    if whole is None:
        return _titled(title) or "", None
    command = whole.group("command")
    # There may be blanks in it.
    path = program if f"{command} ".startswith(f"{program} ") else command.split()[0]
    return path, tuple(command[len(path) :].split())


def of_sshd(host: Host) -> Dict[int, Process]:
    """Return all processes of sshd that are this machine's own, not those of containers on it.

    Raise UnansweredError for a listener that we may not look at.
    """
    proc = host.at("/proc")
    ours = _link(f"{proc}/self/ns/pid")
    found = {}
    for name in os.listdir(proc):
        if not name.isdigit():
            continue
        # It may have ended meanwhile.
        with contextlib.suppress(OSError, ValueError, StopIteration):
            process = _process(name, proc)
            if process and _link(f"{proc}/{name}/ns/pid") == ours:
                found[process.pid] = process
    return found


def seen_otherwise(pid: int, paths: Sequence[str], host: Host) -> List[str]:
    """Return the paths under which a process finds other files than those here, or none: it may be in a chroot."""
    proc = host.at("/proc")

    def view(name: str) -> Tuple[Optional[str], ...]:
        return tuple(_link(f"{proc}/{name}/{kind}") for kind in ("ns/mnt", "root"))

    if view(str(pid)) == view("self"):
        return []
    found = []
    for path in paths:
        with contextlib.suppress(OSError):
            here = os.stat(path)
            try:
                there = os.stat(f"{proc}/{pid}/root{path}")
            except FileNotFoundError:
                found.append(path)
            else:
                if (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino):
                    found.append(path)
    return found


def folder(pid: int, host: Host) -> Optional[str]:
    """Return the working folder of a process, None where that cannot be read."""
    return _link(host.at(f"/proc/{pid}/cwd"))


def _link(path: str) -> Optional[str]:
    with contextlib.suppress(OSError):
        return os.readlink(path)
    return None


def _raise_if_hidden(name: str, proc: str) -> None:
    """Raise UnansweredError for a listener of root's that has more capabilities than we have."""
    words = _words(name, proc)
    if os.stat(f"{proc}/{name}").st_uid == 0 and (_RAW.match(words[0]) or _LISTENER.match(words[0])):
        message = f"process {name} of sshd shows its sockets only to programs with all of its capabilities"
        raise UnansweredError(Problem(message, "run this with CAP_SYS_PTRACE"))


def _words(name: str, proc: str) -> Tuple[str, ...]:
    with open(f"{proc}/{name}/cmdline", encoding="utf-8", errors="surrogateescape") as stream:
        return tuple(stream.read().rstrip("\0").split("\0"))


def _process(name: str, proc: str) -> Optional[Process]:
    try:
        program = os.readlink(f"{proc}/{name}/exe")
    except PermissionError:
        _raise_if_hidden(name, proc)
        raise
    words = _words(name, proc)
    is_sshd = _PROGRAM.match(os.path.basename(program).replace(_REPLACED, ""))
    # A copy may have any name.
    titled = _titled(words[0])
    if not is_sshd and not (titled and _is_program(titled, program)):
        return None
    fields = _fields(f"{proc}/{name}")
    with open(f"{proc}/{name}/status", encoding="utf-8", errors="replace") as stream:
        uid = next(int(line.split()[1]) for line in stream if line.startswith("Uid:"))
    title = " ".join(words).strip()
    return Process(int(name), int(fields[1]), uid, program, title, words, int(fields[19]))


def _fields(folder: str) -> List[str]:
    """Return the fields of proc(5), stat, from the third one on."""
    with open(f"{folder}/stat", encoding="utf-8", errors="replace") as stream:
        # The name of the program may hold anything, all after it are numbers.
        return stream.read().rpartition(")")[2].split()


def is_handed_sockets(pid: int, host: Host) -> bool:
    """Return whether a process was started with the sockets that it listens on; sd_listen_fds(3)."""
    with contextlib.suppress(OSError), open(host.at(f"/proc/{pid}/environ"), "rb") as stream:
        return any(one.startswith(b"LISTEN_FDS=") for one in stream.read().split(b"\0"))
    return False


def listening(pid: int, host: Host) -> Tuple[Tuple[int, ...], Tuple[Tuple[str, int], ...]]:
    """Return the inodes of the sockets that a process listens on, and the addresses of those of TCP."""
    inodes, addresses = set(), set()
    for fields in sockets_of(pid, host):
        if fields[3] == _LISTENS:
            inodes.add(int(fields[9]))
            address, _, port = fields[1].partition(":")
            addresses.add((decoded(address), int(port, 16)))
    return tuple(sorted(inodes)), tuple(sorted(addresses))


def may_listen_on(pid: int, address: str, host: Host) -> bool:
    """Return whether an address is one of those that a process has in its network, which may be another than ours."""
    if ":" in address:
        return socket.inet_pton(socket.AF_INET6, address).hex() in text(host.at(f"/proc/{pid}/net/if_inet6"))
    local = rf"-- {re.escape(address)}\n(?: +/.*\n)*? +/32 host LOCAL$"
    return bool(re.search(local, text(host.at(f"/proc/{pid}/net/fib_trie")), re.MULTILINE))


def sockets_of(pid: int, host: Host) -> Iterator[List[str]]:
    """Yield the fields of each TCP socket that a process has open; none where they cannot be read."""
    proc = host.at("/proc")
    folder = f"{proc}/{pid}/fd"
    open_files: Set[str] = set()
    with contextlib.suppress(OSError):
        open_files = {os.readlink(os.path.join(folder, name)) for name in os.listdir(folder)}
    for table, counts in (("tcp", "sockstat"), ("tcp6", "sockstat6")):
        # To make a table the kernel walks all of a hash, whose size goes with the memory: milliseconds for no line.
        if _NO_SOCKETS.search(text(f"{proc}/{pid}/net/{counts}")):
            continue
        for line in text(f"{proc}/{pid}/net/{table}").splitlines()[1:]:
            fields = line.split()
            if f"socket:[{fields[9]}]" in open_files:
                yield fields


def text(path: str) -> str:
    """Return what a file of /proc says, "" where it cannot be read."""
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as stream:
        return stream.read()
    return ""


def decoded(digits: str) -> str:
    """Return an address that /proc/net shows as words in the machine's own byte order."""
    words = [int(digits[start : start + 8], 16) for start in range(0, len(digits), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


def shown(address: str, port: int) -> str:
    """Return an address and a port as sshd writes them."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def pid_in(file: str) -> Optional[int]:
    """Return the number in a PID file, None if it is none; a pipe is not waited for."""
    if not os.path.isfile(file):
        return None
    try:
        with open(file, "rb") as stream:
            return int(stream.read(100))
    except (OSError, ValueError):
        return None
