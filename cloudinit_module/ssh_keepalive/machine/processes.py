# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The processes of sshd, as /proc shows them."""

import os
import re
import socket
import struct
import time
from typing import Dict, List, NamedTuple, Optional

# The boot's seconds; time.CLOCK_BOOTTIME is there from Python 3.7 on.
_CLOCK_BOOTTIME = 7
# Who is served: `sshd: root@pts/0`, `sshd: root` without a terminal or command, and `[priv]` (from 10.6 on
# `[postauth]`) where another process of the user's own serves. Others ([accepted], [net]) have not logged in.
_SERVED = re.compile(r"sshd(?:-session)?: (?P<user>[^\s@\[\]]+)(?:@\S+)?(?P<watches> \[(?:priv|postauth)\])?$")


class Listener(NamedTuple):
    """Name the sshd that takes connections; times are seconds since the epoch.

    It began once, and has read its configuration then and at each reload, last at `read`.
    """

    pid: int
    began: float
    read: float


class Session(NamedTuple):
    """Name an open session by the process to end; it began, in seconds since the epoch, when the client connected."""

    user: str
    pid: int
    parent: int
    address: Optional[str]
    began: float


class _Process(NamedTuple):
    pid: int
    parent: int
    uid: int
    title: str
    began: float


def listener(pid_file: Optional[str], proc: str = "/proc") -> Optional[Listener]:
    """Return the sshd that takes connections; None without one, as where a socket unit starts one for each.

    sshd writes its PidFile after it has read its configuration, at each reload too. Files are compared with that time,
    since it was taken from the same clock as theirs: it is not moved when the clock is set later.
    """
    found = _processes(proc)
    if pid_file:
        try:
            with open(pid_file, encoding="ascii") as stream:
                pid = int(stream.read())
            read = os.stat(pid_file).st_mtime
        except (OSError, ValueError):
            pass
        else:
            if pid in found:
                return Listener(pid, found[pid].began, read)
    candidates = [process for process in found.values() if "[listener]" in process.title]
    oldest = min(candidates, key=lambda process: process.began, default=None)
    return Listener(oldest.pid, oldest.began, oldest.began) if oldest else None


def sessions(proc: str = "/proc") -> List[Session]:
    """Return the sessions of all who have logged in, the oldest first."""
    found = _processes(proc)
    result = []
    for process in found.values():
        served = _SERVED.match(process.title)
        parent = found.get(process.parent)
        if not served or process.uid != 0 or (parent and _SERVED.match(parent.title)):
            continue
        helpers = [other.title for other in found.values() if other.parent == process.pid]
        # Before the login they are called after a user as well, and have a helper for it.
        if served.group("watches") and not any(_SERVED.match(title) for title in helpers):
            continue
        address = _address(process.pid, proc)
        result.append(Session(served.group("user"), process.pid, process.parent, address, process.began))
    return sorted(result, key=lambda session: (session.began, session.pid))


def _processes(proc: str) -> Dict[int, _Process]:
    """Return all processes of sshd that are this machine's own, not those of containers on it."""
    ours = _namespace("self", proc)
    booted = time.time() - time.clock_gettime(_CLOCK_BOOTTIME)
    found = {}
    for name in os.listdir(proc):
        if not name.isdigit():
            continue
        try:
            process = _process(name, proc, booted)
            if process and _namespace(name, proc) == ours:
                found[process.pid] = process
        except (OSError, ValueError):
            # It has ended meanwhile.
            continue
    return found


def _process(name: str, proc: str, booted: float) -> Optional[_Process]:
    # After an upgrade the link ends in " (deleted)".
    program = os.path.basename(os.readlink("{}/{}/exe".format(proc, name)).split(" ")[0])
    if program not in ("sshd", "sshd-session", "sshd-auth"):
        return None
    with open("{}/{}/stat".format(proc, name), encoding="utf-8", errors="replace") as stream:
        # proc(5): the name of the program may hold anything, all after it are numbers.
        fields = stream.read().rpartition(")")[2].split()
    with open("{}/{}/cmdline".format(proc, name), encoding="utf-8", errors="replace") as stream:
        title = stream.read().replace("\0", " ").strip()
    with open("{}/{}/status".format(proc, name), encoding="utf-8", errors="replace") as stream:
        uid = next(int(line.split()[1]) for line in stream if line.startswith("Uid:"))
    began = booted + int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return _Process(int(name), int(fields[1]), uid, title, began)


def _namespace(name: str, proc: str) -> Optional[str]:
    try:
        return os.readlink("{}/{}/ns/pid".format(proc, name))
    except FileNotFoundError:
        return None


def _address(pid: int, proc: str) -> Optional[str]:
    """Return from where the connection of a process comes, None where that does not show."""
    folder = "{}/{}/fd".format(proc, pid)
    try:
        open_files = {os.readlink(os.path.join(folder, name)) for name in os.listdir(folder)}
        for table in ("tcp", "tcp6"):
            with open("{}/{}/net/{}".format(proc, pid, table), encoding="ascii") as stream:
                for line in stream.readlines()[1:]:
                    fields = line.split()
                    # proc_net(5); 01 is an established connection.
                    if fields[3] == "01" and "socket:[{}]".format(fields[9]) in open_files:
                        return _decoded(fields[2].split(":")[0])
    except OSError:
        pass
    return None


def _decoded(digits: str) -> str:
    """Return an address that /proc/net shows as words in the machine's own byte order."""
    words = [int(digits[start : start + 8], 16) for start in range(0, len(digits), 8)]
    packed = struct.pack("={}I".format(len(words)), *words)
    if len(packed) == 4:
        return socket.inet_ntop(socket.AF_INET, packed)
    shown = socket.inet_ntop(socket.AF_INET6, packed)
    return shown[len("::ffff:") :] if re.match(r"::ffff:[0-9.]+$", shown) else shown
