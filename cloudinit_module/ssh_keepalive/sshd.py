# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The sshd of this machine."""

import contextlib
import fcntl
import logging
import os
import shutil
import signal
import subprocess
import time
from typing import Iterator, List, NamedTuple, Optional, Tuple

from . import dropin, openssh
from .policy import KEY, Policy

LOG = logging.getLogger(__name__)

_COMMAND_SECONDS = 10.0
# What all commands together may take, and what is kept of it for the way back.
_TOTAL_SECONDS = 40.0
_WAY_BACK_SECONDS = 15.0
# What a restarted sshd may take to write its PID file, by which it is known to run off systemd.
_PID_FILE_SECONDS = 3.0

# One who cannot exist, from and to where nobody is (RFC 5737), so that no Match block for somebody answers for all.
# Complete, because a Match on what is missing makes sshd fail (8.4 to 10.6; to them port 0 is missing, too).
_NOBODY = "user=.invalid,host=.invalid,addr=192.0.2.1,laddr=192.0.2.1,lport=1"


class SshdError(Exception):
    """Say why the machine does not keep the policy; everything is as it was before."""


class Report(NamedTuple):
    """Say what is in force; `dropped_after` is in seconds, None for never."""

    file: str
    policy: Policy
    version: Optional[openssh.Version]
    directives: openssh.Directives
    dropped_after: Optional[int]
    changed: bool
    restarted: bool

    def __str__(self) -> str:
        if not self.policy.enabled:
            promise = "off, sshd keeps its other settings"
        elif self.dropped_after is not None:
            promise = "a client that stopped answering is gone {} s after its last sign of life"
            promise = promise.format(self.dropped_after)
        elif "ClientAliveInterval" in dict(self.directives):
            promise = "sshd drops no silent client"
        else:
            promise = "sshd keeps its own setting for silent clients"
        if self.version:
            values = ", ".join("{} {}".format(*directive) for directive in self.directives)
            promise += " ({} on OpenSSH {}.{})".format(values, *self.version)
        file = "{} {}".format(self.file, "changed" if self.changed else "unchanged")
        if self.restarted:
            file += ", sshd restarted"
        elif self.changed:
            file += ", sshd reads it when it starts"
        return "{}: {}; {}".format(KEY, promise, file)


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
        run: str = "/run",
        path: str = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin",
    ) -> None:
        # SUSE has its main file in /usr/etc alone: one in /etc/ssh would replace it.
        etc_main, vendor_main = os.path.join(ssh, "sshd_config"), os.path.join(vendor_ssh, "sshd_config")
        self.main = vendor_main if os.path.exists(vendor_main) and not os.path.exists(etc_main) else etc_main
        self.folder = os.path.join(ssh, "sshd_config.d")
        self.file = os.path.join(self.folder, dropin.NAME)
        self._services = services
        self._run_folder = run
        self._pid_file: Optional[str] = None
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

    def prove(self, directives: openssh.Directives, main: Optional[str] = None) -> None:
        """Ask sshd whether it keeps directives with its own (or another) main file; raise SshdError if not."""
        answer = self._effective(main)
        if answer.code != 0:
            raise SshdError("sshd refuses its configuration: {}".format(answer.last_words()))
        wrong = dropin.mismatches(directives, answer.out)
        if wrong:
            trace = self._effective(main, "-ddd").err
            raise SshdError("; ".join(self._explain(mismatch, trace) for mismatch in wrong))

    def _explain(self, mismatch: dropin.Mismatch, trace: str) -> str:
        keyword, wanted, reported = mismatch
        if reported is None:
            return "sshd -T does not report {}, {} is wanted".format(keyword, wanted)
        said = "{} is {} where {} is wanted".format(keyword, reported, wanted)
        place = dropin.winner(keyword, trace, self.main)
        if place:
            return "{}: {} sets it and wins, remove that line".format(said, place)
        include = "Include {}/*.conf".format(self.folder)
        return "{}: {} does not read {}, put '{}' on its first line".format(said, self.main, self.file, include)

    def _effective(self, main: Optional[str], *options: str) -> _Answer:
        self._make_privilege_separation_folder()
        arguments = ["-T", "-C", _NOBODY, *options, *(["-f", main] if main else [])]
        answer = self._run("sshd", *self._host_key, *arguments)
        if answer.code != 0 and "no hostkeys available" in answer.err and not self._host_key:
            self._make_host_key()
            answer = self._run("sshd", *self._host_key, *arguments)
        return answer

    def _make_privilege_separation_folder(self) -> None:
        """Make what sshd wants to see before its first start, for good: a running sshd refuses logins without it."""
        folder = os.path.join(self._run_folder, "sshd")
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder)
            os.chmod(folder, 0o755)

    def _make_host_key(self) -> None:
        """Make a key for asking alone, where the machine has none yet; sshd answers nothing without one."""
        key = self._aside("key")
        # ECDSA is what FIPS mode allows too
        answer = self._run("ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", key)
        if answer.code != 0:
            raise SshdError("no host keys, and none can be made: {}".format(answer.last_words()))
        self._host_key = ["-h", key]

    def _aside(self, purpose: str) -> str:
        """Return the name of a file that no Include reads (a dot file), on the file system of the drop-in."""
        return "{}/.{}.{}".format(self.folder, dropin.NAME, purpose)

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
        for purpose in ("new", "key", "key.pub", "old", "main"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._aside(purpose))
                found = True
        return found

    def text(self) -> Optional[str]:
        """Return the text of the drop-in, None without one."""
        try:
            with open(self.file, encoding="utf-8", errors="replace") as stream:
                return stream.read()
        except FileNotFoundError:
            return None

    def prove_candidate(self, text: str, directives: openssh.Directives) -> None:
        """Write a text aside and have sshd read it before everything else that it reads."""
        self._write(self._aside("new"), text)
        self._write(self._aside("main"), "Include {}\nInclude {}\n".format(self._aside("new"), self.main))
        self.prove(directives, self._aside("main"))

    @contextlib.contextmanager
    def landed(self, text: Optional[str]) -> Iterator[None]:
        """Put what was written aside (None: nothing) in the drop-in's place; put the old one back if the body fails.

        Both are one step: whoever looks, and whenever we are killed, finds the old text or the new one, whole.
        """
        old = None
        if os.path.lexists(self.file):
            # A second name for the old file needs no space on the disk, and comes back whole by a rename.
            old = self._aside("old")
            os.link(self.file, old, follow_symlinks=False)
        try:
            if text is not None:
                os.rename(self._aside("new"), self.file)
            elif old:
                os.unlink(self.file)
            self._sync_folder()
            yield
        except BaseException:
            if old:
                os.rename(old, self.file)
            else:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.file)
            self._sync_folder()
            raise

    def _write(self, file: str, text: str) -> None:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as stream:
            os.fchmod(descriptor, 0o600)
            stream.write(text)
            stream.flush()
            os.fsync(descriptor)

    def _sync_folder(self) -> None:
        descriptor = os.open(self.folder, os.O_RDONLY)
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
        pid_file = os.path.join(self._run_folder, "sshd.pid")
        self._pid_file = pid_file if _names_a_process(pid_file) else None
        answer = self._service_do("try-restart", service)
        state = self._state_after_restart(service)
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
                state = self._state_after_restart(service)
            if state == "active":
                break
        return state

    def _state_after_restart(self, service: str) -> str:
        # Only to systemd does sshd itself tell that it listens; elsewhere it leaves its parent before it does.
        end = time.monotonic() + (0 if self._systemd() else _PID_FILE_SECONDS)
        while True:
            state = self._state(service)
            if state == "active" or time.monotonic() >= end:
                return state
            time.sleep(0.1)

    def _state(self, service: str) -> str:
        answer = self._service_do("is-active", service)
        if self._systemd():
            return "active" if answer.code == 0 else answer.out.strip()
        # OpenRC may call what it has started so when that is gone; a PID file that was right before the restart tells.
        lives = answer.code == 0 and (self._pid_file is None or _names_a_process(self._pid_file))
        return "active" if lives else "down"

    def _systemd(self) -> bool:
        # sd_booted(3)
        return os.path.isdir(os.path.join(self._run_folder, "systemd", "system"))

    def _service_do(self, verb: str, service: str) -> _Answer:
        if self._systemd():
            # sshd is ordered after the stage of cloud-init that we run in: a job that minds it waits, with sshd down.
            return self._run("systemctl", "--job-mode=ignore-dependencies", verb, service)
        # zap: else OpenRC neither starts what it takes for started nor, as Debian has it, stops what is gone.
        verbs = {"is-active": "status", "try-restart": "restart", "reset-failed": "zap"}
        for manager in ("rc-service", "service"):
            if shutil.which(manager, path=self._path):
                if (manager, verb) == ("service", "reset-failed"):
                    return _Answer(0, "", "")  # there is no state that it would have to forget
                return self._run(manager, service, verbs.get(verb, verb))
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


def _names_a_process(pid_file: str) -> bool:
    try:
        with open(pid_file, encoding="ascii") as stream:
            os.kill(int(stream.read()), 0)
    except (OSError, ValueError, OverflowError):
        return False
    return True


def apply(policy: Policy, sshd: Sshd) -> Report:
    """Have sshd keep a policy, and return what is in force.

    Raise SshdError if it cannot; the drop-in is then as it was, and sshd runs if it did.
    """
    try:
        return _keep(policy, sshd) if policy.enabled else _remove(policy, sshd)
    except OSError as error:
        raise SshdError("{}: {}".format(error.filename or sshd.file, error.strerror)) from error


def reapply(sshd: Sshd) -> Optional[Report]:
    """Express the policy of the drop-in for the sshd that is here now, as after an upgrade; None without a drop-in.

    Raise SshdError if that cannot be done.
    """
    text = sshd.text()
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
    directives, dropped_after = openssh.express(policy, version)
    text = dropin.render(policy, directives)
    restarted = False
    with sshd.alone() as unfinished:
        changed = unfinished or text != sshd.text()
        if changed:
            sshd.prove_candidate(text, directives)
            restarted = _land(text, directives, sshd)
        else:
            sshd.prove(directives)
    return Report(sshd.file, policy, version, directives, dropped_after, changed, restarted)


def _remove(policy: Policy, sshd: Sshd) -> Report:
    changed = restarted = False
    if os.path.isdir(sshd.folder):
        with sshd.alone() as unfinished:
            changed = unfinished or sshd.text() is not None
            if changed:
                restarted = _land(None, (), sshd)
    return Report(sshd.file, policy, None, (), None, changed, restarted)


def _land(text: Optional[str], directives: openssh.Directives, sshd: Sshd) -> bool:
    """Put a text in place, prove it and restart an sshd that runs, or put all back; return whether it restarted."""
    restarting = None
    try:
        with sshd.landed(text):
            # Asked after landing: one that starts from here on reads the new text by itself.
            service = sshd.running()
            if service or text is not None:
                sshd.prove(directives)
            if service:
                restarting = service
                sshd.restart(service)
    except Exception as error:
        if not restarting:
            raise
        state = sshd.revive(restarting)
        raise SshdError("{}; the old configuration is back, sshd is {}".format(error, state)) from error
    return restarting is not None
