# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The way of a policy into the sshd servers of this machine."""

import contextlib
import os
from typing import Iterator, List, NamedTuple, Optional, Sequence, Tuple

from .. import openssh, paths, sshd_config
from ..openssh import Settings
from ..policy import KEY, Policy, PolicyError
from . import audit, files, processes, record, servers, ways
from .audit import Audit
from .files import ChangedError, Transaction
from .host import Host, SlowError
from .interrupts import Interrupts
from .judgement import Judge
from .problem import RUN_AGAIN, NotReadError, Problem, SshdError, UnansweredError
from .questions import Questions
from .restarts import Restarts
from .servers import Server
from .ways import Texts

# How often somebody else may change a file while it is about to be replaced
_ATTEMPTS = 3
_OFF = "off, sshd keeps its other settings"


class Report(NamedTuple):
    """Say what was done, and what is in effect; `settings` are None for a policy that is off."""

    file: str
    policy: Policy
    settings: Optional[Settings]
    notes: Tuple[str, ...]
    changed: bool
    restarted: bool
    starts_later: bool

    def __str__(self) -> str:
        does = _OFF
        if self.settings:
            values = ", ".join(f"{keyword} {value}" for keyword, value in self.settings.directives)
            version = openssh.name_of(self.settings.version)
            promise = ", ".join(openssh.promises(self.settings))
            does = f"{promise} ({' on '.join(filter(None, (values, version)))})"
        return "; ".join((f"{KEY}: {does}", *self.notes, self._done()))

    def lines(self) -> List[str]:
        """Return it for a terminal, the values left out, which are in the file."""
        does = [_OFF]
        if self.settings:
            promises = (f"  {promise}" for promise in openssh.promises(self.settings))
            verb = "written for" if self.starts_later else "enforced on"
            does = [f"{verb} {openssh.name_of(self.settings.version)}:", *promises]
        return [*does, *(f"note: {note}" for note in self.notes), self._done()]

    def _done(self) -> str:
        done = f"{self.file} {'changed' if self.changed else 'unchanged'}"
        if self.restarted:
            return f"{done}, sshd restarted"
        if self.changed and self.starts_later:
            return f"{done}, sshd reads it when it starts"
        return done


def apply(policy: Policy, host: Host) -> Report:
    """Have the sshd servers of a machine enforce a policy, and return what is in effect.

    Raise PolicyError if this OpenSSH cannot, and SshdError if one of them does not. All files are then as they were,
    and sshd runs if it did; but what is verified and only waits for a restart that is not ours to decide, stays.
    """
    with _exclusive(host) as interrupts:
        return _Run(policy, host, interrupts).do()


@contextlib.contextmanager
def _exclusive(host: Host) -> Iterator[Interrupts]:
    """Keep other runs out, and raise SshdError for what the system refuses; say what Ctrl-C has left."""
    interrupts = Interrupts()
    try:
        with interrupts, files.exclusive(host):
            yield interrupts
    except KeyboardInterrupt as error:
        # Once it was held, all is done, and it comes late.
        raise KeyboardInterrupt(*(error.args or (() if interrupts.held else ("nothing was changed",)))) from None
    except OSError as error:
        words = ": ".join(map(str, filter(None, (error.filename, error.strerror or type(error).__name__))))
        raise SshdError(Problem(words)) from error


def reapply(host: Host) -> Optional[Report]:
    """Translate the policy in effect for the OpenSSH that is here now, as after an upgrade; None without a policy.

    Raise PolicyError or SshdError if that cannot be done.
    """
    with _exclusive(host) as interrupts:
        file = files.policy_file(host)
        text = files.text(file)
        if text is None:
            return None
        policy = sshd_config.read_policy(text)
        if policy is None:
            remedy = f"{RUN_AGAIN}, or ssh-keepalive apply FILE"
            raise SshdError(Problem(f"{file}: has no policy line that can be read", remedy))
        return _Run(policy, host, interrupts).do()


class _Run:
    """Hold what the steps of one run share."""

    def __init__(self, policy: Policy, host: Host, interrupts: Interrupts) -> None:
        self._policy = policy
        self._host = host
        self._interrupts = interrupts
        self._questions = Questions(host, prepares=True)
        self._servers = servers.find(host)
        # A policy is taken off also where no sshd is left that could have it.
        is_needless = not policy.enabled and not self._servers
        self._server = servers.none(host) if is_needless else servers.primary(self._servers, host)
        self._transaction = Transaction(host, files.main(self._server.main, host))
        self._drop_in, self._profile, self._main = self._transaction.files
        self._settings: Optional[Settings] = None
        self._audits: List[Audit] = []
        self._judge = Judge(self._drop_in, self._main, host)
        self._restarts = Restarts(self._transaction, self._questions, host)
        # What other servers than the machine's own do not do
        self._failures: List[SshdError] = []
        self._notes: List[str] = []

    def do(self) -> Report:
        if self._policy.enabled:
            self._settings = audit.translated(self._policy, self._server, self._questions)
            possible = ways.possible(self._settings, self._server.main, self._host)
        elif os.path.isdir(self._host.at(paths.SSH)):
            possible = [ways.DROP_IN]
        else:
            return Report(self._drop_in.path, self._policy, None, (), False, False, False)
        try:
            with self._transaction.tidied([server.listener for server in self._servers if server.listener]):
                report = self._in_the_first_way_that_is_read(possible)
        except (SshdError, KeyboardInterrupt):
            if self._restarts.done:
                with contextlib.suppress(OSError, SshdError):
                    audit.note_restored(self._audits, servers.find(self._host), self._restarts.done, self._host)
            raise
        # What was done is done, and without a record some things are not known.
        with contextlib.suppress(OSError, SshdError):
            self._note()
        failures = [*self._failures, *self._restarts.pending]
        if failures:
            is_unknown = all(isinstance(error, UnansweredError) for error in failures)
            problems = [problem for error in failures for problem in error.problems]
            raise (UnansweredError if is_unknown else SshdError)(*problems)
        if (self._restarts.done or self._host.attended) and self._host.runs_systemd:
            # What the unit has said of the time before: a restart that ignores dependencies does not start it again.
            with contextlib.suppress(OSError, SshdError):
                self._host.run("systemctl", "reset-failed", paths.UNIT)
        return report

    def _in_the_first_way_that_is_read(self, possible: Sequence[str]) -> Report:
        attempt = 1
        for way in possible:
            while True:
                try:
                    return self._go(way)
                except NotReadError:
                    if way == possible[-1]:
                        raise
                    break
                except ChangedError:
                    if attempt == _ATTEMPTS:
                        raise
                    attempt += 1
                finally:
                    # What cannot be taken away is overwritten, and is no failure.
                    with contextlib.suppress(OSError):
                        self._transaction.tidy()
                    self._questions.forget_host_key()
        raise AssertionError("there is always a way")

    def _go(self, way: str) -> Report:
        self._interrupts.release()
        main = self._judge.old_main = self._transaction.text_of_main()
        texts = self._texts(way, main)
        with self._transaction.staged(texts):
            if self._settings and (self._main if way == ways.IN_MAIN else self._drop_in) in texts:
                self._verify_candidate(self._settings, way == ways.IN_MAIN, main)
            self._put_in_effect(texts, main, way == ways.IN_MAIN)
        is_main = way == ways.IN_MAIN or (not self._settings and self._main in texts)
        file = self._server.main if is_main else self._drop_in.path
        notes = (*self._notes, *_failures_of_units(self._servers))
        runs = any(server.listener for server in self._servers)
        return Report(file, self._policy, self._settings, notes, bool(texts), bool(self._restarts.done), not runs)

    def _texts(self, way: str, main: str) -> Texts:
        """Return what is to be written; what is there already is left out."""
        texts = ways.texts(way, self._settings, self._transaction.files, main)
        unfinished = self._transaction.unfinished
        return {file: text for file, text in texts.items() if unfinished or not files.stands(file, text)}

    def _verify_candidate(self, settings: Settings, in_main: bool, main: str) -> None:
        """Verify a staged text as part of the whole configuration, but for what our own old text says there."""
        candidate = self._main.temporary("new")
        above = 0
        if not in_main:
            # A copy of the main file, since an Include of it would be a level deeper.
            text = f"Include {self._drop_in.temporary('new')}\n{sshd_config.without_block(main)}"
            candidate = self._transaction.write_aside(self._drop_in, "main", text)
            above = 1
        try:
            found = audit.audit_candidate(self._server, settings, self._questions, self._host, candidate)
            if found:
                self._judge.check_candidate(found, in_main, above)
        except (NotReadError, SlowError):
            raise
        except SshdError as error:
            # What is refused may be what stands in our place now (cut off, a dangling link): its end is to show.
            if in_main or self._drop_in.path not in str(error):
                if candidate in str(error):
                    # sshd's own file has the name and the lines that people know.
                    self._questions.ask(self._server, openssh.NOBODY)
                raise

    def _put_in_effect(self, texts: Texts, main: str, in_main: bool) -> None:
        """Replace files with staged texts, verify them and restart the servers that must read them, or undo it all."""
        # A mode or an owner that is mended is nothing to be read.
        is_changed = self._transaction.unfinished or any(
            not files.says(file, text) for file, text in texts.items() if file != self._profile
        )
        try:
            with contextlib.ExitStack() as stack:
                try:
                    for file, text in texts.items():
                        before = main if file == self._main else None
                        stack.enter_context(self._transaction.replaced(file, text, before))
                    if texts:
                        self._find_again()
                    place = self._server.main if in_main else self._drop_in.path
                    self._verify(in_main, place)
                    self._restarts.put_in_effect(self._audits, is_changed, place)
                    self._audits = [one for one in self._audits if one.server not in self._restarts.doubtful]
                finally:
                    # The files are now restored, all of them or none.
                    self._interrupts.hold()
        except BaseException as error:
            if not self._restarts.done:
                raise
            restored = f"the old configuration is restored, sshd is {self._restarts.undo()}"
            if isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt(restored) from None
            if not isinstance(error, SshdError):
                raise
            raise SshdError(Problem(f"{error}; {restored}")) from error

    def _find_again(self) -> None:
        """Find the servers as they are now: one that starts from here on reads the new text by itself."""
        if any(server.listener for server in self._servers) or processes.is_any(self._host):
            self._servers = servers.find(self._host)
            starting = [server.unit for server in self._servers if server.unit and server.unit.is_reading]
            for unit in starting:
                from . import service

                service.wait(unit, self._host)
            if starting:
                self._servers = servers.find(self._host)
            self._server = servers.primary(self._servers, self._host)

    def _verify(self, in_main: bool, place: str) -> None:
        """Verify what the files say now for each server; raise SshdError if the main one does not enforce it."""
        self._audits, self._failures, self._notes = [], [], []
        if not self._settings and not any(server.listener for server in self._servers):
            return
        found = audit.audit(self._server, self._settings, self._questions, self._host)
        if self._settings:
            self._notes = self._judge.check(found, self._settings, in_main)
        self._audits.append(found)
        for server in self._servers:
            if server is self._server:
                continue
            same = next((one for one in self._audits if record.key(one.server) == record.key(server)), None)
            if same:
                self._audits.append(same._replace(server=server))
                continue
            try:
                settings = self._settings and audit.settings_for(server, self._settings, self._questions)
                other = audit.audit(server, settings, self._questions, self._host)
            except SshdError as error:
                if _is_refusal_of(place, error):
                    raise
                self._failures.append(error)
                continue
            except PolicyError as error:
                _raise_if_refused(server, place, error, self._questions)
                self._failures.append(SshdError(Problem(str(error))))
                continue
            problems = self._judge.problems_of_another(other)
            self._failures += [SshdError(*problems)] if problems else []
            if other.includes(place):
                self._audits.append(other)

    def _note(self) -> None:
        if self._restarts.done:
            self._servers = servers.find(self._host)
        if self._settings or self._restarts.done:
            audit.note(self._audits, self._servers, self._restarts.done, self._host)
        elif not self._audits:
            record.forget(self._host)


def _failures_of_units(found: Sequence[Server]) -> List[str]:
    """Return what is to be said of units that have failed, whatever is in sshd's files."""
    return [f"{server.service} has failed ({server.failure})" for server in found if server.failure]


def _raise_if_refused(server: Server, place: str, error: PolicyError, questions: Questions) -> None:
    """Raise SshdError if what is written keeps another server, whose program cannot have it, from starting."""
    try:
        questions.ask(server, openssh.NOBODY)
    except SshdError as refusal:
        if _is_refusal_of(place, refusal):
            raise SshdError(Problem(f"{server.name} would not start with it: {error}")) from None


def _is_refusal_of(place: str, error: SshdError) -> bool:
    """Return whether an sshd refuses its configuration for a file."""
    return not isinstance(error, (SlowError, UnansweredError)) and place in str(error)
