# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The sessions that sshd serves, as its processes show them."""

import re
from typing import List, NamedTuple, Optional

from . import processes
from .host import Host

# Who is served: `sshd: root@pts/0`, `sshd: root` without a terminal or command, and `[priv]` (from 10.6 on
# `[postauth]`) where another process of the user's own serves. Others ([accepted], [net]) have not logged in.
_SERVED = re.compile(
    rf"sshd(?:-session)?{processes.FLAVOUR}: "
    r"(?P<user>[^\s@\[\]]+)(?:@\S+)?(?P<watches> \[(?:priv|postauth)\])?$"
)
# proc_net(5)
_ESTABLISHED = "01"


class Session(NamedTuple):
    """Name an open session by the process to end; it began, in ticks since the boot, when the client connected."""

    user: str
    pid: int
    parent: int
    address: Optional[str]
    began: int


def sessions(host: Host) -> List[Session]:
    """Return the sessions of all who have logged in, the oldest first."""
    found = processes.of_sshd(host)
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
        address = _client_address(process.pid, host)
        result.append(Session(served.group("user"), process.pid, process.parent, address, process.began))
    return sorted(result, key=lambda session: (session.began, session.pid))


def _client_address(pid: int, host: Host) -> Optional[str]:
    """Return from where the connection of a process comes, None where that does not show."""
    for fields in processes.sockets_of(pid, host):
        if fields[3] == _ESTABLISHED:
            shown = processes.decoded(fields[2].split(":")[0])
            return shown[len("::ffff:") :] if re.match(r"::ffff:[0-9.]+$", shown) else shown
    return None
