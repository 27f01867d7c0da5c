# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""A look at this machine that changes nothing on it."""

import os
from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

from .. import openssh, policy, sshd_config, tmout
from ..openssh import NOBODY, Connection, Settings
from ..policy import Policy, PolicyError
from . import connections, files, instance, match_lines, processes, record, servers, state, trace, verification
from .apply import place
from .host import Host, SlowError
from .problem import Problem, SshdError, UnansweredError
from .questions import Questions, Reply
from .servers import Server
from .state import ServerState, State
from .verification import Deviation

_APPLY = "correct that, then ssh-keepalive apply FILE"
_REAPPLY = "ssh-keepalive reapply"


class _Findings(NamedTuple):
    """Gather what is found of the servers, one after the other."""

    problems: List[Problem]
    unknowns: List[Problem]
    notes: List[str]
    deviations: List[Deviation]
    servers: List[ServerState]
    changes: List[float]


def status(host: Host, root: str = "/") -> State:
    """Return the state of a machine."""
    host.spend_reserve()
    try:
        text = files.text(place(host))
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
        if failure and is_other and failure.at > os.stat(place(host)).st_mtime:
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


def image_status(root: str) -> State:
    """Return the state of an image; raise ImageError if it has no cloud-init that could run the module."""
    unregistered, problems = _unregistered(root)
    verdict = state.NOT_REGISTERED if problems else state.REGISTERED
    return State(verdict, tuple(problems), unregistered=unregistered)


def unknown(error: Exception) -> State:
    """Return the state of what could not be looked at."""
    return State(state.UNKNOWN, (Problem(str(error), "correct that, and ask again"),))


def _registration(root: str) -> Tuple[Optional[Tuple[str, ...]], List[Problem], List[str]]:
    from ..image import registration
    from ..image.root import ImageError, Root

    if not registration.has_cloud_init(Root(root)):
        return None, [], ["no cloud-init here that would run the module"]
    try:
        return (*_unregistered(root), [])
    except ImageError as error:
        message = f"cloud-init may not run the module: {error}"
        return None, [Problem(message, "correct that, then ssh-keepalive register")], []


def _unregistered(root: str) -> Tuple[Tuple[str, ...], List[Problem]]:
    from ..image import registration
    from ..image.root import Root

    found = registration.status(Root(root))
    remedy = "ssh-keepalive register"
    if os.path.realpath(root) != "/":
        remedy += f" --root {root}"
    return tuple(found), [Problem(f"{file} is not as it was registered", remedy) for file in found]


def _not_done(host: Host, request: instance.Request) -> List[Problem]:
    """Return the problem of a policy that cloud-init's configuration asks for, and that is not there."""
    try:
        asked = policy.parse(request.section)
    except PolicyError as error:
        return [_refusal(request, error)]
    if asked is None or not asked.enabled:
        return []
    message = f"{', '.join(request.sources)} asks for a policy, and there is no {place(host)}"
    if request.failure:
        message += f": {request.failure.reason}"
    return [Problem(message, _APPLY)]


def _refusal(request: instance.Request, error: PolicyError) -> Problem:
    return Problem(f"{', '.join(request.sources)} asks for what is refused: {error}", _APPLY)


def _inspect(text: str, request: instance.Request, host: Host) -> State:
    found = State(state.ENFORCED, request=request)
    written = sshd_config.read_policy(text)
    if written is None:
        message = f"{place(host)} has no policy line that can be read"
        return found._replace(problems=(Problem(message, "ssh-keepalive apply FILE"),))
    found = found._replace(policy=written, is_as_requested=_is_asked(request, written))
    questions = Questions(host, prepares=False)
    try:
        known = servers.find(host)
        if not known:
            host.run("sshd", "-V")  # which says where it was looked for
        server = servers.primary(known, host)
        version = questions.version(server)
        found = found._replace(version=version)
        settings = _translated(written, version, server, questions)
    except PolicyError as error:
        return found._replace(problems=(Problem(str(error), "ssh-keepalive apply FILE, with a policy that it can enforce"),))
    except SshdError as error:
        return found._replace(verdict=state.UNKNOWN, problems=(Problem(str(error), "have sshd answer"),))
    found = found._replace(settings=settings, promise=openssh.promise(settings))
    findings = _Findings([], [], [], [], [], [])
    _look_at_servers(known, text, settings, questions, host, findings)
    if files.text(files.profile(host).path) is None or settings.tmout is None:
        is_there = files.text(files.profile(host).path) is not None
        if is_there != (settings.tmout is not None):
            findings.problems.append(Problem(f"{files.profile(host).path} is not as it was written", _REAPPLY))
    elif not sshd_config.is_same(files.text(files.profile(host).path) or "", tmout.render(settings.tmout)):
        findings.problems.append(Problem(f"{files.profile(host).path} is not as it was written", _REAPPLY))
    findings.problems.extend(_refused(request, version, server, questions))
    older: Tuple[processes.Session, ...] = ()
    if findings.changes:
        listener = server.listener
        unread = any(one.has_read is False for one in findings.servers)
        older = tuple(
            session
            for session in processes.sessions(host)
            if has_older_settings(session, listener, max(findings.changes), unread)
        )
    problems = tuple(findings.problems or findings.unknowns)
    if findings.unknowns and not findings.problems:
        found = found._replace(verdict=state.UNKNOWN)
    return found._replace(
        problems=problems,
        notes=tuple(findings.notes),
        deviations=tuple(findings.deviations),
        servers=tuple(findings.servers),
        older_sessions=older,
    )


def _translated(written: Policy, version: openssh.Version, server: Server, questions: Questions) -> Settings:
    channel_timeout = None
    if written.idle_timeout is not None and not openssh.has(version, "channel-timeout"):
        channel_timeout = questions.knows_channel_timeout(server)
    return openssh.translate(written, version, channel_timeout)


def _refused(
    request: instance.Request, version: openssh.Version, server: Server, questions: Questions
) -> List[Problem]:
    """Return why what cloud-init's configuration asks for is not in force: this sshd cannot, or nobody could."""
    try:
        asked = policy.parse(request.section)
        if asked and asked.enabled:
            _translated(asked, version, server, questions)
    except PolicyError as error:
        return [_refusal(request, error)]
    return []


def _is_asked(request: instance.Request, written: Policy) -> bool:
    try:
        return policy.parse(request.section) == written
    except PolicyError:
        return False


def _look_at_servers(
    known: Sequence[Server], text: str, settings: Settings, questions: Questions, host: Host, findings: _Findings
) -> None:
    noted = record.load(host)
    asked: Dict[str, Optional[Reply]] = {}
    for server in known:
        key = record.key(server)
        if key not in asked:
            asked[key] = _look_at(server, text, settings, questions, host, findings)
        reply = asked[key]
        if reply is None:
            findings.servers.append(_server_state(server, record.Reading(None)))
            continue
        _look_at_reading(server, reply, settings, noted, host, findings)


def _look_at(
    server: Server, text: str, settings: Settings, questions: Questions, host: Host, findings: _Findings
) -> Optional[Reply]:
    """Ask a server about everybody whom it is to be asked about; return its reply about nobody, None without one."""
    unit = server.unit
    if unit and unit.state == "failed" and not server.listener:
        remedy = f"systemctl status {unit.name} says why, then systemctl restart {unit.name}"
        findings.problems.append(Problem(f"{unit.name} has failed ({unit.result}), it serves nobody", remedy))
    try:
        version = questions.version(server)
        own = settings if version == settings.version else openssh.translate(settings.policy, version)
        reply = questions.ask(server, NOBODY, traced=True)
        like = connections.nobody(verification.reported(reply.values))
        if like != NOBODY:
            reply = questions.ask(server, like, traced=True)
    except UnansweredError as error:
        findings.unknowns.extend(error.problems)
        return None
    except SlowError as error:
        findings.unknowns.append(Problem(str(error), "have sshd answer"))
        return None
    except (SshdError, PolicyError) as error:
        findings.problems.append(Problem(str(error), "correct that until sshd -t is silent"))
        return None
    found = _verify(server, own, like, reply, host)
    if not reply.about:
        findings.unknowns.append(Problem("a name service here does not answer, no Match was asked about", "have it answer"))
    else:
        try:
            found += list(_others(server, own, like, reply, questions, host, findings))
        except SlowError as error:
            findings.unknowns.append(Problem(f"not everything was asked: {error}", "ask again"))
        except SshdError as error:
            findings.problems.append(Problem(str(error), "correct that until sshd -t is silent"))
    distinct = list(dict.fromkeys(found))
    findings.deviations.extend(distinct)
    _explain(distinct, text, own, server, reply, host, findings)
    return reply


def _verify(server: Server, settings: Settings, one: Connection, reply: Reply, host: Host) -> List[Deviation]:
    main = next(iter(trace.files(reply.trace)), server.main)
    return verification.deviations(server, settings, one, reply, main, (files.drop_in(host).path,))


def _others(
    server: Server,
    settings: Settings,
    like: Connection,
    reply: Reply,
    questions: Questions,
    host: Host,
    findings: _Findings,
) -> Iterable[Deviation]:
    """Yield the deviations for root, for one of each match entry, and for each Match line of somebody else's."""
    chosen = connections.of_entries(settings, like, host)
    findings.notes.extend(note for note in chosen.notes if note not in findings.notes)
    root = connections.root(like, settings, host)
    fitted: Dict[str, bool] = trace.matches(reply.trace)
    for one in (root, *chosen.connections):
        if one is not None:
            about = questions.ask(server, one, traced=True)
            for match, fits in trace.matches(about.trace).items():
                fitted[match] = fitted.get(match, False) or fits
            yield from _verify(server, settings, one, about, host)
    own = {sshd_config.criterion(entry) for entry, _ in settings.blocks}
    texts = [files.text(file) or "" for file in trace.files(reply.trace)]
    keywords = {keyword for keyword, _ in settings.directives}
    keywords |= {keyword for _, directives in settings.blocks for keyword, _ in directives}
    relevant = match_lines.that_set(texts, keywords)
    seen = match_lines.all_of(texts)
    for match in [match for match, fits in fitted.items() if not fits and match not in own]:
        name = match_lines.normalized(match)
        if name in seen and name not in relevant:
            continue
        one = connections.of_line(match, like, host)
        about = questions.ask(server, one, traced=True) if one else None
        if one is None or about is None or not trace.matches(about.trace).get(match):
            message = f"what Match {match} changes is not known, since nobody is known whom it fits"
            findings.unknowns.append(Problem(message, "ssh-keepalive apply knows no better: look at that Match"))
            continue
        for deviation in _verify(server, settings, one, about, host):
            yield deviation._replace(connections=f" for Match {match}")


def _explain(
    found: List[Deviation],
    text: str,
    settings: Settings,
    server: Server,
    reply: Reply,
    host: Host,
    findings: _Findings,
) -> None:
    """Say what deviations mean, with what is in the file of the policy against what would be written there."""
    flaw = _flaw(text, settings, host)
    # What the drop-in sets itself, or would.
    own = [one for one in found if _is_own(one.set_by, text, host)]
    problems = [verification.problem(one, server) for one in found if one not in own]
    main = next(iter(trace.files(reply.trace)), server.main)
    if own:
        problems[:0] = [_explained_by(flaw, one, server, main, host) for one in own]
    elif flaw and problems:
        problems.insert(0, Problem(flaw, _REAPPLY))
    elif flaw:
        findings.notes.append(f"{flaw}, but sshd has the expected values")
    findings.problems.extend(one for one in problems if one not in findings.problems)


def _is_own(set_by: Optional[str], text: str, host: Host) -> bool:
    if set_by is None:
        return True
    file, _, line = set_by.rpartition(":")
    ours = place(host)
    return file == ours and (file == files.drop_in(host).path or int(line) <= sshd_config.lines_before(text))


def _flaw(text: str, settings: Settings, host: Host) -> str:
    """Return what is wrong with the text of the drop-in or of the main file with our blocks, "" for nothing."""
    file = place(host)

    def written(expected: Settings) -> str:
        in_main = file != files.drop_in(host).path
        return sshd_config.with_block(text, expected) if in_main else sshd_config.render(expected)

    if sshd_config.is_same(text, written(settings)):
        return ""
    if any(sshd_config.is_same(text, written(other)) for other in openssh.variants(settings.policy)):
        return f"{file} is written for another OpenSSH"
    return f"{file} was changed by hand"


def _explained_by(flaw: str, deviation: Deviation, server: Server, main: str, host: Host) -> Problem:
    """Return why a value is not the one that the drop-in is to set."""
    if deviation.reported is None:
        return verification.problem(deviation, server)
    if flaw:
        return Problem(f"{deviation.message}: {flaw}", _REAPPLY)
    drop_in = files.drop_in(host).path
    remedy = _REAPPLY
    if main != servers.main_file(host) or main == host.at("/usr/etc/ssh/sshd_config"):
        remedy = f"put 'Include {drop_in}' on its first line, then {server.restart_command}"
    of_whom = "" if main == servers.main_file(host) else f" of {server.name}"
    return Problem(f"{deviation.message}{of_whom}: {main} does not read {drop_in}", remedy)


def _look_at_reading(
    server: Server, reply: Reply, settings: Settings, noted: Optional[record.Record], host: Host, findings: _Findings
) -> None:
    """Say what a server has read, which need not be what is in its files now."""
    folders = {os.path.dirname(include.pattern) for include in trace.includes(reply.trace)}
    inputs = record.identify(trace.files(reply.trace), sorted(folders))
    pid_file = next(iter(verification.reported(reply.values).get("pidfile", ())), "none")
    found = record.reading(server, inputs, noted, pid_file, host)
    if server.listener and server.listener.program is None:
        found = record.Reading(None, (f"{server.program}, which was replaced since,",))
    findings.changes.extend(one[2] / 1e9 for one in inputs.files.values())
    findings.servers.append(_server_state(server, found))
    if found.is_current:
        return
    changed = ", ".join(found.changed)
    if found.is_noted:
        if found.policy != settings.policy.section():
            message = f"{server.name} has not read {changed} since it changed"
            findings.problems.append(Problem(message, f"{server.restart_command}, open sessions survive"))
        else:
            findings.notes.append(f"{server.name} has not read {changed} since, its next start reads what is there now")
    else:
        message = f"whether {server.name} has read {changed} as it is now is not known"
        findings.unknowns.append(Problem(message, f"{server.restart_command}, open sessions survive"))


def _server_state(server: Server, found: record.Reading) -> ServerState:
    listener = server.listener
    addresses = tuple(f"{address}:{port}" for address, port in listener.addresses) if listener else ()
    unit = server.unit.name if server.unit else None
    pid = listener.pid if listener else None
    return ServerState(server.name, server.program, server.main, unit, pid, addresses, found.is_current, found.changed)


def has_older_settings(
    session: processes.Session, listener: Optional[processes.Listener], changed: float, unread: bool
) -> bool:
    """Return whether a session got its settings before files changed, at a time in seconds since the epoch.

    An sshd hands on what it has read last; one that is gone is taken to have been restarted with the change, as the
    module does it.
    """
    return unread or processes.on_the_clock(session.began) < changed
