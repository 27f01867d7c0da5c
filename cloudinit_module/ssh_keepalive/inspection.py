# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""An inspection of a machine that changes nothing on it."""

import contextlib
import os
from typing import Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

from . import dropin, image, instance, openssh, policy, processes, state, tmout, trace
from .policy import Entry, Policy, PolicyError
from .sshd import (
    NOBODY,
    OPTION_REMEDY,
    Sshd,
    SshdError,
    UnansweredError,
    promise,
    questions,
    somebody,
)
from .state import Deviation, Problem, State

_APPLY = "correct that, then ssh-keepalive apply FILE"
_REAPPLY = "ssh-keepalive reapply"
_RESTART = "restart sshd, open sessions survive"
# What sshd calls them, for what Match does; sshd(8), -C.
_ARGUMENTS = {"host": "host", "localaddress": "laddr", "localport": "lport"}


class _Question(NamedTuple):
    """Ask about a connection, in sshd's words as well; `about` says for whom, "" for all."""

    connection: openssh.Connection
    arguments: Dict[str, str]
    about: str


class _Answer(NamedTuple):
    question: _Question
    values: str
    trace: str


def inspect(sshd: Sshd, root: str = "/", proc: str = "/proc") -> State:
    """Return the state of this machine."""
    try:
        text = sshd.text(sshd.place())
        request = instance.request(root)
        unregistered, problems, notes = _registration(root)
    except PermissionError as error:
        return State(state.UNKNOWN, (Problem("{}: {}".format(error.filename, error.strerror), "ask as root"),))
    if text is None:
        found = State(state.NOTHING_ASKED, request=request, problems=tuple(_not_done(sshd, request)))
    else:
        found = _inspect_policy(text, request, sshd, proc)
        failure = request.failure
        # What was applied later, by hand, is as it was wanted.
        is_other = not found.problems and not found.is_as_requested
        if failure and is_other and failure.at > os.stat(sshd.place()).st_mtime:
            message = "cloud-init's configuration was refused, this is an older policy: {}".format(failure.reason)
            found = found._replace(problems=(Problem(message, _APPLY),))
    healthy = (state.KEPT, state.NOTHING_ASKED)
    if found.problems and found.verdict in healthy:
        found = found._replace(verdict=state.NOT_KEPT)
    elif problems and found.verdict in healthy:
        found = found._replace(verdict=state.NOT_REGISTERED)
    return found._replace(
        problems=(*found.problems, *problems), notes=(*found.notes, *notes), unregistered=unregistered
    )


def inspect_image(root: str) -> State:
    """Return the state of an image; raise ImageError if it has no cloud-init that could run the module."""
    unregistered, problems = _unregistered(root)
    verdict = state.NOT_REGISTERED if problems else state.REGISTERED
    return State(verdict, tuple(problems), unregistered=unregistered)


def unknown(error: Exception) -> State:
    """Return the state of what could not be looked at."""
    return State(state.UNKNOWN, (Problem(str(error), "correct that, and ask again"),))


def _registration(root: str) -> Tuple[Optional[Tuple[str, ...]], List[Problem], List[str]]:
    if not image.has_cloud_init(image.Root(root)):
        return None, [], ["no cloud-init here that would run the module"]
    try:
        return (*_unregistered(root), [])
    except image.ImageError as error:
        message = "cloud-init may not run the module: {}".format(error)
        return None, [Problem(message, "correct that, then ssh-keepalive register")], []


def _unregistered(root: str) -> Tuple[Tuple[str, ...], List[Problem]]:
    files = image.status(image.Root(root))
    remedy = "ssh-keepalive register"
    if os.path.realpath(root) != "/":
        remedy += " --root {}".format(root)
    return tuple(files), [Problem("{} is not as it was registered".format(file), remedy) for file in files]


def _not_done(sshd: Sshd, request: instance.Request) -> List[Problem]:
    """Return the problem of a policy that cloud-init's configuration asks for, and that is not there."""
    try:
        wanted = policy.parse(request.section)
    except PolicyError as error:
        return [_refusal(request, error)]
    if wanted is None or not wanted.enabled:
        return []
    message = "{} asks for a policy, and there is no {}".format(", ".join(request.sources), sshd.file)
    if request.failure:
        message += ": {}".format(request.failure.reason)
    return [Problem(message, _APPLY)]


def _inspect_policy(text: str, request: instance.Request, sshd: Sshd, proc: str) -> State:
    found = State(state.KEPT, request=request)
    kept = dropin.read_policy(text)
    if kept is None:
        return found._replace(
            problems=(
                Problem("{} has no policy line that can be read".format(sshd.place()), "ssh-keepalive apply FILE"),
            )
        )
    found = found._replace(policy=kept, is_as_requested=_is_asked(request, kept))
    try:
        version = sshd.version()
        found = found._replace(version=version)
        expression = sshd.express(kept, version)
        found = found._replace(expression=expression, promise=promise(kept, expression))
        asked, unproved = _questions(expression)
        answers = list(_answers(asked, sshd))
    except UnansweredError as error:
        return found._replace(verdict=state.UNKNOWN, problems=(Problem(str(error), "start sshd, and ask again"),))
    except PolicyError as error:
        remedy = "ssh-keepalive apply FILE, with a policy that it can keep"
        return found._replace(problems=(Problem(str(error), remedy),))
    except SshdError as error:
        if found.expression is None:
            return found._replace(verdict=state.UNKNOWN, problems=(Problem(str(error), "have sshd answer"),))
        return found._replace(problems=(Problem(str(error), "correct that until sshd -t is silent"),))
    found = found._replace(
        deviations=_deviations(expression, answers, sshd), notes=(*unproved, *_unanswered(answers, expression))
    )
    found = _held_against_files(found, text, kept, expression, sshd)
    problems = [Problem(message, OPTION_REMEDY) for message in sshd.overridden(expression)]
    problems += _refused(request, version, sshd)
    found = found._replace(problems=(*found.problems, *problems))
    return _held_against_processes(found, answers[0], sshd, proc)


def _refused(request: instance.Request, version: openssh.Version, sshd: Sshd) -> List[Problem]:
    """Return why what cloud-init's configuration asks for is not what is kept: this sshd cannot, or nobody could."""
    try:
        wanted = policy.parse(request.section)
        if wanted and wanted.enabled:
            sshd.express(wanted, version)
    except PolicyError as error:
        return [_refusal(request, error)]
    return []


def _refusal(request: instance.Request, error: PolicyError) -> Problem:
    return Problem("{} asks for what is refused: {}".format(", ".join(request.sources), error), _APPLY)


def _is_asked(request: instance.Request, kept: Policy) -> bool:
    try:
        return policy.parse(request.section) == kept
    except PolicyError:
        return False


def _answers(questions: List[_Question], sshd: Sshd) -> Iterator[_Answer]:
    """Ask questions, and one about each Match line that sshd has come across meanwhile."""
    known: Set[str] = set()
    for question in questions:
        answer = _Answer(question, *sshd.ask(question.arguments))
        yield answer
        new = [match for match in trace.matches(answer.trace) if match not in known]
        known.update(new)
        questions += [_about(match) for match in new]


def _unanswered(answers: List[_Answer], expression: openssh.Expression) -> Iterator[str]:
    """Say which Match lines of others fitted nobody whom sshd was asked about."""
    own = {dropin.criterion(entry) for entry, _ in expression.blocks}
    matches = [trace.matches(answer.trace) for answer in answers]
    for match in dict.fromkeys(match for found in matches for match in found):
        if match not in own and not any(found.get(match) for found in matches):
            yield "what Match {} changes is not known, since nobody is whom it fits".format(match)


def _deviations(expression: openssh.Expression, answers: List[_Answer], sshd: Sshd) -> Tuple[Deviation, ...]:
    found: Dict[Tuple[dropin.Mismatch, Optional[str]], Deviation] = {}
    for question, values, told in answers:
        for mismatch in dropin.mismatches(openssh.wanted(expression, question.connection), values):
            place = dropin.winner(mismatch.keyword, told, sshd.main)
            found.setdefault((mismatch, place), Deviation(*mismatch, question.about, place))
    return tuple(found.values())


def _held_against_files(found: State, text: str, kept: Policy, expression: openssh.Expression, sshd: Sshd) -> State:
    """Hold what sshd said, and what is in the files, against what the policy is in them."""
    flaw = _flaw(text, kept, expression, sshd)
    # What the drop-in sets itself, or would.
    own = [one for one in found.deviations if _is_own(one.set_by, text, sshd)]
    problems = [_explained(one) for one in found.deviations if one not in own]
    notes = found.notes
    if own:
        problems[:0] = [_explained_by(flaw, one, sshd) for one in own]
    elif flaw and problems:
        problems.insert(0, Problem(flaw, _REAPPLY))
    elif flaw:
        notes += ("{}, but sshd has the wanted values".format(flaw),)
    if sshd.text(sshd.tmout_file) != (tmout.render(expression.tmout) if expression.tmout else None):
        problems.append(Problem("{} is not as it was written".format(sshd.tmout_file), _REAPPLY))
    return found._replace(problems=tuple(problems), notes=notes)


def _is_own(place: Optional[str], text: str, sshd: Sshd) -> bool:
    if place is None:
        return True
    file, _, line = place.rpartition(":")
    return file == sshd.place() and (file == sshd.file or int(line) <= dropin.lines_before(text))


def _flaw(text: str, kept: Policy, expression: openssh.Expression, sshd: Sshd) -> str:
    """Return what is wrong with the text of the drop-in or of the main file with our blocks, "" for nothing."""
    place = sshd.place()

    def written(wanted: openssh.Expression) -> str:
        return dropin.with_block(text, kept, wanted) if place == sshd.main else dropin.render(kept, wanted)

    if text == written(expression):
        return ""
    if any(text == written(other) for other in openssh.variants(kept)):
        return "{} is written for another OpenSSH".format(place)
    return "{} was changed by hand".format(place)


def _explained_by(flaw: str, deviation: Deviation, sshd: Sshd) -> Problem:
    """Return why a value is not the one that the drop-in is to set."""
    message = _message(deviation)
    if deviation.reported is None:
        return Problem(message, "use an OpenSSH that does")
    if flaw:
        return Problem("{}: {}".format(message, flaw), _REAPPLY)
    remedy = _REAPPLY
    if not sshd.main_is_ours_to_change:
        remedy = "put 'Include {}/*.conf' on its first line, and restart sshd".format(sshd.folder)
    return Problem("{}: {} does not read {}".format(message, sshd.main, sshd.file), remedy)


def _explained(deviation: Deviation) -> Problem:
    """Return what a value that somebody else sets means."""
    message = "{}: {} sets it and wins".format(_message(deviation), deviation.set_by)
    if deviation.connections:
        return Problem(message, "remove that line and restart sshd, or name whom it is for in ssh_keepalive.match")
    return Problem(message, "remove that line and restart sshd")


def _message(deviation: Deviation) -> str:
    keyword, wanted, reported, connections, _ = deviation
    if reported is None:
        return "sshd -T does not report {}, {} is wanted{}".format(keyword, wanted, connections)
    return "{} is {} where {} is wanted{}".format(keyword, reported, wanted, connections)


def _questions(expression: openssh.Expression) -> Tuple[List[_Question], List[str]]:
    """Return questions about nobody and about one of each entry, and which entries nobody fits."""
    connections, unproved = questions(expression)
    found = [_Question(NOBODY, _arguments(NOBODY), "")]
    for connection in connections:
        who = " for user {} from {}".format(connection.user, connection.address)
        found.append(_Question(connection, _arguments(connection), who))
    return found, unproved


def _arguments(connection: openssh.Connection) -> Dict[str, str]:
    return {
        "user": connection.user,
        "host": ".invalid",
        "addr": connection.address,
        "laddr": "192.0.2.1",
        "lport": "1",
    }


def _about(match: str) -> _Question:
    """Return a question about somebody whom a Match line fits, as far as such a one is known."""
    connection = NOBODY
    others = {}
    for criterion, patterns in trace.criteria(match):
        positive = tuple(pattern for pattern in patterns if not pattern.startswith("!"))
        if criterion in policy.CRITERIA and positive:
            with contextlib.suppress(ValueError):
                fitting = somebody(Entry(criterion, positive))
                if fitting and criterion == "address":
                    connection = connection._replace(address=fitting.address)
                elif fitting:
                    connection = connection._replace(user=fitting.user, groups=fitting.groups)
        elif criterion in _ARGUMENTS and positive:
            others[_ARGUMENTS[criterion]] = positive[0].replace("*", "1").replace("?", "1").split("/")[0]
    return _Question(connection, {**_arguments(connection), **others}, " for Match {}".format(match))


def _held_against_processes(found: State, answer: _Answer, sshd: Sshd, proc: str) -> State:
    """Hold the times at which files changed against those at which sshd has read them and sessions began."""
    reported = dict(line.partition(" ")[::2] for line in answer.values.splitlines())
    pid_file = {keyword.lower(): value for keyword, value in reported.items()}.get("pidfile")
    listener = processes.listener(pid_file, proc)
    changes = {file: os.stat(file).st_ctime for file in trace.files(answer.trace)}
    if sshd.file in changes:
        # What is put back after a refusal is as it was before, but for this one.
        changes[sshd.file] = os.stat(sshd.file).st_mtime
    unread = None
    if listener:
        unread = next((file for file, time in changes.items() if time > listener.read), None)
        if unread is None and sshd.folder_changed() > listener.read:
            # A file that is gone has no time of its own.
            unread = sshd.folder
    problems = found.problems
    # What else is to be done ends with a restart.
    if unread and not problems:
        problems += (Problem("sshd has not read {} since it changed".format(unread), _RESTART),)
    changed = max(changes.values(), default=0.0)
    older = tuple(
        session
        for session in processes.sessions(proc)
        if state.has_older_settings(session, listener, changed, bool(unread))
    )
    return found._replace(
        problems=problems, listener=listener, unread=unread, older_sessions=older, was_sshd_looked_for=True
    )
