# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The way of a policy into the sshd servers of this machine."""

import contextlib
import logging
import os
import re
import signal
import time
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from .. import openssh, paths, sshd_config, tmout
from ..openssh import NOBODY, Connection, Settings
from ..policy import KEY, Policy
from . import connections, files, processes, record, servers, service, trace, verification
from .files import ChangedError, File, Transaction
from .host import Host
from .problem import NotReadError, Problem, SshdError, UnansweredError
from .questions import Questions, Reply
from .servers import Server
from .verification import Deviation

LOG = logging.getLogger(__name__)

# The ways to have sshd read a policy, each where the ones before it do not do
_DROP_IN, _INCLUDED, _IN_MAIN = "drop-in", "drop-in that a block in the main file includes", "block in the main file"
# A little less than 256 KiB, comments included
_MOST_BYTES = 250000
# How often somebody else may change a file while it is about to be replaced
_ATTEMPTS = 3
# What of sshd fails when a candidate is read one level deeper than the main file that it stands for
_TOO_DEEP = "recursive configuration includes"
_SIGNAL_SECONDS = 5.0

Texts = Dict[File, Optional[str]]


class Report(NamedTuple):
    """Say what was done, and what is in force; `settings` are None for a policy that is off."""

    file: str
    policy: Policy
    settings: Optional[Settings]
    notes: Tuple[str, ...]
    changed: bool
    restarted: bool
    starts_later: bool

    def __str__(self) -> str:
        does = "off, sshd keeps its other settings"
        if self.settings:
            values = ", ".join(f"{keyword} {value}" for keyword, value in self.settings.directives)
            version = "OpenSSH {}.{}".format(*self.settings.version)
            does = f"{openssh.promise(self.settings)} ({' on '.join(filter(None, (values, version)))})"
        file = f"{self.file} {'changed' if self.changed else 'unchanged'}"
        if self.restarted:
            file += ", sshd restarted"
        elif self.changed and self.starts_later:
            file += ", sshd reads it when it starts"
        return "; ".join((f"{KEY}: {does}", *self.notes, file))


def apply(policy: Policy, host: Host) -> Report:
    """Have the sshd servers of a machine enforce a policy, and return what is in force.

    Raise PolicyError if this OpenSSH cannot, and SshdError if one of them does not. All files are then as they were,
    and sshd runs if it did; but what is verified and only waits for a restart that is not ours to decide, stays.
    """
    try:
        return _Run(policy, host).do()
    except OSError as error:
        words = ": ".join(map(str, filter(None, (error.filename, error.strerror or type(error).__name__))))
        raise SshdError(Problem(words)) from error


def reapply(host: Host) -> Optional[Report]:
    """Translate the policy in force for the OpenSSH that is here now, as after an upgrade; None without a policy.

    Raise PolicyError or SshdError if that cannot be done.
    """
    file = place(host)
    text = files.text(file)
    if text is None:
        return None
    policy = sshd_config.read_policy(text)
    if policy is None:
        raise SshdError(Problem(f"{file}: has no policy line that can be read", "run cloud-init's module again"))
    return apply(policy, host)


def place(host: Host) -> str:
    """Return the file in which the policy is, or would be if sshd reads drop-ins: the drop-in or the main file."""
    main = servers.main_file(host)
    return main if sshd_config.holds_policy(files.text(main) or "") else host.at(paths.DROP_IN)


class _Run:
    """Hold what the steps of one run share."""

    def __init__(self, policy: Policy, host: Host) -> None:
        self._policy = policy
        self._host = host
        self._questions = Questions(host, prepares=True)
        self._servers = servers.find(host)
        if not self._servers:
            host.run("sshd", "-V")  # which says where it was looked for
        self._server = servers.primary(self._servers, host)
        self._main = files.main(self._server.main, host)
        self._transaction = Transaction(host, self._main)
        self._drop_in, self._profile, _ = self._transaction.files
        self._settings: Optional[Settings] = None
        self._verified: Dict[str, record.Inputs] = {}
        self._inputs: List[Tuple[Server, Reply]] = []
        self._notes: List[str] = []
        self._main_before: Dict[str, List[Any]] = {}
        # What keeps the text from being in force, though it is right and stays
        self._pending: List[SshdError] = []

    def do(self) -> Report:
        if self._policy.enabled:
            self._settings = self._translated()
            ways = self._ways(self._settings)
        elif os.path.isdir(os.path.dirname(self._host.at(paths.DROP_IN_FOLDER))):
            ways = [_DROP_IN]
        else:
            return Report(self._drop_in.path, self._policy, None, (), False, False, False)
        with self._transaction.exclusive():
            report = self._first_that_is_read(ways)
        self._note(report)
        if self._pending:
            problems = tuple(problem for error in self._pending for problem in error.problems)
            kind = UnansweredError if all(isinstance(one, UnansweredError) for one in self._pending) else SshdError
            raise kind(*problems)
        return report

    def _translated(self) -> Settings:
        version = self._questions.version(self._server)
        channel_timeout = None
        if self._policy.idle_timeout is not None and not openssh.has(version, "channel-timeout"):
            channel_timeout = self._questions.knows_channel_timeout(self._server)
        return openssh.translate(self._policy, version, channel_timeout)

    def _ways(self, settings: Settings) -> List[str]:
        is_ours_to_change = self._server.main == self._host.at(paths.MAIN)
        if not openssh.has(settings.version, "reads-drop-ins"):
            if not is_ours_to_change:
                version = "OpenSSH {}.{}".format(*settings.version)
                raise SshdError(Problem(f"{version} reads no drop-ins, and {self._server.main} is not ours to change"))
            return [_IN_MAIN]
        ways = [] if sshd_config.holds_policy(files.text(self._main.path) or "") else [_DROP_IN]
        return ways + ([_INCLUDED, _IN_MAIN] if is_ours_to_change else []) or [_DROP_IN]

    def _first_that_is_read(self, ways: Sequence[str]) -> Report:
        attempt = 1
        for position, way in enumerate(ways):
            while True:
                try:
                    return self._go(way)
                except NotReadError:
                    if position + 1 == len(ways):
                        raise
                    break
                except ChangedError:
                    if attempt == _ATTEMPTS:
                        raise
                    attempt += 1
                finally:
                    self._questions.forget_host_key()
            self._transaction.tidy()
        raise AssertionError("there is always a way")

    def _go(self, way: str) -> Report:
        main = files.text(self._server.main) or ""
        self._main_before = record.identify([self._server.main], ()).files
        texts = self._texts(way, main)
        with self._transaction.staged(texts):
            own = self._main if way == _IN_MAIN else self._drop_in
            if self._settings and own in texts:
                self._verify_candidate(self._settings, way == _IN_MAIN, main)
            restarted = self._put_in_force(texts, main, way == _IN_MAIN)
        file = self._server.main if way == _IN_MAIN else self._drop_in.path
        if not self._settings and self._main in texts:
            file = self._server.main
        starts_later = not any(server.listener for server in self._servers)
        return Report(file, self._policy, self._settings, tuple(self._notes), bool(texts), restarted, starts_later)

    def _texts(self, way: str, main: str) -> Texts:
        """Return what is to be written; what is there already is left out."""
        settings = self._settings
        texts: Texts = {self._drop_in: None, self._profile: None}
        if settings is None:
            if sshd_config.without_block(main) != main:
                texts[self._main] = sshd_config.without_block(main)
        else:
            if way != _IN_MAIN:
                texts[self._drop_in] = sshd_config.render(settings)
            if settings.tmout:
                texts[self._profile] = tmout.render(settings.tmout)
            if way == _INCLUDED:
                texts[self._main] = sshd_config.with_include(main, self._drop_in.path)
            elif way == _IN_MAIN:
                texts[self._main] = sshd_config.with_block(main, settings)
        unfinished = self._transaction.unfinished
        return {file: text for file, text in texts.items() if unfinished or not files.stands(file, text)}

    def _verify_candidate(self, settings: Settings, in_main: bool, main: str) -> None:
        """Verify a staged text as part of the whole configuration, but for what our own old text says there."""
        above = 0
        if in_main:
            candidate = self._main.temporary("new")
        else:
            # A copy of the main file, since an Include of it would be a level deeper.
            text = f"Include {self._drop_in.temporary('new')}\n{sshd_config.without_block(main)}"
            candidate = self._transaction.write_aside(self._drop_in, "main", text)
            above = 1
        connection = NOBODY
        chosen = connections.of_entries(settings, connection, self._host)
        try:
            for one in (connection, *chosen.connections):
                reply = self._questions.ask(self._server, one, candidate)
                if not verification.mismatches(self._expected(settings, one, reply), reply.values):
                    continue
                reply = self._questions.ask(self._server, one, candidate, traced=True)
                found = self._deviations(settings, one, reply, candidate)
                found = [one for one in found if not self._is_old(one)]
                self._raise_for(found, reply, in_main, candidate, above)
        except NotReadError:
            raise
        except SshdError as error:
            # What is refused may be what stands in our place now (cut off, a dangling link): its end is to show.
            if in_main or (self._drop_in.path not in str(error) and _TOO_DEEP not in str(error)):
                raise

    def _is_old(self, deviation: Deviation) -> bool:
        """Return whether a line of our own old text sets a value, which is going to be replaced."""
        return bool(deviation.set_by) and str(deviation.set_by).rpartition(":")[0] == self._drop_in.path

    @staticmethod
    def _expected(settings: Settings, connection: Connection, reply: Reply) -> openssh.Directives:
        return openssh.expected(settings, connection) if reply.about else settings.directives

    def _deviations(self, settings: Settings, one: Connection, reply: Reply, main: str) -> List[Deviation]:
        ours = (self._drop_in.path, self._drop_in.temporary("new"))
        return verification.deviations(self._server, settings, one, reply, main, ours)

    def _raise_for(self, found: List[Deviation], reply: Reply, in_main: bool, main: str, above: int) -> None:
        """Raise NotReadError if deviations show that our lines are not read, else SshdError if there are any."""
        if not found:
            return
        ours = (self._drop_in.path, self._drop_in.temporary("new"))
        unread = not any(trace.is_read(file, reply.trace) for file in ours)
        # OpenSSH 8.2 and 8.3 skip Match in included files unless the main file has one.
        skipped = any(one.set_by and one.set_by.rpartition(":")[0] in ours for one in found)
        if not in_main and (unread or skipped) and not any((one.set_by or "").startswith("-o ") for one in found):
            problem = self._not_read()
            raise NotReadError(*(problem._replace(message=f"{one.message}: {problem.message}") for one in found))
        shown = [one._replace(set_by=self._as_it_was(one.set_by, main, above)) for one in found]
        raise SshdError(*(verification.problem(one, self._server) for one in shown))

    def _as_it_was(self, place: Optional[str], main: str, above: int) -> Optional[str]:
        """Return a line of a candidate or of a main file with our block as it is without those."""
        if place is None or place.rpartition(":")[0] not in (main, self._server.main, self._main.path):
            return place
        file, _, line = place.rpartition(":")
        before = above if file == main and above else sshd_config.lines_before(files.text(file) or "")
        return f"{self._server.main}:{int(line) - before}"

    def _not_read(self) -> Problem:
        message = f"{self._server.main} does not read {self._drop_in.path}"
        return Problem(message, f"put 'Include {self._drop_in.path}' on its first line, and restart sshd")

    def _put_in_force(self, texts: Texts, main: str, in_main: bool) -> bool:
        """Replace files with staged texts, verify them and restart the servers that have not read them, or undo it all.

        Return whether one was restarted.
        """
        self._pending = []
        self._notes = []
        restarting: List[Server] = []
        try:
            with contextlib.ExitStack() as stack:
                for file, text in texts.items():
                    before = main if file == self._main else None
                    stack.enter_context(self._transaction.replaced(file, text, before))
                # Found anew after that: one that starts from here on reads the new text by itself.
                self._servers = self._found_again() if texts else self._servers
                is_changed = bool(set(texts) - {self._profile}) or self._transaction.unfinished
                self._verify_in_place(in_main)
                for server, reply in self._inputs:
                    if self._must_read(server, reply, is_changed):
                        self._bring_into_force(server, reply, restarting)
        except BaseException as error:
            if not restarting:
                raise
            states = [self._recover(server) for server in restarting]
            if not isinstance(error, SshdError):
                raise
            message = f"{error}; the old configuration is back, sshd is {', '.join(states)}"
            raise SshdError(Problem(message)) from error
        return bool(restarting)

    def _found_again(self) -> List[Server]:
        """Return the servers as they are now; without any process of sshd's, as before, they are as they were."""
        if not any(server.listener for server in self._servers) and not processes.is_any(self._host):
            return self._servers
        return servers.find(self._host) or self._servers

    def _verify_in_place(self, in_main: bool) -> None:
        """Verify what the files say now for each server; raise SshdError if the main one does not enforce it."""
        self._inputs = []
        asked: Dict[str, Reply] = {}
        self._server = servers.primary(self._servers, self._host)
        runs = any(server.listener for server in self._servers)
        if not self._settings and not runs:
            return
        for server in (self._server, *(one for one in self._servers if one is not self._server)):
            known = asked.get(record.key(server))
            if known is None:
                try:
                    known = self._verified_reply(server, in_main)
                except SshdError as error:
                    if server is self._server:
                        raise
                    self._pending.append(error)
                    continue
                asked[record.key(server)] = known
            self._inputs.append((server, known))

    def _verified_reply(self, server: Server, in_main: bool) -> Reply:
        """Return a traced reply about nobody, once nobody, root and one of each match entry are verified."""
        settings = self._settings
        reply = self._questions.ask(server, NOBODY, traced=True)
        if settings is None:
            return reply
        if server.main == self._server.main and server.program == self._server.program:
            self._check_size(reply, settings)
        like = connections.nobody(verification.reported(reply.values))
        if like != NOBODY:
            reply = self._questions.ask(server, like, traced=True)
        if not reply.about:
            self._notes.append("no match entry is verified, since a name service here does not answer")
            self._verify_one(server, settings, like, reply, in_main)
            return reply
        self._verify_one(server, settings, like, reply, in_main)
        chosen = connections.of_entries(settings, like, self._host)
        root = connections.root(like, settings, self._host)
        if server is self._server:
            self._notes += chosen.notes
        for one in (root, *chosen.connections):
            if one is not None:
                about = self._questions.ask(server, one, traced=True)
                self._verify_one(server, settings, one, about, in_main, is_root=one is root)
        if chosen.notes and not in_main:
            read = trace.matches(reply.trace)
            if any(sshd_config.criterion(entry) not in read for entry, _ in settings.blocks):
                raise NotReadError(self._not_read())
        return reply

    def _verify_one(
        self,
        server: Server,
        settings: Settings,
        one: Connection,
        reply: Reply,
        in_main: bool,
        is_root: bool = False,
    ) -> None:
        main = next(iter(trace.files(reply.trace)), server.main)
        ours = (self._drop_in.path,)
        found = verification.deviations(server, settings, one, reply, main, ours)
        if is_root:
            exceptions = [deviation for deviation in found if _is_for_root(deviation, reply)]
            self._notes += [str(verification.problem(deviation, server)) for deviation in exceptions]
            found = [deviation for deviation in found if deviation not in exceptions]
        if server is self._server:
            self._raise_for(found, reply, in_main, main, 0)
        elif found and not trace.is_read(self._drop_in.path, reply.trace):
            include = f"put 'Include {self._drop_in.path}' on its first line, then {server.restart_command}"
            raise SshdError(Problem(f"{server.name} reads {main}, which does not read {self._drop_in.path}", include))
        elif found:
            raise SshdError(*(verification.problem(deviation, server) for deviation in found))

    @staticmethod
    def _check_size(reply: Reply, settings: Settings) -> None:
        """Raise SshdError if sshd would refuse logins for the size of its files; sshd -t and sshd -T do not say."""
        size = trace.size(reply.trace)
        if openssh.has(settings.version, "takes-256-kib") and size > _MOST_BYTES:
            message = f"sshd's configuration would have {size} bytes, above 256 KiB this version refuses every login"
            raise SshdError(Problem(message, "shorten it"))

    # What has been read

    def _identified(self, reply: Reply) -> record.Inputs:
        folders = {os.path.dirname(include.pattern) for include in trace.includes(reply.trace)}
        return record.identify(trace.files(reply.trace), sorted(folders))

    def _must_read(self, server: Server, reply: Reply, is_changed: bool) -> bool:
        """Return whether a server that listens has not read what is there now, as far as that is ours to mend."""
        if server.listener is None or (server.unit and server.unit.is_template):
            return False
        if is_changed:
            return True
        reading = record.reading(server, self._identified(reply), record.load(self._host), _pid_file(reply), self._host)
        ours = {self._drop_in.path, self._main.path, self._server.main}
        if reading.is_current or not ours & set(reading.changed):
            return False
        if not self._host.attended:
            names = ", ".join(sorted(ours & set(reading.changed)))
            self._notes.append(f"whether {server.name} has read {names} is not known, {server.restart_command} tells it")
        return self._host.attended

    def _bring_into_force(self, server: Server, reply: Reply, restarting: List[Server]) -> None:
        """Have a server read its files, if it reads nothing that others have changed since it last did."""
        obstacles = self._obstacles(server, reply)
        file = self._drop_in.path
        if obstacles:
            message = f"{file} is written, but {server.name} was not restarted, since {'; '.join(obstacles)}"
            self._pending.append(SshdError(Problem(message, f"{server.restart_command} brings all of that into force")))
            return
        try:
            if server.unit or server.script:
                self._questions.check(server)
                restarting.append(server)
                if server.unit:
                    service.restart(server.unit, self._host)
                elif server.script:
                    server.script.restart(self._host)
            elif server.listener and self._host.attended and server.listener.pid != 1:
                self._questions.check(server)
                _signal(server, self._host)
                restarting.append(server)
            else:
                message = f"{file} is written, but {server.name} is no service's and has not read it"
                self._pending.append(SshdError(Problem(message, server.restart_command)))
        except UnansweredError as error:
            self._pending.append(error)

    def _obstacles(self, server: Server, reply: Reply) -> List[str]:
        """Return why a server is not to be restarted for our text."""
        found = []
        if server.unit and server.unit.is_starting:
            found.append(f"{server.unit.name} is starting")
        inputs = self._identified(reply)
        folder = self._host.at(paths.DROP_IN_FOLDER)
        if self._transaction.folder_times and folder in inputs.folders:
            # Before this run came to it
            inputs.folders[folder] = self._transaction.folder_times[1]
        inputs.files.update(self._main_before)
        ours = (self._drop_in.path, self._drop_in.temporary("new"))
        noted = record.load(self._host)
        if noted:
            entries = tuple(entry._replace(inputs=entry.inputs.without(ours)) for entry in noted.entries)
            noted = noted._replace(entries=entries)
        reading = record.reading(server, inputs.without(self._own_files()), noted, _pid_file(reply), self._host)
        if not reading.is_current:
            names = [name for name in reading.changed if name not in self._own_files()]
            if names:
                found.append(f"{', '.join(names)} may have changed since it read that")
        missing = _addresses_missing(server, reply)
        if missing:
            found.append(f"its configuration now has {', '.join(missing)}, on which it does not listen")
        return found

    def _own_files(self) -> Tuple[str, ...]:
        return (self._drop_in.path,)

    def _recover(self, server: Server) -> str:
        self._host.spend_reserve()
        if server.unit:
            return service.recover(server.unit, self._host)
        if server.script:
            return server.script.recover(self._host)
        with contextlib.suppress(SshdError, OSError):
            _signal(server, self._host)
            return "active"
        return "in an unknown state"

    def _note(self, report: Report) -> None:
        """Note what was verified, and who has read it, for status and for the next run."""
        if not self._settings:
            with contextlib.suppress(OSError):
                os.unlink(self._host.at(paths.RECORD))
            return
        old = record.load(self._host)
        now = self._found_again() if report.restarted else self._servers
        by_key = {record.key(server): reply for server, reply in self._inputs}
        entries = []
        for server in now:
            reply = by_key.get(record.key(server))
            if reply is None:
                continue
            inputs = self._identified(reply)
            generation = None
            if server.listener:
                reading = record.reading(server, inputs, old, _pid_file(reply), self._host)
                if not report.restarted and not reading.is_current:
                    entries += [entry for entry in (old.entries if old else ()) if entry.server == record.key(server)]
                    continue
                generation = record.generation(server.listener)
            entries.append(record.Entry(record.key(server), inputs, self._policy.section(), generation))
        record.save(entries, self._host)


def _pid_file(reply: Reply) -> str:
    return next(iter(verification.reported(reply.values).get("pidfile", ())), "none")


def _is_for_root(deviation: Deviation, reply: Reply) -> bool:
    """Return whether a value is set by lines that name root, and hold for no other account."""
    named = [match for match, fits in trace.matches(reply.trace).items() if fits]
    return any(
        criterion in ("user", "group") and "root" in patterns
        for match in named
        for criterion, patterns in trace.criteria(match)
    )


def _addresses_missing(server: Server, reply: Reply) -> List[str]:
    """Return the addresses that a server's configuration names now, and on which it does not listen."""
    listener = server.listener
    if listener is None or not listener.addresses or (server.unit and server.unit.is_activated):
        return []
    wildcards = ("0.0.0.0", "::")
    listened = {("*" if address in wildcards else address, port) for address, port in listener.addresses}
    found = []
    for shown in verification.reported(reply.values).get("listenaddress", ()):
        address, _, port = shown.rpartition(":")
        bare = address.strip("[]")
        # Without IPv6 it listens on the other wildcard alone.
        if ("*" if bare in wildcards else bare, int(port)) not in listened:
            found.append(f"ListenAddress {shown}")
    return found


def _signal(server: Server, host: Host) -> None:
    """Have a process that is no service's read its files anew; raise SshdError if it does not live on."""
    before = server.listener
    if before is None:
        return
    os.kill(before.pid, signal.SIGHUP)
    end = time.monotonic() + _SIGNAL_SECONDS
    while time.monotonic() < end:
        now = next((one for one in processes.listeners(host) if one.pid == before.pid), None)
        if now and now.began == before.began and now.sockets != before.sockets:
            return
        time.sleep(0.05)
    raise SshdError(Problem(f"{server.name} does not listen again after kill -HUP", "start it by hand"))
