# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""What each server does and has read, against a policy, and why."""

import functools
from typing import Dict, List, Optional, Sequence

from .. import openssh, paths, sshd_config
from ..openssh import Settings
from ..policy import PolicyError
from . import files, processes, record, servers, verification
from .audit import Audit, audit, other_files, settings_for
from .host import Host, SlowError
from .judgement import not_read, too_big, unread
from .others_lines import OthersLines
from .problem import REAPPLY, Problem, SshdError, UnansweredError
from .processes import Listener
from .questions import Questions
from .servers import Server
from .state import ServerState
from .verification import Deviation

_ASK_AGAIN = "correct that, then ssh-keepalive status"


class Findings:
    """Gather what was found of the servers, one after the other.

    `changed` is the last change of a file that one of them reads. `read` is when each process has last read its files,
    if it tells.
    """

    def __init__(self) -> None:
        self.problems: List[Problem] = []
        self.unknowns: List[Problem] = []
        self.notes: List[str] = []
        self.deviations: List[Deviation] = []
        self.servers: List[ServerState] = []
        self.changed = 0.0
        self.read: Dict[Listener, float] = {}


def inspect(known: Sequence[Server], text: str, settings: Settings, questions: Questions, host: Host) -> Findings:
    """Return what is found of servers, for which a text was written to enforce settings on the machine's own."""
    findings = Findings()
    noted = record.load(host)
    audits: Dict[str, Optional[Audit]] = {}
    for server in known:
        key = record.key(server)
        if key not in audits:
            audits[key] = _audited(server, settings, questions, host, findings)
            if audits[key]:
                _explain(audits[key], text, questions, host, findings)  # type: ignore[arg-type]
        found = audits[key]
        if found is None:
            findings.servers.append(_server_state(server, record.Reading(None)))
        else:
            _look_at_reading(found._replace(server=server), noted, host, findings)
        _look_at_unit(server, findings)
        if server.is_to_start_otherwise:
            _look_at_next_start(servers.as_started_anew(server, host), settings, questions, host, findings)
    return findings


def is_plain(found: Audit, noted: Optional[record.Record], host: Host) -> bool:
    """Return whether a server enforces and has read what it was asked about, and nothing else is to be said of it."""
    server = found.server
    is_flawed = found.deviations or found.for_root or found.others_matches or not found.reply.about or found.is_too_big
    is_odd = server.unseen or server.failure or server.is_replaced or server.is_to_start_otherwise
    is_open = is_flawed or is_odd or other_files(found, host)
    return not is_open and bool(found.reading(noted).is_current)


def _look_at_next_start(
    server: Server, settings: Settings, questions: Questions, host: Host, findings: Findings
) -> None:
    """Say what a server will do that its unit would start with another command than it runs with."""
    found = _audited(server, settings, questions, host, findings)
    for deviation in found.deviations if found else ():
        problem = verification.problem(deviation, server)
        problem = problem._replace(message=f"from the next start of {server.name} on, {problem.message}")
        findings.problems.append(problem)
    if found and not found.deviations:
        findings.notes.append(f"{server.name} will be started with another command than it was started with")


def _audited(
    server: Server, settings: Settings, questions: Questions, host: Host, findings: Findings
) -> Optional[Audit]:
    """Return the audit of a server, None where it could not be asked, after noting why."""
    try:
        found = audit(server, settings_for(server, settings, questions), questions, host)
    except UnansweredError as error:
        findings.unknowns += error.problems
    except SlowError as error:
        findings.unknowns += error.remedied(_ASK_AGAIN)
    except SshdError as error:
        findings.problems += error.remedied(_ASK_AGAIN)
    except PolicyError as error:
        findings.problems.append(Problem(f"{server.name}: {error}", "have it started from a newer OpenSSH"))
    else:
        if found.reply.about:
            return found
        message = "a name service here does not answer, so that no Match could be asked about"
        findings.unknowns.append(Problem(message, "have it answer, and ask again"))
        return found
    return None


def _look_at_unit(server: Server, findings: Findings) -> None:
    unit = server.unit
    if server.unseen:
        findings.unknowns.append(server.unseen)
    if unit and unit.is_outdated:
        note = f"systemd has not read the files of {unit.name} since they changed: systemctl daemon-reload"
        findings.notes.append(note)
    if unit and server.failure:
        again = f"systemctl restart {unit.name}"
        if unit.result == "start-limit-hit":
            again = f"systemctl reset-failed {unit.name}; {again}"
        remedy = f"systemctl status {unit.name} says why, then {again}"
        findings.problems.append(Problem(f"{unit.name} has failed ({server.failure}), it serves nobody", remedy))


def _explain(found: Audit, text: str, questions: Questions, host: Host, findings: Findings) -> None:
    """Say what deviations mean, with what is in the file of the policy against what would be written there."""
    deviations = [*found.deviations, *found.for_root]
    if found.reply.about:
        others = OthersLines(found, functools.partial(_is_own, text=text, host=host), questions, host)
        try:
            others.look()
        except SshdError as error:
            findings.problems += error.remedied(_ASK_AGAIN)
        deviations += others.deviations
        findings.unknowns += others.unknowns
    findings.notes += [note for note in found.notes if note not in findings.notes]
    findings.deviations += deviations
    flaw = _flaw(text, found, host)
    # What the drop-in sets itself, or would.
    own = [one for one in deviations if _is_own(one.set_by, text, host)]
    problems = [verification.problem(one, found.server) for one in deviations if one not in own]
    if own:
        problems[:0] = [_explained_by(flaw, one, found, host) for one in own]
    elif flaw and problems:
        problems.insert(0, Problem(flaw, REAPPLY))
    elif flaw and flaw not in " ".join(findings.notes):
        findings.notes.append(f"{flaw}, but sshd has the expected values")
    big = too_big(found)
    if big:
        problems.append(big)
    findings.problems += [one for one in problems if one not in findings.problems]


def _is_own(set_by: Optional[str], text: str, host: Host) -> bool:
    if set_by is None:
        return True
    file, _, line = set_by.rpartition(":")
    return file == files.policy_file(host) and (
        file == host.at(paths.DROP_IN) or sshd_config.is_in_block(text, int(line))
    )


def _flaw(text: str, found: Audit, host: Host) -> str:
    """Return what is wrong with the text of the drop-in or of the main file with our blocks, "" for nothing."""
    file, settings = files.policy_file(host), found.settings
    if settings is None:
        return ""

    def written(expected: Settings) -> str:
        in_main = file != host.at(paths.DROP_IN)
        return sshd_config.with_block(text, expected) if in_main else sshd_config.render(expected)

    if sshd_config.is_same(text, written(settings)):
        return ""
    if any(sshd_config.is_same(text, written(other)) for other in openssh.variants(settings.policy)):
        return f"{file} is written for another OpenSSH"
    return f"{file} was changed by hand"


def _explained_by(flaw: str, deviation: Deviation, found: Audit, host: Host) -> Problem:
    """Return why a value is not the one that the drop-in is to set."""
    if deviation.reported is None:
        return verification.problem(deviation, found.server)
    if flaw:
        return Problem(f"{deviation.message}: {flaw}", REAPPLY)
    drop_in = host.at(paths.DROP_IN)
    if found.main == host.at(paths.MAIN):
        return Problem(f"{deviation.message}: {found.main} does not read {drop_in}", REAPPLY)
    # Not ours to change
    problem = not_read(found, drop_in)
    return problem._replace(message=f"{deviation.message}: {problem.message}")


def _look_at_reading(found: Audit, noted: Optional[record.Record], host: Host, findings: Findings) -> None:
    """Say what a server has read, which need not be what is in its files now."""
    server = found.server
    reading = found.reading(noted)
    if server.is_replaced:
        reading = record.Reading(None, (f"{server.program} (replaced since it was started)",))
    findings.changed = max(findings.changed, *(one[2] / 1e9 for one in found.inputs.files.values()), 0.0)
    read = record.wrote_pid_file(server.listener, found.pid_file) if server.listener else None
    if server.listener and read is not None:
        findings.read[server.listener] = read
    seen = other_files(found, host)
    if seen:
        findings.unknowns.append(seen)
        reading = record.Reading(None)
    findings.servers.append(_server_state(server, reading))
    if seen or reading.is_current or found.settings is None:
        return
    problem = unread(server, reading)
    if not reading.is_noted:
        findings.unknowns.append(problem)
    elif reading.policy != found.settings.policy.section():
        findings.problems.append(problem)
    else:
        findings.notes.append(f"{problem.message}, its next start reads it")


def _server_state(server: Server, reading: record.Reading) -> ServerState:
    listener, unit = server.listener, server.unit
    return ServerState(
        server.name,
        server.program,
        server.main,
        unit.name if unit else None,
        listener.pid if listener else None,
        tuple(processes.shown(*one) for one in listener.addresses) if listener else (),
        reading.is_current,
        reading.changed,
    )
