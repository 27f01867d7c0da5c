# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""What a server reports, held against what it is expected to."""

import re
import shlex
from typing import Dict, List, NamedTuple, Optional, Tuple

from .. import openssh, paths
from ..openssh import Connection, Directives, Settings
from . import trace
from .problem import Problem
from .questions import Reply
from .servers import Server

# sshd -T says yes and no up to 10.5, true and false from 10.6 on, and none for a time-out of 0.
_SAME = {"true": "yes", "false": "no", "none": "0"}


class Mismatch(NamedTuple):
    """Tell a value that sshd reports (None: it reports none) from the expected one."""

    keyword: str
    expected: str
    reported: Optional[str]


class Deviation(NamedTuple):
    """Hold a value that sshd reports and that is not the expected one.

    `connections` says for whom, "" for all; `set_by` is FILE:LINE, or the option that sshd was started with, and
    `matches` are the Match lines that fit whom it was asked about, or the one that the line is in, where that is known.
    """

    keyword: str
    expected: str
    reported: Optional[str]
    connections: str
    set_by: Optional[str]
    matches: Tuple[str, ...] = ()

    @property
    def key(self) -> Tuple[Optional[str], ...]:
        """Return what it has in common with the same deviation for somebody else."""
        return (self.keyword, self.expected, self.reported, self.set_by)

    @property
    def file(self) -> str:
        """Return the file whose line sets the value, "" for none."""
        return (self.set_by or "").rpartition(":")[0]

    @property
    def is_by_option(self) -> bool:
        """Return whether sshd was started with the value."""
        return bool(self.set_by) and str(self.set_by).startswith("-o ")

    def is_for(self, user: str) -> bool:
        """Return whether a Match that names a user, or the group of that name, may set it, and nothing for others."""
        criteria = [one for match in self.matches for one in trace.criteria(match)]
        return any(criterion in ("user", "group") and user in patterns for criterion, patterns in criteria)

    @property
    def message(self) -> str:
        """Return it in words."""
        if self.reported is None:
            return f"sshd -T does not report {self.keyword}, {self.expected} is expected{self.connections}"
        return f"{self.keyword} is {self.reported} where {self.expected} is expected{self.connections}"


def reported(values: str) -> Dict[str, List[str]]:
    """Return what `sshd -T` says by keyword in lower case: it prints CamelCase from 10.4 on."""
    found: Dict[str, List[str]] = {}
    for line in values.split("\n"):
        keyword, _, value = line.strip().partition(" ")
        found.setdefault(keyword.lower(), []).append(value)
    return found


def mismatches(directives: Directives, values: str) -> List[Mismatch]:
    """Return the directives that the output of `sshd -T` does not bear out."""
    said = {keyword: found[0] for keyword, found in reported(values).items()}
    found = [Mismatch(keyword, expected, said.get(keyword.lower())) for keyword, expected in directives]
    return [one for one in found if one.reported is None or _SAME.get(one.reported, one.reported) != one.expected]


def is_as_expected(settings: Settings, connection: Connection, reply: Reply) -> bool:
    """Return whether a reply about a connection bears out what is expected for that."""
    return not _wrong(settings, connection, reply)


def _wrong(settings: Settings, connection: Connection, reply: Reply) -> List[Mismatch]:
    expected = openssh.expected(settings, connection) if reply.about else settings.directives
    return mismatches(expected, reply.values)


def deviations(
    server: Server, settings: Settings, connection: Connection, reply: Reply, main: str, ours: Tuple[str, ...]
) -> List[Deviation]:
    """Return where a traced reply about a connection deviates; `main` is the file that was read as the main one.

    `ours` are the files in which our own lines are.
    """
    about = ""
    if (connection.user, connection.address) != (openssh.NOBODY.user, openssh.NOBODY.address):
        about = f" for user {connection.user} from {connection.address}"
    options: Dict[str, Tuple[str, str]] = {}
    for option in (server.arguments.settings() if server.arguments else {}).items():
        options.setdefault(openssh.canonical(option[0]), option)
    wrong = _wrong(settings, connection, reply)
    if not wrong:
        return []
    matches = tuple(match for match, fits in trace.matches(reply.trace) if fits)
    found = []
    for mismatch in wrong:
        keyword = mismatch.keyword
        if openssh.canonical(keyword) in options:
            line, (name, value) = None, options[openssh.canonical(keyword)]
            place: Optional[str] = f"-o {keyword if name == keyword.lower() else name}={value}"
        else:
            line = trace.effective(keyword, reply.trace, main)
            place = line and line.place
            if line and line.value == mismatch.expected:
                # Only an option overrides the line that sets it, such as one that a wrapper adds.
                place = f"-o {keyword}={mismatch.reported}"
            if keyword == "ChannelTimeout" and not openssh.has(settings.version, "channel-timeout-in-match"):
                # In a Match of somebody's it is printed and does nothing.
                of_all = trace.effective(keyword, trace.globals_pass(reply.trace), main)
                if of_all != line and of_all and of_all.place.rpartition(":")[0] in ours:
                    continue
        around = line and trace.match_around(line.place, reply.trace, main)
        found.append(Deviation(*mismatch, about, place, (around,) if around else matches))
    return found


def problem(deviation: Deviation, server: Server) -> Problem:
    """Return what a value means that an option or a line of somebody else's sets."""
    is_own = server.service.partition(".")[0] in ("ssh", "sshd")
    remedy = "remove that line and restart sshd" if is_own else f"remove that line, then {server.restart_command}"
    if deviation.reported is None:
        return Problem(deviation.message, "use an OpenSSH that does")
    if deviation.set_by is None:
        return Problem(f"{deviation.message}, no line sets it", server.restart_command)
    if deviation.is_by_option:
        message = f"{deviation.message}, sshd is started with {deviation.set_by}, which overrides it"
        return Problem(message, _option_remedy(server))
    # Nobody is named by the address that sshd listens on.
    if deviation.connections and not re.match(" for Match .*local", deviation.connections, re.IGNORECASE):
        remedy += ", or name whom it is for in ssh_keepalive.match"
    return Problem(f"{deviation.message}, {deviation.set_by} overrides it", remedy)


def _option_remedy(server: Server) -> str:
    if server.unit is None:
        return f"remove that from its command line ({', '.join(paths.SSHD_DEFAULTS)}), and restart it"
    # What the unit's files are, that command tells.
    places = " or ".join((f"systemctl cat {shlex.quote(server.unit.name)}", *server.unit.files))
    return f"remove that, {places} shows it, then systemctl restart {shlex.quote(server.unit.name)}"
