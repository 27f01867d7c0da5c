# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The state of a machine in words, and as JSON."""

import datetime
import json
from typing import Any, Dict, List

from ..openssh import Directives
from ..sshd_config import criterion
from . import processes
from .state import NOT_REGISTERED, REGISTERED, State

# 250 match entries of one pattern with all that one can have fit
_MOST_VALUES = 2500
# 250 patterns fit
_LONGEST_SECTION = 20000
_DEVIATION = ("keyword", "expected", "reported", "connections", "set_by")


def as_text(state: State) -> str:
    """Return a state in lines, the verdict and what is to be done first."""
    verdict = state.verdict.replace("-", " ")
    about = state.problems[0].message if state.problems else state.promise
    lines = [f"{verdict}: {about}" if about else verdict]
    for position, problem in enumerate(state.problems):
        if position:
            lines.append(f"problem: {problem.message}")
        lines.append(f"remedy: {problem.remedy}")
    if state.verdict == NOT_REGISTERED and state.promise:
        lines.append(f"enforced: {state.promise}")
    if state.policy:
        lines.append(f"policy: {_section(state.policy.section())}")
    lines += _origin(state)
    if state.version:
        lines.append("openssh: {}.{}".format(*state.version))
    if state.settings:
        lines.append(f"expected: {_directives(state.settings.directives)}")
        for entry, directives in state.settings.blocks:
            lines.append(f"expected for {criterion(entry)}: {_directives(directives)}")
    lines += _servers(state)
    is_listed = state.unregistered == () and not (state.request and state.request.unlisted)
    if is_listed and state.verdict != REGISTERED:
        lines.append("registered: cloud-init runs the module")
    return "\n".join(lines + [f"note: {note}" for note in state.notes])


def _origin(state: State) -> List[str]:
    lines = []
    if state.policy:
        by = ["ssh-keepalive apply", "or earlier user-data"]
        if state.request and state.is_as_requested:
            by = list(state.request.sources)
        lines.append(f"asked by: {', '.join(by)}")
    if state.request and state.request.section is not None and not state.is_as_requested:
        sources = ", ".join(state.request.sources)
        lines.append(f"cloud-init's configuration: {_section(state.request.section)} by {sources}")
    return lines


def _servers(state: State) -> List[str]:
    lines = []
    for server in state.servers:
        if server.pid is None:
            lines.append(f"sshd: {server.name} does not run, it reads the configuration as it is when it starts")
        elif server.has_read:
            lines.append(f"sshd: {server.name} has read the configuration as it is now")
        elif server.has_read is None:
            changed = f", {', '.join(server.changed)} may have changed since" if server.changed else ""
            lines.append(f"sshd: what {server.name} has read is not known{changed}")
        else:
            lines.append(f"sshd: {server.name} has read the configuration before {', '.join(server.changed)} changed")
    for session in state.older_sessions:
        address = f" from {session.address}" if session.address else ""
        since = _time(processes.on_the_clock(session.began))
        lines.append(f"older settings: {session.user}, process {session.pid}{address}, since {since}")
    return lines


def as_json(state: State) -> Dict[str, Any]:
    """Return a state as schema/status.schema.json has it."""
    request, settings = state.request, state.settings
    return {
        "verdict": state.verdict,
        "problems": [problem._asdict() for problem in state.problems],
        "notes": list(state.notes),
        "policy": state.policy.section() if state.policy else None,
        "request": (
            {
                "section": _as_json(request.section),
                "sources": list(request.sources),
                "is_policy": state.is_as_requested,
                "runs_module": not request.unlisted,
            }
            if request
            else None
        ),
        "openssh": "{}.{}".format(*state.version) if state.version else None,
        "expected": dict(settings.directives) if settings else None,
        "expected_in_match": (
            [{"match": criterion(entry), "expected": dict(found)} for entry, found in settings.blocks]
            if settings
            else None
        ),
        "deviations": [dict(zip(_DEVIATION, deviation)) for deviation in state.deviations],
        "servers": [
            {**server._asdict(), "addresses": list(server.addresses), "changed": list(server.changed)}
            for server in state.servers
        ],
        "older_sessions": [
            {
                "user": one.user,
                "pid": one.pid,
                "address": one.address,
                "since": _time(processes.on_the_clock(one.began)),
            }
            for one in state.older_sessions
        ],
        "unregistered": None if state.unregistered is None else list(state.unregistered),
    }


def _directives(directives: Directives) -> str:
    return ", ".join(f"{keyword} {value}" for keyword, value in directives) or "nothing"


def _section(section: Any) -> str:
    shown = json.dumps(_as_json(section), sort_keys=True)
    return shown if len(shown) <= _LONGEST_SECTION else shown[:_LONGEST_SECTION] + "..."


def _as_json(section: Any) -> Any:
    """Return a section, which may hold what YAML knows and JSON does not, such as a date.

    YAML's aliases may have it hold more than there is memory for: what is too much is left out.
    """
    return json.loads(json.dumps(_bounded(section, [_MOST_VALUES]), default=str, skipkeys=True))


def _bounded(value: Any, left: List[int]) -> Any:
    left[0] -= 1
    if left[0] < 0:
        return "..."
    if isinstance(value, dict):
        return {key: _bounded(item, left) for key, item in value.items() if left[0] >= 0}
    if isinstance(value, (list, tuple, set)):
        return [_bounded(item, left) for item in value if left[0] >= 0]
    return value


def _time(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(int(seconds), datetime.timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
