# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""An audit of a server: what it does with nobody in particular, with root, and with some whom match entries are for."""

import fnmatch
import glob
import os
from typing import Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

from .. import openssh, sshd_config
from ..openssh import NOBODY, Connection, Settings
from ..policy import Policy
from . import connections, files, processes, record, trace, verification
from .host import Host
from .problem import Problem
from .questions import Questions, Reply
from .servers import Server
from .verification import Deviation

# In seconds: what is left when no more is asked is for the restart.
_WORTH_A_QUESTION = 5.0
# A little less than 256 KiB, comments included
_MOST_BYTES = 250000


class Audit(NamedTuple):
    """Hold what a server was asked, and where its answers deviate from what is expected.

    `main` is the file that it reads first. `like` is the connection of nobody in particular to an address of the
    server, and `reply` the answer about it. `inputs` are the files that were read for that, `included` those that its
    Includes fit, `matches` all Match lines. `notes` name the match entries that it was not asked about.
    """

    server: Server
    settings: Optional[Settings]
    main: str
    like: Connection
    reply: Reply
    inputs: record.Inputs
    included: Tuple[str, ...]
    matches: Tuple[str, ...]
    deviations: Tuple[Deviation, ...] = ()
    for_root: Tuple[Deviation, ...] = ()
    notes: Tuple[str, ...] = ()

    @property
    def pid_file(self) -> str:
        """Return where the server writes its process number, "none" for nowhere."""
        return next(iter(verification.reported(self.reply.values).get("pidfile", ())), "none")

    @property
    def is_untouched(self) -> bool:
        """Return whether nothing at all has changed since the server was asked."""
        now = _inputs(self.reply)
        times = [(now.folders.get(name), before) for name, before in self.inputs.folders.items()]
        return self.inputs.stay(now) and all(found is not None and found <= before for found, before in times)

    @property
    def is_unchanged(self) -> bool:
        """Return whether what the server reads is as it was when it was asked, whatever has come and gone beside it."""
        return self.inputs.stay(_inputs(self.reply)) and self.included == _included(self.reply)

    @property
    def reads_matches(self) -> bool:
        """Return whether the Match line of each match entry was read, as far as Match lines were asked about."""
        return not self.reply.about or not trace.missing(self._own_matches, self.matches)

    @property
    def others_matches(self) -> List[str]:
        """Return the Match lines of others."""
        return trace.others(self._own_matches, self.matches)

    @property
    def values(self) -> Dict[str, Set[str]]:
        """Return all values that the policy gives to keywords which a Match may set here."""
        values: Dict[str, Set[str]] = {}
        if self.settings:
            for directives in (self.settings.directives, *(directives for _, directives in self.settings.blocks)):
                for keyword, value in directives:
                    values.setdefault(openssh.canonical(keyword), set()).add(value)
            if not openssh.has(self.settings.version, "channel-timeout-in-match"):
                values.pop("channeltimeout", None)
        # Options override all files.
        for keyword in self.server.arguments.settings() if self.server.arguments else ():
            values.pop(openssh.canonical(keyword), None)
        return values

    @property
    def texts(self) -> Dict[str, str]:
        """Return the texts of the files that the server reads, by their names."""
        read = filter(os.path.isfile, trace.files(self.reply.trace))
        return {file: files.text(file) or "" for file in read}

    @property
    def is_too_big(self) -> bool:
        """Return whether the server refuses every login with a configuration of that size."""
        size = trace.size(self.reply.trace)
        return bool(self.settings and size > _MOST_BYTES and openssh.has(self.settings.version, "takes-256-kib"))

    @property
    def _own_matches(self) -> List[str]:
        return [sshd_config.criterion(entry) for entry, _ in self.settings.blocks] if self.settings else []

    def reads(self, file: str) -> bool:
        """Return whether a line of a file sets something."""
        return trace.is_read(file, self.reply.trace)

    def includes(self, file: str) -> bool:
        """Return whether a file is read, or would be if it were there."""
        patterns = [include.pattern for include in trace.includes(self.reply.trace)]
        return file in trace.files(self.reply.trace) or any(fnmatch.fnmatchcase(file, one) for one in patterns)

    def reading(self, noted: Optional[record.Record]) -> record.Reading:
        """Return what the server has read."""
        return record.reading(self.server, self.inputs, noted, self.pid_file)


def translated(policy: Policy, server: Server, questions: Questions) -> Settings:
    """Return the settings that enforce a policy on a server; raise PolicyError if it cannot."""
    version = questions.version(server)
    channel_timeout = None
    if policy.idle_timeout is not None and not openssh.has(version, "channel-timeout"):
        channel_timeout = questions.knows_channel_timeout(server)
    return openssh.translate(policy, version, channel_timeout)


def settings_for(server: Server, settings: Settings, questions: Questions) -> Settings:
    """Return what a server's program makes of the policy of some settings: it may be of another version."""
    if questions.version(server) == settings.version:
        return settings
    return translated(settings.policy, server, questions)


def audit(
    server: Server,
    settings: Optional[Settings],
    questions: Questions,
    host: Host,
) -> Audit:
    """Ask a server about all connections that are to be asked about; without settings about nobody in particular only.

    Raise SshdError if it refuses its configuration or does not answer.
    """
    like = NOBODY
    reply = questions.ask(server, like)
    values = verification.reported(reply.values)
    if server.unit and server.unit.addresses:
        # The socket's are meant, whatever sshd's files say.
        values["listenaddress"] = [processes.shown(*one) for one in server.unit.addresses]
    if settings:
        like = connections.nobody(values)
        if like != NOBODY:
            reply = questions.ask(server, like)
    found = _audit_of(reply, like, server, settings, server.main)
    if settings is None:
        return found
    deviations = list(deviating(found, like, reply, host))
    for one in connections.at_other_addresses(values, like, found.matches):
        deviations += deviating(found, one, questions.ask(server, one), host)
    unasked = ("no Match is verified, since a name service here does not answer",)
    if not reply.about:
        return found._replace(deviations=tuple(deviations), notes=unasked)
    for_root: Tuple[Deviation, ...] = ()
    chosen = connections.chosen(settings, like, host, bool(found.others_matches))
    notes = list(chosen.notes)
    # Without any Match line everybody has what nobody in particular has.
    people = list(filter(None, (chosen.root, *chosen.connections))) if found.matches else []
    for position, one in enumerate(people):
        if host.seconds_left < _WORTH_A_QUESTION:
            notes.append(f"for {_named(people[position:])} the policy is not verified, no time was left")
            break
        about = questions.ask(server, one, is_traced=False)
        if not about.about:
            return found._replace(deviations=tuple(deviations), notes=unasked, reply=reply._replace(about=False))
        if verification.is_as_expected(settings, one, about):
            continue
        # Which line sets it the trace tells.
        deviating_here = deviating(found, one, questions.ask(server, one), host)
        if one is chosen.root:
            for_root = deviating_here
        else:
            deviations += deviating_here
    known = {one.key: one for one in reversed(deviations)}
    return found._replace(
        deviations=tuple(one for one in deviations if known[one.key] is one),
        for_root=tuple(one for one in for_root if one.key not in known),
        notes=tuple(notes),
    )


def audit_candidate(
    server: Server, settings: Settings, questions: Questions, host: Host, candidate: str
) -> Optional[Audit]:
    """Ask a server about nobody in particular, with a candidate for its main file; return None if all is as expected.

    That all Match lines are read shows where it is in place.
    """
    reply = questions.ask(server, NOBODY, candidate, is_traced=False)
    if verification.is_as_expected(settings, NOBODY, reply):
        return None
    reply = questions.ask(server, NOBODY, candidate)
    found = _audit_of(reply, NOBODY, server, settings, candidate)
    return found._replace(deviations=deviating(found, NOBODY, reply, host))


def _audit_of(reply: Reply, like: Connection, server: Server, settings: Optional[Settings], main: str) -> Audit:
    main = next(iter(trace.files(reply.trace)), main)
    matches = tuple(match for match, _ in trace.matches(reply.trace))
    return Audit(server, settings, main, like, reply, _inputs(reply), _included(reply), matches)


def note(audits: Sequence[Audit], now: Sequence[Server], restarted: Sequence[Server], host: Host) -> None:
    """Record which of the servers of now have read what was verified, for status and the next run.

    Those that were restarted have read it. Others, of which that is not known, are noted too: they may read it later.
    """
    old = record.load(host)
    anew = {_started_by(server) for server in restarted}
    noted: List[record.Entry] = []
    kept: List[record.Entry] = []
    for server in now:
        key = record.key(server)
        found = next((one for one in audits if record.key(one.server) == key), None)
        entry = found and _entry(found._replace(server=server), _started_by(server) in anew, old, host)
        if entry:
            noted.append(entry)
        if old and not (entry and entry.has_read):
            kept += [one for one in old.entries if one.server == key and one.has_read and one not in kept]
    # What was noted before stays true, of what was started after that. The first one tells at least the clock.
    if noted or old is None:
        record.save([*noted, *kept], now, host)


def note_restored(audits: Sequence[Audit], now: Sequence[Server], restarted: Sequence[Server], host: Host) -> None:
    """Note that servers which were restarted with what was restored have read that, as they had before."""
    old = record.load(host)
    drop_in = files.drop_in(host).path
    text = files.text(drop_in)
    policy = sshd_config.read_policy(text) if text else None
    anew = {_started_by(server) for server in restarted}
    noted = []
    for server in now:
        found = next((one for one in audits if record.key(one.server) == record.key(server)), None)
        if found and server.listener and _started_by(server) in anew:
            inputs = _inputs(found.reply)
            if inputs.without(drop_in).files == found.inputs.without(drop_in).files:
                generation = record.generation(server.listener)
                section = policy.section() if policy else False
                noted.append(record.Entry(record.key(server), inputs, section, generation))
    names = {entry.server for entry in noted}
    if noted:
        kept = [one for one in (old.entries if old else ()) if one.server not in names]
        record.save([*noted, *kept], now, host)


def _entry(found: Audit, is_anew: bool, old: Optional[record.Record], host: Host) -> Optional[record.Entry]:
    """Return what is to be noted of a server, None where it would not enforce that."""
    if found.deviations or other_files(found, host):
        return None
    listener = found.server.listener
    now = _inputs(found.reply)
    has_read = bool(is_anew or found._replace(inputs=now).reading(old).is_current)
    if not has_read:
        # As it is now: what it reads from here on is to be what is verified.
        listener = next((one for one in processes.listeners(host) if listener and one.pid == listener.pid), None)
    generation = record.generation(listener) if listener else None
    if not found.is_unchanged or not (has_read or generation):
        return None
    # With a flaw it is to read what is changed later: the flaw itself may be what was changed.
    is_flawed = found.for_root or found.is_too_big or _may_be_overridden(found)
    policy = found.settings.policy.section() if found.settings and not is_flawed else False
    return record.Entry(record.key(found.server), now, policy, generation, has_read)


def _may_be_overridden(found: Audit) -> bool:
    """Return whether a Match line of somebody else's may set something else than the policy does."""
    if not found.others_matches:
        return False
    # Most machines have none, and a boot need not import that.
    from . import match_lines

    return bool(match_lines.changing(found.others_matches, match_lines.blocks(found.texts), found.values))


def _started_by(server: Server) -> object:
    """Return what has a server read its files anew: its unit or script, or else a signal to its process."""
    return server.service if server.unit or server.script else server.listener and server.listener.pid


def other_files(found: Audit, host: Host) -> Optional[Problem]:
    """Return the problem of a process that sees other files under the names of those that were read here."""
    listener = found.server.listener
    names = [*found.inputs.files, *found.inputs.folders]
    other = processes.seen_otherwise(listener.pid, names, host) if listener else []
    if listener is None or not other:
        return None
    message = f"{found.server.name} sees {', '.join(other)} otherwise, from a root or mounts of its own"
    remedy = f"nsenter -t {listener.pid} -m -r {found.server.program} -T tells what it reads there"
    return Problem(message, remedy)


def _named(people: Sequence[Connection]) -> str:
    return ", ".join(f"user {one.user} from {one.address}" for one in people)


def _included(reply: Reply) -> Tuple[str, ...]:
    return tuple(sorted(file for one in trace.includes(reply.trace) for file in glob.glob(one.pattern)))


def _inputs(reply: Reply) -> record.Inputs:
    folders = {os.path.dirname(include.pattern) for include in trace.includes(reply.trace)}
    return record.identify(trace.files(reply.trace), sorted(folders))


def deviating(found: Audit, one: Connection, reply: Reply, host: Host) -> Tuple[Deviation, ...]:
    """Return where a reply about a connection deviates."""
    if found.settings is None:
        return ()
    drop_in = files.drop_in(host)
    ours = (drop_in.path, drop_in.temporary("new"))
    return tuple(verification.deviations(found.server, found.settings, one, reply, found.main, ours))
