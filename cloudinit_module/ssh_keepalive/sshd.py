# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The sshd of this machine."""

import contextlib
import fcntl
import grp
import ipaddress
import logging
import os
import pwd
import shutil
import signal
import subprocess
import time
from typing import Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from . import dropin, openssh, tmout
from .policy import KEY, Entry, Policy
from .trace import complaint

LOG = logging.getLogger(__name__)

_COMMAND_SECONDS = 10.0
# What all commands together may take, and what is kept of it for the way back.
_TOTAL_SECONDS = 40.0
_WAY_BACK_SECONDS = 15.0

# One who cannot exist, from and to where nobody is (RFC 5737), so that no Match block for somebody answers for all.
_NOBODY = openssh.Connection(".invalid", (), "192.0.2.1")
# Complete, because a Match on what is missing makes sshd fail (8.4 to 10.6; to them port 0 is missing, too).
_CONNECTION = "user={},host=.invalid,addr={},laddr=192.0.2.1,lport=1"


class SshdError(Exception):
    """Say why the machine does not keep the policy; everything is as it was before."""


class UnansweredError(SshdError):
    """Say why sshd cannot be asked."""


class Report(NamedTuple):
    """Say what is in force; `unproved` are the match entries for which nobody could be asked about."""

    file: str
    policy: Policy
    version: Optional[openssh.Version]
    expression: Optional[openssh.Expression]
    unproved: Tuple[str, ...]
    changed: bool
    restarted: bool

    def __str__(self) -> str:
        promise = "off, sshd keeps its other settings"
        if self.expression and self.version:
            values = ", ".join("{} {}".format(*directive) for directive in self.expression.directives)
            openssh_version = "OpenSSH {}.{}".format(*self.version)
            promise = self.promise()
            promise += " ({})".format(" on ".join(filter(None, (values, openssh_version))))
        file = "{} {}".format(self.file, "changed" if self.changed else "unchanged")
        if self.restarted:
            file += ", sshd restarted"
        elif self.changed:
            file += ", sshd reads it when it starts"
        return "; ".join(("{}: {}".format(KEY, promise), *self.unproved, file))

    def promise(self) -> str:
        """Return what sshd does, in words."""
        return ", ".join(self._promises(self.expression)) if self.expression else ""

    def _promises(self, expression: openssh.Expression) -> Iterator[str]:
        if expression.dropped_after is not None:
            yield "a client that stopped answering is gone {} s after its last sign of life".format(
                expression.dropped_after
            )
        elif "ClientAliveInterval" in dict(expression.directives):
            yield "sshd drops no silent client"
        else:
            yield "sshd keeps its own setting for silent clients"
        if expression.tmout:
            yield "a shell that waits at its prompt ends after {} s".format(expression.tmout)
        elif self.policy.idle_timeout:
            yield "a session without traffic ends after {} s".format(self.policy.idle_timeout)
        elif self.policy.idle_timeout == 0:
            yield "no idle session is ended"
        if expression.blocks:
            yield "other times for those whom match names"


class _Answer(NamedTuple):
    code: int
    out: str
    err: str

    def last_words(self) -> str:
        """Return the end of what a failed command said, in one line."""
        said = [line.strip() for line in (self.err or self.out).splitlines() if line.strip()]
        return " / ".join(said[-3:])[-400:] or "exit {} without a word".format(self.code)


class Sshd:
    """Talk to one machine's sshd; paths and the folders to look for commands in are the machine's own unless told."""

    def __init__(
        self,
        services: Tuple[str, ...] = ("ssh", "sshd"),
        ssh: str = "/etc/ssh",
        vendor_ssh: str = "/usr/etc/ssh",
        profile: str = "/etc/profile.d",
        run: str = "/run",
        path: str = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin",
    ) -> None:
        # SUSE has its main file in /usr/etc alone: one in /etc/ssh would replace it.
        etc_main, vendor_main = os.path.join(ssh, "sshd_config"), os.path.join(vendor_ssh, "sshd_config")
        self.main = vendor_main if os.path.exists(vendor_main) and not os.path.exists(etc_main) else etc_main
        self.folder = os.path.join(ssh, "sshd_config.d")
        self.file = os.path.join(self.folder, dropin.NAME)
        self.tmout_file = os.path.join(profile, tmout.NAME)
        self._services = services
        self._run_folder = run
        self._path = path
        self._end = time.monotonic() + _TOTAL_SECONDS
        self._reserve = _WAY_BACK_SECONDS
        self._host_key: List[str] = []

    def version(self) -> openssh.Version:
        """Ask sshd for its version."""
        # Older ones know no -V and answer with a usage text that names the version, at exit 1.
        answer = self._run("sshd", "-V")
        version = openssh.parse_version(answer.err + answer.out)
        if version is None:
            raise SshdError("sshd -V names no OpenSSH version: {}".format(answer.last_words()))
        return version

    def knows(self, keyword: str, value: str) -> bool:
        """Ask sshd whether it knows a keyword."""
        answer = self._run("sshd", "-t", "-f", os.devnull, "-o", "{}={}".format(keyword, value))
        return "Bad configuration option" not in answer.err

    def prove(self, expression: openssh.Expression, main: Optional[str] = None) -> Tuple[str, ...]:
        """Ask sshd whether it keeps an expression with its own (or another) main file; raise SshdError if not.

        It is asked for one whom no entry fits, and for one whom each fits. Return the entries where nobody does.
        """
        unproved = []
        self._prove_for(_NOBODY, expression, main)
        for position, (entry, _) in enumerate(expression.blocks):
            connection = _somebody(entry)
            if connection:
                self._prove_for(connection, expression, main)
            else:
                who = "{} {}".format(entry.criterion, ",".join(entry.patterns))
                unproved.append("match[{}] is not proved, nobody of {} is known here yet".format(position, who))
        return tuple(unproved)

    def _prove_for(self, connection: openssh.Connection, expression: openssh.Expression, main: Optional[str]) -> None:
        answer = self._effective(connection, main)
        if answer.code != 0:
            raise SshdError("sshd refuses its configuration: {}".format(answer.last_words()))
        wrong = dropin.mismatches(openssh.wanted(expression, connection), answer.out)
        if wrong:
            trace = self._effective(connection, main, "-ddd").err
            raise SshdError("; ".join(self._explain(mismatch, connection, trace) for mismatch in wrong))

    def _explain(self, mismatch: dropin.Mismatch, connection: openssh.Connection, trace: str) -> str:
        keyword, wanted, reported = mismatch
        who = "" if connection == _NOBODY else " for user {} from {}".format(connection.user, connection.address)
        if reported is None:
            return "sshd -T does not report {}, {} is wanted{}".format(keyword, wanted, who)
        said = "{} is {} where {} is wanted{}".format(keyword, reported, wanted, who)
        place = dropin.winner(keyword, trace, self.main)
        if place and place.rpartition(":")[0] in (self.file, self._aside(self.file, "new")):
            # OpenSSH 8.2 and 8.3 skip Match in included files unless the main file has one.
            return "{}: sshd takes no Match from {}, put 'Match all' on the last line of {}".format(
                said, self.file, self.main
            )
        if place:
            return "{}: {} sets it and wins, remove that line".format(said, place)
        include = "Include {}/*.conf".format(self.folder)
        return "{}: {} does not read {}, put '{}' on its first line".format(said, self.main, self.file, include)

    def _effective(self, connection: openssh.Connection, main: Optional[str], *options: str) -> _Answer:
        self._make_privilege_separation_folder()
        who = _CONNECTION.format(connection.user, connection.address)
        arguments = ["-T", "-C", who, *options, *(["-f", main] if main else [])]
        answer = self._run("sshd", *self._host_key, *arguments)
        if answer.code != 0 and "no hostkeys available" in answer.err and not self._host_key:
            self._make_host_key()
            answer = self._run("sshd", *self._host_key, *arguments)
        return answer

    def ask(self, connection: Mapping[str, str], version: openssh.Version) -> Tuple[str, str]:
        """Ask sshd about a connection, changing nothing; return the values that it reports, and its trace.

        Raise UnansweredError if it cannot say, and SshdError if it refuses its configuration.
        """
        who = ",".join("{}={}".format(*item) for item in sorted(connection.items()))
        # With -G it wants neither host keys nor /run/sshd.
        options = ["-G"] if openssh.has(version, "shows-configuration") else []
        answer = self._run("sshd", *options, "-T", "-ddd", "-C", who)
        if answer.code != 0:
            said = answer._replace(err=complaint(answer.err)).last_words()
            if "privilege separation directory" in said or "no hostkeys available" in said:
                raise UnansweredError("sshd -T answers once sshd has started: {}".format(said))
            raise SshdError("sshd refuses its configuration: {}".format(said))
        return answer.out, answer.err

    def _make_privilege_separation_folder(self) -> None:
        """Make what sshd wants to see before its first start, for good: a running sshd refuses logins without it."""
        folder = os.path.join(self._run_folder, "sshd")
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder)
            os.chmod(folder, 0o755)

    def _make_host_key(self) -> None:
        """Make a key for asking alone, where the machine has none yet; sshd answers nothing without one."""
        key = self._aside(self.file, "key")
        # ECDSA is what FIPS mode allows too
        answer = self._run("ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", key)
        if answer.code != 0:
            raise SshdError("no host keys, and none can be made: {}".format(answer.last_words()))
        self._host_key = ["-h", key]

    def _aside(self, file: str, purpose: str) -> str:
        """Return the name of a file that nobody reads (a dot file), on the same file system."""
        return "{}/.{}.{}".format(*os.path.split(file), purpose)

    @contextlib.contextmanager
    def alone(self) -> Iterator[bool]:
        """Keep other runs out; take away what this one leaves beside the drop-in, and what a killed one has left.

        Yield whether there was such a one: it may have landed a drop-in that the running sshd has not read.
        """
        made_folder = not os.path.isdir(self.folder)
        if made_folder:
            os.makedirs(self.folder)
            os.chmod(self.folder, 0o755)
        lock = os.open(self.folder, os.O_RDONLY)
        try:
            self._wait_for(lock)
            unfinished = self._tidy()
            try:
                yield unfinished
            finally:
                self._tidy()
        except BaseException:
            if made_folder:
                with contextlib.suppress(OSError):
                    os.rmdir(self.folder)
            raise
        finally:
            os.close(lock)

    def _wait_for(self, lock: int) -> None:
        while True:
            try:
                return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if self._seconds_left() <= 0:
                    raise SshdError("another run holds {} for too long".format(self.folder)) from None
                time.sleep(0.1)

    def _tidy(self) -> bool:
        found = False
        for file in (self.file, self.tmout_file):
            for purpose in ("new", "key", "key.pub", "old", "main"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._aside(file, purpose))
                    found = True
        return found

    def text(self, file: str) -> Optional[str]:
        """Return the text of a file, None without one."""
        try:
            with open(file, encoding="utf-8", errors="replace") as stream:
                return stream.read()
        except FileNotFoundError:
            return None

    def prepare(self, texts: Mapping[str, Optional[str]]) -> None:
        """Write the texts of files aside."""
        for file, text in texts.items():
            if text is not None:
                # Other drop-ins are root's alone, but every shell reads the profile.
                self._write(self._aside(file, "new"), text, 0o600 if file == self.file else 0o644)

    def candidate(self) -> str:
        """Return a main file that has sshd read the prepared drop-in before everything else that it reads."""
        main = self._aside(self.file, "main")
        self._write(main, "Include {}\nInclude {}\n".format(self._aside(self.file, "new"), self.main), 0o600)
        return main

    @contextlib.contextmanager
    def landed(self, file: str, text: Optional[str]) -> Iterator[None]:
        """Put a prepared text (None: nothing) in a file's place; put the old one back if the body fails.

        Both are one step: whoever looks, and whenever we are killed, finds the old text or the new one, whole.
        """
        old = self._aside(file, "old") if os.path.lexists(file) else None
        if old:
            # A second name for the old file needs no space on the disk, and comes back whole by a rename.
            os.link(file, old, follow_symlinks=False)
        try:
            if text is not None:
                os.rename(self._aside(file, "new"), file)
                self._sync_folder(file)
            elif old:
                os.unlink(file)
                self._sync_folder(file)
            yield
        except BaseException:
            if old:
                os.rename(old, file)
                self._sync_folder(file)
            elif text is not None:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(file)
                self._sync_folder(file)
            raise

    def _write(self, file: str, text: str, mode: int) -> None:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with open(descriptor, "w", encoding="utf-8") as stream:
            os.fchmod(descriptor, mode)
            stream.write(text)
            stream.flush()
            os.fsync(descriptor)

    def _sync_folder(self, file: str) -> None:
        descriptor = os.open(os.path.dirname(file), os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def running(self) -> Optional[str]:
        """Return the name of the service under which sshd runs or is about to, None if it does not."""
        states = ("active", "activating", "reloading")
        return next((service for service in self._services if self._state(service) in states), None)

    def restart(self, service: str) -> None:
        """Restart an sshd that runs; raise SshdError if it does not come back."""
        answer = self._service_do("try-restart", service)
        state = self._state(service)
        if answer.code != 0 or state != "active":
            raise SshdError("after its restart sshd is {}: {}".format(state, answer.last_words()))

    def revive(self, service: str) -> str:
        """Have sshd run with what was put back, whatever fails on the way; return its state."""
        self._reserve = 0.0
        state = "in an unknown state"
        # The second attempt is for one that has failed, perhaps too often to be started again. Not start: that waits
        # for an automatic restart that may be pending, 42 s on RHEL.
        for verbs in (("try-restart",), ("reset-failed", "restart")):
            for verb in verbs:
                with contextlib.suppress(SshdError):
                    self._service_do(verb, service)
            with contextlib.suppress(SshdError):
                state = self._state(service)
            if state == "active":
                break
        return state

    def _state(self, service: str) -> str:
        answer = self._service_do("is-active", service)
        return "active" if answer.code == 0 else answer.out.strip() if self._systemd() else "down"

    def _systemd(self) -> bool:
        # sd_booted(3)
        return os.path.isdir(os.path.join(self._run_folder, "systemd", "system"))

    def _service_do(self, verb: str, service: str) -> _Answer:
        if self._systemd():
            # sshd is ordered after the stage of cloud-init that we run in: a job that minds it waits, with sshd down.
            return self._run("systemctl", "--job-mode=ignore-dependencies", verb, service)
        for manager in ("rc-service", "service"):
            if shutil.which(manager, path=self._path):
                return self._run(manager, service, {"is-active": "status", "try-restart": "restart"}.get(verb, verb))
        return _Answer(1, "", "nothing here starts services")

    def _seconds_left(self) -> float:
        return self._end - self._reserve - time.monotonic()

    def _run(self, name: str, *arguments: str) -> _Answer:
        """Run a command and return what it says; raise SshdError if it is missing or takes longer than 10 s."""
        # sshd wants to be called by its absolute path.
        command = shutil.which(name, path=self._path)
        if command is None:
            raise SshdError("{} is not on this machine (looked in {})".format(name, self._path))
        shown = " ".join((name, *arguments))
        seconds = min(_COMMAND_SECONDS, self._seconds_left())
        if seconds <= 0:
            raise SshdError("no time left for {}, the commands before took too long".format(shown))
        began = time.monotonic()
        process = subprocess.Popen(
            (command, *arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            universal_newlines=True,
            encoding="utf-8",
            errors="replace",
            env={"PATH": self._path, "LC_ALL": "C"},
            start_new_session=True,
        )
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            # The whole group; then neither look at pipes that a child may hold, nor wait for what cannot be killed.
            os.killpg(process.pid, signal.SIGKILL)
            for pipe in filter(None, (process.stdout, process.stderr)):
                pipe.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=1)
            raise SshdError("{} did not answer within {:.1f} s".format(shown, seconds)) from None
        LOG.debug("%s: exit %d after %.0f ms", shown, process.returncode, 1000 * (time.monotonic() - began))
        return _Answer(process.returncode, out, err)


def _somebody(entry: Entry) -> Optional[openssh.Connection]:
    """Return a connection that an entry fits, None if nobody is known whom it does."""
    if entry.criterion == "address":
        return _NOBODY._replace(address=str(ipaddress.ip_network(entry.patterns[0]).network_address))
    if entry.criterion == "user":
        # sshd compares names, there need be no such user.
        users = [entry.patterns[0].replace("*", "").replace("?", "x") or _NOBODY.user]
    else:
        users = [user for group in _groups_named(entry.patterns) for user in _members(group)]
    connections = (_NOBODY._replace(user=user, groups=_groups_of(user)) for user in users)
    return next((connection for connection in connections if openssh.fits(entry, connection)), None)


NOBODY, somebody = _NOBODY, _somebody


def _groups_named(patterns: Tuple[str, ...]) -> Iterator[grp.struct_group]:
    for pattern in patterns:
        # By its name first: a directory may know groups that it does not list.
        with contextlib.suppress(KeyError):
            yield grp.getgrnam(pattern)
    yield from grp.getgrall()


def _members(group: grp.struct_group) -> Iterator[str]:
    yield from group.gr_mem
    yield from (user.pw_name for user in pwd.getpwall() if user.pw_gid == group.gr_gid)


def _groups_of(user: str) -> Tuple[str, ...]:
    try:
        numbers = os.getgrouplist(user, pwd.getpwnam(user).pw_gid)
    except KeyError:
        return ()
    names = []
    for number in numbers:
        with contextlib.suppress(KeyError):
            names.append(grp.getgrgid(number).gr_name)
    return tuple(names)


def apply(policy: Policy, sshd: Sshd) -> Report:
    """Have sshd keep a policy, and return what is in force.

    Raise PolicyError if this sshd cannot keep it, and SshdError if it does not; all files are then as they were, and
    sshd runs if it did.
    """
    try:
        return _keep(policy, sshd) if policy.enabled else _remove(policy, sshd)
    except OSError as error:
        raise SshdError("{}: {}".format(error.filename or sshd.file, error.strerror)) from error


def reapply(sshd: Sshd) -> Optional[Report]:
    """Express the policy of the drop-in for the sshd that is here now, as after an upgrade; None without a drop-in.

    Raise PolicyError or SshdError if that cannot be done.
    """
    text = sshd.text(sshd.file)
    if text is None:
        return None
    policy = dropin.read_policy(text)
    if policy is None:
        raise SshdError("{}: has no policy line that can be read, run cloud-init's module again".format(sshd.file))
    return apply(policy, sshd)


def _keep(policy: Policy, sshd: Sshd) -> Report:
    version = sshd.version()
    if not openssh.has(version, "reads-drop-ins"):
        raise SshdError("OpenSSH {}.{} reads no drop-ins, it takes 8.2 or later".format(*version))
    channel_timeout = sshd.knows("ChannelTimeout", "session:*=60") if policy.idle_timeout is not None else None
    expression = openssh.express(policy, version, channel_timeout)
    profile = tmout.render(expression.tmout) if expression.tmout else None
    texts: Dict[str, Optional[str]] = {sshd.file: dropin.render(policy, expression), sshd.tmout_file: profile}
    restarted = False
    with sshd.alone() as unfinished:
        texts = {file: text for file, text in texts.items() if unfinished or text != sshd.text(file)}
        sshd.prepare(texts)
        if sshd.file in texts:
            sshd.prove(expression, sshd.candidate())
        unproved, restarted = _land(texts, expression, sshd)
    return Report(sshd.file, policy, version, expression, unproved, bool(texts), restarted)


def _remove(policy: Policy, sshd: Sshd) -> Report:
    changed = restarted = False
    if os.path.isdir(sshd.folder):
        with sshd.alone() as unfinished:
            files = (sshd.file, sshd.tmout_file)
            texts = {file: None for file in files if unfinished or sshd.text(file) is not None}
            changed = bool(texts)
            _, restarted = _land(texts, None, sshd)
    return Report(sshd.file, policy, None, None, (), changed, restarted)


def _land(
    texts: Mapping[str, Optional[str]], expression: Optional[openssh.Expression], sshd: Sshd
) -> Tuple[Tuple[str, ...], bool]:
    """Put texts in place, prove them and restart an sshd that runs and had others, or put all back.

    Return what is not proved, and whether sshd was restarted.
    """
    restarting = None
    unproved: Tuple[str, ...] = ()
    try:
        with contextlib.ExitStack() as stack:
            for file, text in texts.items():
                stack.enter_context(sshd.landed(file, text))
            # Asked after landing: one that starts from here on reads the new text by itself.
            service = sshd.running() if sshd.file in texts else None
            if expression or service:
                unproved = sshd.prove(expression or openssh.Expression((), None))
            if service:
                restarting = service
                sshd.restart(service)
    except Exception as error:
        if not restarting:
            raise
        state = sshd.revive(restarting)
        raise SshdError("{}; the old configuration is back, sshd is {}".format(error, state)) from error
    return unproved, restarting is not None
