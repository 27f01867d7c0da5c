# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The state of a machine's policy: what was asked, what is so, and what is to be done about the difference."""

import datetime
import json
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from .dropin import criterion
from .instance import Request
from .openssh import Directives, Expression, Version
from .policy import Policy
from .processes import Listener, Session

KEPT = "kept"
NOT_KEPT = "not-kept"
# sshd keeps it, or nothing is asked of it; cloud-init would not run the module on a next instance.
NOT_REGISTERED = "not-registered"
NOTHING_ASKED = "nothing-asked"
UNKNOWN = "cannot-tell"
# An image has no sshd that runs.
REGISTERED = "registered"

_EXIT_CODES = {KEPT: 0, NOTHING_ASKED: 0, REGISTERED: 0, NOT_KEPT: 1, NOT_REGISTERED: 1, UNKNOWN: 2}


class Problem(NamedTuple):
    """Say what is not as it was asked, and what to do about it."""

    message: str
    remedy: str


class Deviation(NamedTuple):
    """Tell a value of sshd's that is not the wanted one; `connections` says for whom, "" for all."""

    keyword: str
    wanted: str
    reported: Optional[str]
    connections: str
    set_by: Optional[str]


class State(NamedTuple):
    """Hold what was found; what is None or empty was not found, or not looked for."""

    verdict: str
    problems: Tuple[Problem, ...] = ()
    notes: Tuple[str, ...] = ()
    policy: Optional[Policy] = None
    request: Optional[Request] = None
    is_as_requested: bool = False
    version: Optional[Version] = None
    expression: Optional[Expression] = None
    promise: str = ""
    deviations: Tuple[Deviation, ...] = ()
    listener: Optional[Listener] = None
    unread: Optional[str] = None
    older_sessions: Tuple[Session, ...] = ()
    was_sshd_looked_for: bool = False
    unregistered: Optional[Tuple[str, ...]] = None

    @property
    def exit_code(self) -> int:
        """Return 0 for all is well, 1 for something is to be done, 2 for it cannot be told."""
        return _EXIT_CODES[self.verdict]

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> List[str]:
        verdict = self.verdict.replace("-", " ")
        about = self.problems[0].message if self.problems else self.promise
        lines = ["{}: {}".format(verdict, about) if about else verdict]
        for position, problem in enumerate(self.problems):
            if position:
                lines.append("problem: {}".format(problem.message))
            lines.append("remedy: {}".format(problem.remedy))
        if self.policy:
            lines.append("asked: {}".format(_section(self.policy.section())))
        lines += self._origin()
        if self.version:
            lines.append("openssh: {}.{}".format(*self.version))
        if self.expression:
            lines.append("wanted: {}".format(_shown(self.expression.directives)))
            for entry, directives in self.expression.blocks:
                lines.append("wanted for {}: {}".format(criterion(entry), _shown(directives)))
        lines += self._running()
        if self.unregistered == () and self.verdict != REGISTERED:
            lines.append("registered: cloud-init runs the module")
        return lines + ["note: {}".format(note) for note in self.notes]

    def _origin(self) -> List[str]:
        lines = []
        if self.policy:
            by = ["ssh-keepalive apply", "or an earlier instance"]
            if self.request and self.is_as_requested:
                by = list(self.request.sources)
            lines.append("asked by: {}".format(", ".join(by)))
        if self.request and self.request.section is not None and not self.is_as_requested:
            asked = _section(self.request.section), ", ".join(self.request.sources)
            lines.append("cloud-init's configuration: {} by {}".format(*asked))
        return lines

    def _running(self) -> List[str]:
        lines = []
        if self.listener:
            when = "before {} changed".format(self.unread) if self.unread else "as it is now"
            said = "sshd: process {} has read its configuration at {}, {}"
            lines.append(said.format(self.listener.pid, _time(self.listener.read), when))
        elif self.was_sshd_looked_for:
            lines.append("sshd: none listens, one that starts reads the configuration as it is now")
        for session in self.older_sessions:
            lines.append(
                "older settings: {}, process {}{}, since {}".format(
                    session.user,
                    session.pid,
                    " from {}".format(session.address) if session.address else "",
                    _time(session.began),
                )
            )
        return lines

    def as_json(self) -> Dict[str, Any]:
        """Return the state as schema/status.schema.json has it."""
        return {
            "verdict": self.verdict,
            "problems": [problem._asdict() for problem in self.problems],
            "notes": list(self.notes),
            "policy": self.policy.section() if self.policy else None,
            "request": (
                {
                    "section": _plain(self.request.section),
                    "sources": list(self.request.sources),
                    "is_policy": self.is_as_requested,
                }
                if self.request
                else None
            ),
            "openssh": "{}.{}".format(*self.version) if self.version else None,
            "wanted": dict(self.expression.directives) if self.expression else None,
            "wanted_in_match": (
                [{"match": criterion(entry), "wanted": dict(found)} for entry, found in self.expression.blocks]
                if self.expression
                else None
            ),
            "deviations": [deviation._asdict() for deviation in self.deviations],
            "sshd": (
                {"pid": self.listener.pid, "has_read": not self.unread, "read": _time(self.listener.read)}
                if self.listener
                else None
            ),
            "older_sessions": [
                {"user": one.user, "pid": one.pid, "address": one.address, "since": _time(one.began)}
                for one in self.older_sessions
            ],
            "unregistered": None if self.unregistered is None else list(self.unregistered),
        }


def has_older_settings(session: Session, listener: Optional[Listener], changed: float, unread: bool) -> bool:
    """Return whether a session got its settings before files changed; times are seconds since the epoch.

    An sshd hands on what it has read last. One that began before the change has read it at its reload; one that is gone
    is taken to have been restarted with the change, as the module does it.
    """
    if unread or session.began < changed:
        return True
    if listener is None or session.parent != listener.pid:
        return False
    return listener.began < changed and session.began < listener.read


def _shown(directives: Directives) -> str:
    return ", ".join("{} {}".format(*directive) for directive in directives) or "nothing"


def _section(section: Any) -> str:
    return json.dumps(_plain(section), sort_keys=True)


def _plain(section: Any) -> Any:
    """Return a section, which may hold what YAML knows and JSON does not, such as a date."""
    return json.loads(json.dumps(section, default=str, skipkeys=True))


def _time(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(int(seconds), datetime.timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
