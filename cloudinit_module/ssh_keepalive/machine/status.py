# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""A look at this machine that changes nothing on it."""

import contextlib
import os
from typing import TYPE_CHECKING, Dict, Iterator, List, Optional, Tuple

from .. import openssh, policy, sshd_config, tmout
from ..openssh import Settings
from ..paths import MODULE
from ..policy import Policy, PolicyError
from . import audit, files, inspection, instance, processes, record, servers, shells, state
from .host import Host
from .judgement import unread
from .problem import REAPPLY, RUN_AGAIN, Problem, SshdError
from .questions import Questions
from .servers import Server
from .sessions import Session, sessions
from .state import State

if TYPE_CHECKING:
    from .misreading import Misreading

_APPLY = "ssh-keepalive apply FILE, with a policy that it can enforce"
_INSTALL = "ssh-keepalive install"
_INSTALL_AGAIN = "install cloud-init-ssh-keepalive again"
_HEALTHY = (state.ENFORCED, state.NOT_CONFIGURED)


def status(host: Host) -> State:
    """Return the state of a machine."""
    host.spend_reserve()
    try:
        found = _state(host)
        image = _registration(host)
    except PermissionError as error:
        return State(state.UNKNOWN, (Problem(f"{error.filename}: {error.strerror}", "ask as root"),))
    if image.problems and found.verdict in _HEALTHY:
        found = found._replace(verdict=image.verdict)
    # What is not installed cannot be run.
    is_missing = any(problem.remedy.startswith(_INSTALL) for problem in image.problems)
    ordered = (*image.problems, *found.problems) if is_missing else (*found.problems, *image.problems)
    return found._replace(problems=ordered, notes=(*found.notes, *image.notes), unregistered=image.unregistered)


def note(host: Host) -> State:
    """Note which servers have read the policy as it is now, while that can be told: others may change files later.

    Return the state of the machine, in which nothing but the verdict is told where all is as it was asked for.
    """
    with contextlib.suppress(PolicyError, SshdError), files.exclusive(host):
        enforced = _note(host)
        request = instance.request(host)
        if enforced and not request.misreadings and _is_asked(request, enforced):
            return State(state.ENFORCED)
    return _state(host)


def _note(host: Host) -> Optional[Policy]:
    """Return the policy that each server has read and enforces, None for none or if that takes a closer look."""
    text = files.text(files.policy_file(host))
    enforced = sshd_config.read_policy(text) if text else None
    if enforced is None:
        return None
    questions = Questions(host, prepares=False)
    known = servers.settled(host)
    settings = audit.translated(enforced, servers.primary(known, host), questions)
    found: Dict[str, audit.Audit] = {}
    for server in known:
        if record.key(server) not in found:
            found[record.key(server)] = audit.audit(server, settings, questions, host)
    audit.note(list(found.values()), known, (), host)
    noted = record.load(host)
    audits = [found[record.key(server)]._replace(server=server) for server in known]
    # For TMOUT a shell is to be asked.
    return None if settings.tmout or not all(inspection.is_plain(one, noted, host) for one in audits) else enforced


def _state(host: Host) -> State:
    """Return the state of a machine, whatever cloud-init would do with a next instance."""
    text = files.text(files.policy_file(host))
    request = instance.request(host)
    if text is None:
        found = State(
            state.NOT_CONFIGURED, request=request, problems=(*_not_done(request, host), *_still_enforced(host))
        )
        is_by_hand = False
    else:
        found = _inspect(text, request, host)
        is_by_hand = _is_by_hand(found, host)
        failure, has_run = request.failure, instance.has_run(host)
        # What was applied later, by hand, is as it was expected.
        is_other = not found.problems and not found.is_as_requested
        if failure and is_other and failure.at > os.stat(files.policy_file(host)).st_mtime:
            message = f"cloud-init's configuration was refused, this is an older policy: {failure.reason}"
            found = found._replace(problems=(Problem(message, f"correct that, then {RUN_AGAIN}"),))
        elif is_other and _asked(request)[0] and not is_by_hand and (not has_run or instance.began(host)):
            why = "this one is from before this instance" if has_run else _why_not_run(request)
            message = f"{', '.join(request.sources)} asks for another policy: {why}"
            found = found._replace(problems=(Problem(message, RUN_AGAIN),))
    ignored = [one for one in request.misreadings if _is_missed(one, found, is_by_hand)]
    certain = [_ignored(one) for one in ignored if one.certain]
    uncertain = [_ignored(one) for one in ignored if not one.certain]
    notes = [_ignored(one).message for one in request.misreadings if one not in ignored]
    if request.unlisted:
        notes.append(f"{request.unlisted}, cloud-init does not run it on this instance")
    # The first one is the reason for the verdict.
    problems = (*certain, *found.problems) if found.verdict == state.UNKNOWN else (*found.problems, *certain)
    if certain or (found.verdict in _HEALTHY and problems):
        found = found._replace(verdict=state.NOT_ENFORCED)
    elif found.verdict in _HEALTHY and uncertain:
        found = found._replace(verdict=state.UNKNOWN)
    return found._replace(problems=(*problems, *uncertain), notes=(*found.notes, *notes))


def _is_missed(misreading: "Misreading", found: State, is_by_hand: bool) -> bool:
    """Return whether a section that cloud-init has ignored would make a difference."""
    if found.request and "user-data" in found.request.sources:
        # It overrides what is ignored of vendor-data.
        return False
    if found.policy is None:
        return misreading.policy is None or misreading.policy.enabled
    return misreading.policy != found.policy and not is_by_hand


def _is_by_hand(found: State, host: Host) -> bool:
    """Return whether a policy is what somebody has applied on this instance, whatever its configuration asks for.

    Another one is that of an earlier instance, as in an image that was made of a machine.
    """
    began = instance.began(host)
    if found.policy is None or found.is_as_requested or began is None:
        return False
    return os.stat(files.policy_file(host)).st_mtime >= began


def _ignored(misreading: "Misreading") -> Problem:
    has = "has" if misreading.certain else "may have"
    message = f"cloud-init {has} ignored ssh_keepalive in {misreading.source}: {misreading.reason}"
    return Problem(message, misreading.remedy)


def image_status(root: str) -> State:
    """Return the state of an image; raise ImageError if it has no cloud-init that could run the module."""
    from ..image import registration
    from ..image.root import Root, option

    found = registration.status(Root(root))
    of_root = option(root)
    unregistered = found.changed
    remedy = "ssh-keepalive register" + of_root
    problems = [Problem(f"{file} is not as it was registered", remedy) for file in found.changed]
    if found.missing:
        unregistered = (found.missing, *found.changed)
        problems = [Problem(f"the module is not installed, there is no {found.missing}", _INSTALL + of_root)]
        if not of_root and not found.missing.endswith(f"/{MODULE}.py"):
            # This command is of the same package, and lacks the same.
            problems = [Problem(f"the module is not whole, there is no {found.missing}", _INSTALL_AGAIN)]
    verdict = state.NOT_REGISTERED if problems else state.REGISTERED
    return State(verdict, tuple(problems), found.notes, unregistered=unregistered)


def _registration(host: Host) -> State:
    """Return the state of this machine as an image; without cloud-init there is nothing to register with."""
    from ..image import registration
    from ..image.root import ImageError, Root

    root = host.at("/")
    if not registration.has_cloud_init(Root(root)):
        return State(state.NOT_CONFIGURED, notes=("no cloud-init here that would run the module",))
    try:
        return image_status(root)
    except ImageError as error:
        problem = Problem(f"cloud-init may not run the module: {error}", "correct that, then ssh-keepalive register")
        return State(state.NOT_REGISTERED, (problem,))


def unknown(error: Exception, root: str = "/") -> State:
    """Return the state of what could not be looked at."""
    from ..image.root import option

    remedy = f"correct that, then ssh-keepalive status{option(root)}"
    problems = error.remedied(remedy) if isinstance(error, SshdError) else (Problem(str(error), remedy),)
    return State(state.UNKNOWN, problems)


def _not_done(request: instance.Request, host: Host) -> List[Problem]:
    """Return the problem of a policy that cloud-init's configuration asks for, and that is not there."""
    asked, error = _asked(request)
    if error:
        return [_refusal(request, error)]
    failure = request.failure
    if asked is None and failure:
        return [Problem(f"cloud-init's module has failed: {failure.reason}", f"correct that, then {RUN_AGAIN}")]
    if asked is None or not asked.enabled:
        return []
    message = f"{', '.join(request.sources)} asks for a policy, and there is no {files.policy_file(host)}"
    if failure:
        return [Problem(f"{message}: {failure.reason}", f"correct that, then {RUN_AGAIN}")]
    if not instance.has_run(host):
        message += f": {_why_not_run(request)}"
    return [Problem(message, RUN_AGAIN)]


def _still_enforced(host: Host) -> List[Problem]:
    """Return the problems of servers that were seen to enforce a policy of which nothing is left in the files."""
    noted = record.load(host)
    generations = [entry.generation for entry in (noted.entries if noted else ()) if entry.has_read and entry.policy]
    try:
        found = servers.find(host) if any(generations) else []
    except SshdError as error:
        return list(unknown(error).problems)
    changed = record.Reading(False, (files.policy_file(host),), is_noted=True)
    return [unread(one, changed) for one in found if one.listener and record.generation(one.listener) in generations]


def _why_not_run(request: instance.Request) -> str:
    return request.unlisted or "cloud-init has not run the module on this instance"


def _asked(request: instance.Request) -> Tuple[Optional[Policy], Optional[PolicyError]]:
    """Return the policy that cloud-init's configuration asks for, or why that is none."""
    try:
        return policy.parse(request.section), None
    except PolicyError as error:
        return None, error


def _asks(request: instance.Request) -> bool:
    """Return whether cloud-init's configuration asks for a policy that can be read."""
    asked, _ = _asked(request)
    return asked is not None and asked.enabled


def _refusal(request: instance.Request, error: PolicyError) -> Problem:
    return Problem(f"{', '.join(request.sources)} asks for what is refused: {error}", _APPLY)


def _inspect(text: str, request: instance.Request, host: Host) -> State:
    found = State(state.ENFORCED, request=request)
    written = sshd_config.read_policy(text)
    if written is None:
        message = f"{files.policy_file(host)} has no policy line that can be read"
        remedy = RUN_AGAIN if _asks(request) else "ssh-keepalive apply FILE"
        return found._replace(problems=(Problem(message, remedy),))
    found = found._replace(policy=written, is_as_requested=_is_asked(request, written))
    questions = Questions(host, prepares=False)
    try:
        known = servers.find(host)
        server = servers.primary(known, host)
        found = found._replace(version=questions.version(server))
        settings = audit.translated(written, server, questions)
    except PolicyError as error:
        return found._replace(problems=(Problem(str(error), _APPLY),))
    except SshdError as error:
        return found._replace(verdict=state.UNKNOWN, problems=unknown(error).problems)
    findings = inspection.inspect(known, text, settings, questions, host)
    problems = [*findings.problems, *_profile_problems(settings, host)]
    refused = _refused(request, server, questions)
    if _is_by_hand(found, host):
        findings.notes += [problem.message for problem in refused]
    else:
        problems += refused
    if findings.unknowns and not problems:
        found = found._replace(verdict=state.UNKNOWN)
    return found._replace(
        settings=settings,
        promise=", ".join(openssh.promises(settings)),
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
        return [Problem(f"{file} is not as it was written", REAPPLY)]
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
    asked, error = _asked(request)
    if asked and asked.enabled:
        try:
            audit.translated(asked, server, questions)
        except PolicyError as refusal:
            error = refusal
    return [_refusal(request, error)] if error else []


def _is_asked(request: instance.Request, written: Policy) -> bool:
    return _asked(request)[0] == written
