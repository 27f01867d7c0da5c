# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""A look at this machine that changes nothing on it."""

import os
from typing import Dict, Iterator, List, Optional, Tuple

from .. import openssh, policy, sshd_config, tmout
from ..openssh import Settings
from ..policy import Policy, PolicyError
from . import audit, files, inspection, instance, processes, record, servers, shells, state
from .host import Host
from .problem import Problem, SshdError
from .questions import Questions
from .servers import Server
from .sessions import Session, sessions
from .state import State

_APPLY = "correct that, then ssh-keepalive apply FILE"
_REAPPLY = "ssh-keepalive reapply"


def status(host: Host, root: str = "/") -> State:
    """Return the state of a machine."""
    host.spend_reserve()
    try:
        text = files.text(files.policy_file(host))
        request = instance.request(root)
        unregistered, problems, notes = _registration(root)
    except PermissionError as error:
        return State(state.UNKNOWN, (Problem(f"{error.filename}: {error.strerror}", "ask as root"),))
    if text is None:
        found = State(state.NOT_CONFIGURED, request=request, problems=tuple(_not_done(host, request)))
    else:
        found = _inspect(text, request, host)
        failure = request.failure
        # What was applied later, by hand, is as it was expected.
        is_other = not found.problems and not found.is_as_requested
        if failure and is_other and failure.at > os.stat(files.policy_file(host)).st_mtime:
            message = f"cloud-init's configuration was refused, this is an older policy: {failure.reason}"
            found = found._replace(problems=(Problem(message, _APPLY),))
    healthy = (state.ENFORCED, state.NOT_CONFIGURED)
    if found.problems and found.verdict in healthy:
        found = found._replace(verdict=state.NOT_ENFORCED)
    elif problems and found.verdict in healthy:
        found = found._replace(verdict=state.NOT_REGISTERED)
    return found._replace(
        problems=(*found.problems, *problems), notes=(*found.notes, *notes), unregistered=unregistered
    )


def note(host: Host) -> None:
    """Note which servers have read the policy as it is now, while that can be told: others may change files later.

    Raise PolicyError or SshdError if that cannot be found out.
    """
    with files.exclusive(host):
        _note(host)


def _note(host: Host) -> None:
    text = files.text(files.policy_file(host))
    policy_in_force = sshd_config.read_policy(text) if text else None
    if policy_in_force is None:
        return
    questions = Questions(host, prepares=False)
    known = servers.find(host)
    settings = audit.translated(policy_in_force, servers.primary(known, host), questions)
    found: Dict[str, audit.Audit] = {}
    for server in known:
        if record.key(server) not in found:
            found[record.key(server)] = audit.audit(server, settings, questions, host)
    audit.note(list(found.values()), known, (), host)


def image_status(root: str) -> State:
    """Return the state of an image; raise ImageError if it has no cloud-init that could run the module."""
    unregistered, problems, notes = _unregistered(root)
    verdict = state.NOT_REGISTERED if problems else state.REGISTERED
    return State(verdict, tuple(problems), tuple(notes), unregistered=unregistered)


def unknown(error: Exception) -> State:
    """Return the state of what could not be looked at."""
    remedy = "correct that, then ssh-keepalive status"
    problems = error.remedied(remedy) if isinstance(error, SshdError) else (Problem(str(error), remedy),)
    return State(state.UNKNOWN, problems)


def _registration(root: str) -> Tuple[Optional[Tuple[str, ...]], List[Problem], List[str]]:
    from ..image import registration
    from ..image.root import ImageError, Root

    if not registration.has_cloud_init(Root(root)):
        return None, [], ["no cloud-init here that would run the module"]
    try:
        return _unregistered(root)
    except ImageError as error:
        message = f"cloud-init may not run the module: {error}"
        return None, [Problem(message, "correct that, then ssh-keepalive register")], []


def _unregistered(root: str) -> Tuple[Tuple[str, ...], List[Problem], List[str]]:
    from ..image import registration
    from ..image.root import Root

    found = registration.status(Root(root))
    of_root = "" if os.path.realpath(root) == "/" else f" --root {root}"
    if found.missing:
        message = f"the module is not installed, there is no {found.missing}"
        return (found.missing, *found.changed), [Problem(message, "ssh-keepalive install" + of_root)], list(found.notes)
    remedy = "ssh-keepalive register" + of_root
    problems = [Problem(f"{file} is not as it was registered", remedy) for file in found.changed]
    return found.changed, problems, list(found.notes)


def _not_done(host: Host, request: instance.Request) -> List[Problem]:
    """Return the problem of a policy that cloud-init's configuration asks for, and that is not there."""
    try:
        asked = policy.parse(request.section)
    except PolicyError as error:
        return [_refusal(request, error)]
    if asked is None or not asked.enabled:
        return []
    message = f"{', '.join(request.sources)} asks for a policy, and there is no {files.policy_file(host)}"
    if request.failure:
        message += f": {request.failure.reason}"
    return [Problem(message, _APPLY)]


def _refusal(request: instance.Request, error: PolicyError) -> Problem:
    return Problem(f"{', '.join(request.sources)} asks for what is refused: {error}", _APPLY)


def _inspect(text: str, request: instance.Request, host: Host) -> State:
    found = State(state.ENFORCED, request=request)
    written = sshd_config.read_policy(text)
    if written is None:
        message = f"{files.policy_file(host)} has no policy line that can be read"
        return found._replace(problems=(Problem(message, "ssh-keepalive apply FILE"),))
    found = found._replace(policy=written, is_as_requested=_is_asked(request, written))
    questions = Questions(host, prepares=False)
    try:
        known = servers.find(host)
        server = servers.primary(known, host)
        found = found._replace(version=questions.version(server))
        settings = audit.translated(written, server, questions)
    except PolicyError as error:
        remedy = "ssh-keepalive apply FILE, with a policy that it can enforce"
        return found._replace(problems=(Problem(str(error), remedy),))
    except SshdError as error:
        return unknown(error)._replace(request=request, policy=written)
    findings = inspection.inspect(known, text, settings, questions, host)
    problems = [*findings.problems, *_profile_problems(settings, host), *_refused(request, server, questions)]
    if findings.unknowns and not problems:
        found = found._replace(verdict=state.UNKNOWN)
    return found._replace(
        settings=settings,
        promise=openssh.promise(settings),
        problems=(*problems, *findings.unknowns),
        notes=tuple(findings.notes),
        deviations=tuple(findings.deviations),
        servers=tuple(findings.servers),
        older_sessions=tuple(_older_sessions(findings, host)),
    )


def _profile_problems(settings: Settings, host: Host) -> List[Problem]:
    file = files.profile(host).path
    now = files.text(file)
    is_as_written = now is None
    if settings.tmout:
        is_as_written = now is not None and sshd_config.is_same(now, tmout.render(settings.tmout))
    if not is_as_written:
        return [Problem(f"{file} is not as it was written", _REAPPLY)]
    wrong = shells.tmout_problem(settings.tmout, host) if settings.tmout else None
    return [wrong] if wrong else []


def _older_sessions(findings: inspection.Findings, host: Host) -> Iterator[Session]:
    """Yield the sessions that may have begun with other settings: an sshd hands on what it has read last."""
    unread = any(server.has_read is False for server in findings.servers)
    # One that began before the change has read it at its reload; what it had begun until then is older, too.
    reloaded = {
        listener.pid: at
        for listener, at in findings.read.items()
        if processes.on_the_clock(listener.began) < findings.changed
    }
    for session in sessions(host) if findings.servers else ():
        changed = max(findings.changed, reloaded.get(session.parent, 0.0))
        if unread or processes.on_the_clock(session.began) < changed:
            yield session


def _refused(request: instance.Request, server: Server, questions: Questions) -> List[Problem]:
    """Return why what cloud-init's configuration asks for is not in effect: this sshd cannot, or nobody could."""
    try:
        asked = policy.parse(request.section)
        if asked and asked.enabled:
            audit.translated(asked, server, questions)
    except PolicyError as error:
        return [_refusal(request, error)]
    return []


def _is_asked(request: instance.Request, written: Policy) -> bool:
    try:
        return policy.parse(request.section) == written
    except PolicyError:
        return False
