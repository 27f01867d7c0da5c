# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The sshd of this machine."""

import contextlib
import fcntl
import fnmatch
import grp
import ipaddress
import logging
import os
import pwd
import shutil
import stat
import time
from typing import Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from . import command, dropin, openssh, tmout
from .command import Answer
from .policy import KEY, Entry, Policy

LOG = logging.getLogger(__name__)

_COMMAND_SECONDS = 10.0
# What all commands together may take, and what is kept of it for the way back.
_TOTAL_SECONDS = 40.0
_WAY_BACK_SECONDS = 15.0
# The ways to have sshd read a policy, each where the ones before it do not do
_DROP_IN, _INCLUDED, _IN_MAIN = "drop-in", "drop-in that a block in the main file includes", "block in the main file"
# What was written aside is cleared away after sshd was restarted: in this time the folder is changed by that.
_LANDING_SECONDS = 15
# A little less than 256 KiB, comments included
_MOST_BYTES = 250000
# What a restarted sshd may take to write its PID file, by which it is known to run off systemd.
_PID_FILE_SECONDS = 3.0
# What systemctl is-active says of a service (systemd's unit_active_state_table; "unknown" up to systemd 230).
_RUNS = ("active", "activating", "reloading", "refreshing")
_RUNS_NOT = ("inactive", "deactivating", "failed", "maintenance", "unknown")

# One who cannot exist, from and to where nobody is (RFC 5737), so that no Match block for somebody answers for all.
NOBODY = openssh.Connection(".invalid", (), "192.0.2.1")
OPTION_REMEDY = "remove that from its service (/etc/default/ssh, /etc/sysconfig/sshd), and restart it"
# Complete, because a Match on what is missing makes sshd fail (8.4 to 10.6; to them port 0 is missing, too).
_CONNECTION = "user={},host=.invalid,addr={},laddr=192.0.2.1,lport=1"


class SshdError(Exception):
    """Say why the machine does not keep the policy; everything is as it was before."""


class _NotReadError(SshdError):
    """Say that sshd does not read the drop-in, or not all of it."""


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
        does = "off, sshd keeps its other settings"
        if self.expression and self.version:
            values = ", ".join("{} {}".format(*directive) for directive in self.expression.directives)
            openssh_version = "OpenSSH {}.{}".format(*self.version)
            does = promise(self.policy, self.expression)
            does += " ({})".format(" on ".join(filter(None, (values, openssh_version))))
        file = "{} {}".format(self.file, "changed" if self.changed else "unchanged")
        if self.restarted:
            file += ", sshd restarted"
        elif self.changed:
            file += ", sshd reads it when it starts"
        return "; ".join(("{}: {}".format(KEY, does), *self.unproved, file))


def promise(policy: Policy, expression: openssh.Expression) -> str:
    """Return in words what a policy has sshd do."""
    return ", ".join(_promises(policy, expression))


def _promises(policy: Policy, expression: openssh.Expression) -> Iterator[str]:
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
    elif policy.idle_timeout:
        yield "a session without traffic ends after {} s".format(policy.idle_timeout)
    elif policy.idle_timeout == 0:
        yield "no idle session is ended"
    if expression.blocks:
        yield "other times for those whom match names"


class Sshd:
    """Talk to one machine's sshd; paths and the folders to look for commands in are the machine's own unless told."""

    def __init__(
        self,
        services: Tuple[str, ...] = ("ssh", "sshd"),
        ssh: str = "/etc/ssh",
        vendor_ssh: str = "/usr/etc/ssh",
        profile: str = "/etc/profile.d",
        run: str = "/run",
        proc: str = "/proc",
        path: str = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin",
    ) -> None:
        # SUSE has its main file in /usr/etc alone: one in /etc/ssh would replace it.
        etc_main, vendor_main = os.path.join(ssh, "sshd_config"), os.path.join(vendor_ssh, "sshd_config")
        self.main_is_ours_to_change = os.path.exists(etc_main)
        self.main = etc_main if self.main_is_ours_to_change or not os.path.exists(vendor_main) else vendor_main
        # Where a link to it leads: what lands there leaves the link.
        self.main_file = os.path.realpath(self.main)
        self._ssh_folder = ssh
        self.folder = os.path.join(ssh, "sshd_config.d")
        self.file = os.path.join(self.folder, dropin.NAME)
        self.tmout_file = os.path.join(profile, tmout.NAME)
        self._services = services
        self._run_folder = run
        self._proc = proc
        self._lock_file = os.path.join(run, "ssh-keepalive.lock")
        self._pid_file = os.path.join(run, "sshd.pid")
        self._pid_file_counts = False
        self._path = path
        self._end = time.monotonic() + _TOTAL_SECONDS
        self._reserve = _WAY_BACK_SECONDS
        self._host_key: List[str] = []
        self._shows_configuration = False

    def version(self) -> openssh.Version:
        """Ask sshd for its version."""
        # Older ones know no -V and answer with a usage text that names the version, at exit 1.
        answer = self._run("sshd", "-V")
        version = openssh.parse_version(answer.err + answer.out)
        if version is None:
            raise SshdError("sshd -V names no OpenSSH version: {}".format(answer.last_words()))
        self._shows_configuration = openssh.has(version, "shows-configuration")
        return version

    def express(self, policy: Policy, version: openssh.Version) -> openssh.Expression:
        """Return what keeps an enabled policy on this sshd, of a known version; raise PolicyError if it cannot."""
        channel_timeout = None
        if policy.idle_timeout is not None and not openssh.has(version, "channel-timeout"):
            # Distributions add what is newer.
            options = ("-o", "ChannelTimeout=session:*=60", "-o", "UnusedConnectionTimeout=60")
            answer = self._run("sshd", "-t", "-f", os.devnull, *options)
            channel_timeout = "Bad configuration option" not in answer.err
        return openssh.express(policy, version, channel_timeout)

    def prove(
        self, expression: openssh.Expression, in_main: bool = False, main: Optional[str] = None
    ) -> Tuple[str, ...]:
        """Ask sshd whether it keeps what is in the drop-in (or in its main file), with its own or another main file.

        It is asked for one whom no entry fits, and for one of each pattern. Return the entries that fit nobody here;
        raise SshdError if it does not keep it.
        """
        connections, unproved = questions(expression)
        for connection in (NOBODY, *connections):
            self._prove_for(connection, expression, in_main, main)
        if unproved and not in_main and not main:
            from .trace import matches

            read = matches(self._effective(NOBODY, None, "-ddd").err)
            if any(dropin.criterion(entry) not in read for entry, _ in expression.blocks):
                raise _NotReadError(self._not_read())
        return tuple(unproved)

    def _prove_for(
        self, connection: openssh.Connection, expression: openssh.Expression, in_main: bool, main: Optional[str]
    ) -> None:
        answer = self._effective(connection, main)
        if answer.code != 0:
            raise SshdError("sshd refuses its configuration: {}".format(answer.last_words()))
        wrong = dropin.mismatches(openssh.wanted(expression, connection), answer.out)
        if not wrong:
            return
        trace = self._effective(connection, main, "-ddd").err
        winners = {mismatch.keyword: dropin.winner(mismatch.keyword, trace, main or self.main) for mismatch in wrong}
        ours = (self.file, self._aside(self.file, "new"))
        unread = not any(dropin.is_read(file, trace) for file in ours)
        # OpenSSH 8.2 and 8.3 skip Match in included files unless the main file has one.
        skipped = any(place and place.rpartition(":")[0] in ours for place in winners.values())
        error = _NotReadError if not in_main and (unread or skipped) else SshdError
        who = "" if connection == NOBODY else " for user {} from {}".format(connection.user, connection.address)
        raise error("; ".join(self._explain(one, who, winners[one.keyword], main, error) for one in wrong))

    def _explain(
        self, mismatch: dropin.Mismatch, who: str, place: Optional[str], main: Optional[str], error: type
    ) -> str:
        keyword, wanted, reported = mismatch
        if reported is None:
            return "sshd -T does not report {}, {} is wanted{}".format(keyword, wanted, who)
        said = "{} is {} where {} is wanted{}".format(keyword, reported, wanted, who)
        if error is _NotReadError:
            return "{}: {}".format(said, self._not_read())
        if place is None:
            return "{}: no line sets it".format(said)
        file, _, line = place.rpartition(":")
        if file in (self.main, main):
            # As it is once our block is gone again
            above = dropin.lines_before(self.text(file) or "")
            place = "{}:{}".format(self.main, int(line) - above)
        return "{}: {} sets it and wins, remove that line".format(said, place)

    def _not_read(self) -> str:
        include = "Include {}/*.conf".format(self.folder)
        return "{} does not read {}, put '{}' on its first line".format(self.main, self.file, include)

    def overridden(self, expression: openssh.Expression) -> List[str]:
        """Return what options that a running sshd was started with set otherwise; they come before all files."""
        command_line = ""
        with contextlib.suppress(OSError, ValueError):
            with open(self._pid_file, encoding="ascii") as stream:
                pid = int(stream.read())
            with open("{}/{}/cmdline".format(self._proc, pid), encoding="utf-8", errors="replace") as stream:
                command_line = stream.read().replace("\0", " ")
        options = openssh.overrides(command_line)
        message = "{0} is {1} where {2} is wanted: sshd was started with -o {0}={1}, which wins"
        found = [
            message.format(keyword, options[keyword.lower()], value)
            for keyword, value in expression.directives
            if options.get(keyword.lower(), value) != value
        ]
        file = openssh.file_option(command_line)
        if file and os.path.realpath(file) != self.main_file:
            found.append("sshd was started with -f {}, and does not read {}".format(file, self.main))
        return found

    def has_read(self) -> bool:
        """Return whether an sshd that runs has read its files as they are now; True if no change shows."""
        if not _names_a_process(self._pid_file):
            return True
        with contextlib.suppress(OSError):
            read = os.stat(self._pid_file).st_mtime
            changes = [os.stat(self.main).st_mtime, self.folder_changed()]
            if os.path.isdir(self.folder):
                names = [name for name in os.listdir(self.folder) if name.endswith(".conf")]
                changes += [os.stat(os.path.join(self.folder, name)).st_mtime for name in names]
            # A time to come says nothing.
            return not any(read < change < time.time() for change in changes)
        return True

    def folder_changed(self) -> float:
        """Return when files came to the folder of drop-ins or went, but for what a landing does; seconds since 1970."""
        return os.stat(self.folder).st_mtime - _LANDING_SECONDS if os.path.isdir(self.folder) else 0

    def check_size(self, texts: Mapping[str, Optional[str]]) -> None:
        """Raise SshdError if sshd would refuse logins for the size of its files; sshd -t and sshd -T do not say."""
        files = [self.main_file, self.file]
        if os.path.isdir(self.folder):
            files += [os.path.join(self.folder, name) for name in os.listdir(self.folder)]
        sizes = {file: os.path.getsize(file) for file in files if os.path.isfile(file)}
        for file in set(texts) - {self.tmout_file}:
            sizes[file] = len((texts[file] or "").encode(errors="surrogateescape"))
        # It may be included a second time.
        size = sum(sizes.values()) + sizes.get(self.file, 0)
        if size > _MOST_BYTES:
            message = (
                "sshd's configuration would have {} bytes, above 256 KiB this version refuses every login: shorten it"
            )
            raise SshdError(message.format(size))

    def _effective(self, connection: openssh.Connection, main: Optional[str], *options: str) -> Answer:
        self._make_privilege_separation_folder()
        who = _CONNECTION.format(connection.user, connection.address)
        arguments = ["-T", "-C", who, *options, *(["-f", main] if main else [])]
        if main and self._shows_configuration:
            # Half the time, since no host key is loaded: those are looked at when the text has landed.
            arguments.insert(0, "-G")
        answer = self._run("sshd", *self._host_key, *arguments)
        if answer.code != 0 and "privilege separation directory" in answer.err:
            # Where systemd starts an sshd for each connection, the end of the last one takes the folder along.
            self._make_privilege_separation_folder()
            answer = self._run("sshd", *self._host_key, *arguments)
        if answer.code != 0 and "no hostkeys available" in answer.err and not self._host_key:
            self._make_host_key()
            answer = self._run("sshd", *self._host_key, *arguments)
        return answer

    def ask(self, connection: Mapping[str, str]) -> Tuple[str, str]:
        """Ask sshd about a connection, changing nothing; return the values that it reports, and its trace.

        Raise UnansweredError if it cannot say, and SshdError if it refuses its configuration.
        """
        who = ",".join("{}={}".format(*item) for item in sorted(connection.items()))
        # With -G it wants neither host keys nor /run/sshd.
        options = ["-G"] if self._shows_configuration else []
        answer = self._run("sshd", *options, "-T", "-ddd", "-C", who)
        if answer.code != 0:
            from .trace import complaint

            said = answer._replace(err=complaint(answer.err)).last_words()
            if "privilege separation directory" in said or "no hostkeys available" in said:
                raise UnansweredError("sshd -T answers once sshd has started: {}".format(said))
            raise SshdError("sshd refuses its configuration: {}".format(said))
        return answer.out, answer.err

    def _make_privilege_separation_folder(self) -> None:
        """Make what sshd wants to see before its first start, for good: a running sshd refuses logins without it."""
        folder = os.path.join(self._run_folder, "sshd")
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o755)
            os.chmod(folder, 0o755)
            self._label(folder)

    def _make_host_key(self) -> None:
        """Make a key for asking alone, where the machine has none yet; sshd answers nothing without one."""
        key = self._aside(self.main_file, "key")
        # ECDSA is what FIPS mode allows too
        answer = self._run("ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", key)
        if answer.code != 0:
            raise SshdError("no host keys, and none can be made: {}".format(answer.last_words()))
        self._host_key = ["-h", key]

    def _aside(self, file: str, purpose: str) -> str:
        """Return the name of a file that nobody reads (a dot file), on the same file system."""
        folder, name = os.path.split(file)
        if file == self.main_file:
            # /usr may be read-only where the vendor has the main file, and nothing of ours may look like another's.
            folder, name = (folder if self.main_is_ours_to_change else self._ssh_folder), dropin.NAME + ".main"
        return "{}/.{}.{}".format(folder, name, purpose)

    @contextlib.contextmanager
    def alone(self) -> Iterator[bool]:
        """Keep other runs out; take away what this one leaves beside the files, and what a killed one has left.

        Yield whether there was such a one: it may have landed what the running sshd has not read.
        """
        # Not a folder of sshd's: who can read it could lock it, and this is root's alone.
        lock = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            self._wait_for(lock)
            unfinished = self.tidy()
            before = self._in_folder()
            try:
                yield unfinished
            finally:
                # Nobody reads what cannot be taken away, and the next run tries again.
                with contextlib.suppress(OSError):
                    self.tidy()
                    after = self._in_folder()
                    if before and after and before[0] == after[0]:
                        # By a later time status knows that others have taken files away.
                        os.utime(self.folder, ns=before[1])
        finally:
            # It is closed whatever this says, and what was done is done.
            with contextlib.suppress(OSError):
                os.close(lock)

    def _in_folder(self) -> Optional[Tuple[List[str], Tuple[int, int]]]:
        """Return the names in the folder of drop-ins and its times, None without one."""
        if not os.path.isdir(self.folder):
            return None
        status = os.stat(self.folder)
        return sorted(os.listdir(self.folder)), (status.st_atime_ns, status.st_mtime_ns)

    def _wait_for(self, lock: int) -> None:
        while True:
            try:
                return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if self._seconds_left() <= 0:
                    raise SshdError("another run holds {} for too long".format(self._lock_file)) from None
                time.sleep(0.1)

    def tidy(self) -> bool:
        """Take away what was written aside, and return whether there was anything."""
        found = False
        self._host_key = []
        for file in (self.file, self.tmout_file, self.main_file):
            for purpose in ("new", "key", "key.pub", "old", "main"):
                aside = self._aside(file, purpose)
                # Looked for first: what is read-only refuses to have nothing taken away.
                if os.path.lexists(aside):
                    os.unlink(aside)
                    found = True
        return found

    def text(self, file: str) -> Optional[str]:
        """Return the text of a file, to the byte; None without one. Raise SshdError if it is no file to be read."""
        try:
            # A pipe must not have us wait for somebody who writes.
            if not stat.S_ISREG(os.stat(file).st_mode):
                raise SshdError("{}: is no regular file".format(file))
            with open(file, encoding="utf-8", errors="surrogateescape", newline="") as stream:
                return stream.read()
        except FileNotFoundError:
            return None

    def place(self) -> str:
        """Return the file in which the policy is, or would be if sshd reads drop-ins: the drop-in or the main file."""
        return self.main if dropin.holds_policy(self.text(self.main) or "") else self.file

    def stands(self, file: str, text: Optional[str]) -> bool:
        """Return whether a file has a text already (None: there is no such file), and is as it would be written."""
        if file == self.main_file:
            return self.text(file) == text
        # A link would have another file decide, and one that others may write to is not ours, whatever it says now.
        if os.path.islink(file) or self.text(file) != text:
            return False
        if text is None:
            return True
        status = os.stat(file)
        owners = (status.st_uid, status.st_gid)
        return (stat.S_IMODE(status.st_mode), owners) == (self._mode(file), (os.geteuid(), os.getegid()))

    def _mode(self, file: str) -> int:
        # Other drop-ins are root's alone, but every shell reads the profile.
        return 0o644 if file == self.tmout_file else 0o600

    @contextlib.contextmanager
    def prepared(self, texts: Mapping[str, Optional[str]]) -> Iterator[None]:
        """Write the texts of files aside; a folder of drop-ins that is made for that goes again if the body fails."""
        make_folder = texts.get(self.file) is not None and not os.path.isdir(self.folder)
        if make_folder:
            os.makedirs(self.folder, 0o755)
            os.chmod(self.folder, 0o755)
            self._label(self.folder)
        try:
            for file, text in texts.items():
                if text is not None:
                    self._write(self._aside(file, "new"), text, file)
            yield
        except BaseException:
            if make_folder:
                with contextlib.suppress(OSError):
                    self.tidy()
                    os.rmdir(self.folder)
            raise

    def candidate(self, in_main: bool) -> str:
        """Return a main file that is the prepared one, or that has sshd read the prepared drop-in before all else."""
        if in_main:
            return self._aside(self.main_file, "new")
        main = self._aside(self.file, "main")
        self._write(main, "Include {}\nInclude {}\n".format(self._aside(self.file, "new"), self.main))
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
                self._label(file)
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

    def _write(self, file: str, text: str, place: Optional[str] = None) -> None:
        """Write a text; who may read it is as at the place it is for."""
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(descriptor, "w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
                if place == self.main_file:
                    status = os.stat(place)
                    os.fchown(descriptor, status.st_uid, status.st_gid)
                    os.fchmod(descriptor, stat.S_IMODE(status.st_mode))
                else:
                    os.fchmod(descriptor, self._mode(place or file))
                stream.write(text)
                stream.flush()
                os.fsync(descriptor)
        except OSError as error:
            # Of a full disk nobody says where it is.
            raise OSError(error.errno, error.strerror, error.filename or file) from error

    def _sync_folder(self, file: str) -> None:
        descriptor = os.open(os.path.dirname(file), os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _label(self, file: str) -> None:
        """Give a file the SELinux context that it has by its name; a new one has its folder's."""
        if shutil.which("restorecon", path=self._path):
            answer = self._run("restorecon", file)
            if answer.code != 0:
                LOG.warning("restorecon %s: %s", file, answer.last_words())

    def running(self) -> Optional[str]:
        """Return the name of the service under which sshd runs or is about to, None if it does not."""
        return next((service for service in self._services if self._state(service) in _RUNS), None)

    def check_that_it_starts(self) -> None:
        """Raise SshdError if sshd would not start as its service starts it; one that runs had better not be stopped."""
        answer = self._run("sshd", "-t")
        if answer.code != 0:
            raise SshdError("sshd runs, but would not start again: {}".format(answer.last_words()))

    def restart(self, service: str) -> None:
        """Restart an sshd that runs; raise SshdError if it does not come back."""
        self._pid_file_counts = _names_a_process(self._pid_file)
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
            state = "active" if answer.code == 0 else answer.out.strip()
            if state not in _RUNS + _RUNS_NOT:
                # Taken for one that does not run, it would go on with the old policy and nobody would know.
                said = answer.last_words()
                raise SshdError("systemctl is-active {} does not say whether sshd runs: {}".format(service, said))
            return state
        # OpenRC may call what it has started so when that is gone; a PID file that was right before the restart tells.
        lives = answer.code == 0 and (not self._pid_file_counts or _names_a_process(self._pid_file))
        return "active" if lives else "down"

    def _systemd(self) -> bool:
        # sd_booted(3)
        return os.path.isdir(os.path.join(self._run_folder, "systemd", "system"))

    def _service_do(self, verb: str, service: str) -> Answer:
        if self._systemd():
            # sshd is ordered after the stage of cloud-init that we run in: a job that minds it waits, with sshd down.
            return self._run("systemctl", "--job-mode=ignore-dependencies", verb, service)
        # zap: else OpenRC neither starts what it takes for started nor, as Debian has it, stops what is gone.
        verbs = {"is-active": "status", "try-restart": "restart", "reset-failed": "zap"}
        for manager in ("rc-service", "service"):
            if shutil.which(manager, path=self._path):
                if (manager, verb) == ("service", "reset-failed"):
                    return Answer(0, "", "")  # there is no state that it would have to forget
                return self._run(manager, service, verbs.get(verb, verb))
        return Answer(1, "", "nothing here starts services")

    def _seconds_left(self) -> float:
        return self._end - self._reserve - time.monotonic()

    def _run(self, name: str, *arguments: str) -> Answer:
        """Run a command and return what it says; raise SshdError if it is missing or takes longer than 10 s."""
        # sshd wants to be called by its absolute path.
        program = shutil.which(name, path=self._path)
        if program is None:
            raise SshdError("{} is not on this machine (looked in {})".format(name, self._path))
        shown = " ".join((name, *arguments))
        seconds = min(_COMMAND_SECONDS, self._seconds_left())
        if seconds <= 0:
            raise SshdError("no time left for {}, the commands before took too long".format(shown))
        began = time.monotonic()
        try:
            answer = command.run((program, *arguments), seconds, {"PATH": self._path, "LC_ALL": "C"})
        except command.CommandError as error:
            raise SshdError("{} {}".format(shown, error)) from None
        LOG.debug("%s: exit %d after %.0f ms", shown, answer.code, 1000 * (time.monotonic() - began))
        return answer


def questions(expression: openssh.Expression) -> Tuple[List[openssh.Connection], List[str]]:
    """Return connections that the patterns of each entry fit, and what is to say of entries that fit nobody here."""
    connections, unproved = [], []
    for position, (entry, _) in enumerate(expression.blocks):
        found = [one for one in map(somebody, _by_pattern(entry)) if one]
        connections += found
        if not found:
            who = dropin.criterion(entry)
            unproved.append("match[{}] is not proved, Match {} fits nobody who is known here yet".format(position, who))
    return connections, unproved


def _by_pattern(entry: Entry) -> List[Entry]:
    return [entry._replace(patterns=(pattern,)) for pattern in entry.patterns]


def somebody(entry: Entry) -> Optional[openssh.Connection]:
    """Return a connection that an entry's first pattern fits, None if nobody is known whom it does."""
    pattern = entry.patterns[0]
    if entry.criterion == "address":
        return NOBODY._replace(address=str(ipaddress.ip_network(pattern).network_address))
    if entry.criterion == "user":
        # sshd compares names, there need be no such user.
        user: Optional[str] = pattern.replace("*", "").replace("?", "x") or NOBODY.user
    else:
        user = next(_members(pattern), None)
    return NOBODY._replace(user=user, groups=_groups_of(user)) if user else None


def _members(pattern: str) -> Iterator[str]:
    """Yield the members of the groups that a pattern fits."""
    try:
        # By its name first: a directory may know groups that it does not list.
        groups = [grp.getgrnam(pattern)]
    except KeyError:
        groups = [group for group in grp.getgrall() if fnmatch.fnmatchcase(group.gr_name, pattern)]
    for group in groups:
        # sshd looks members up, and one that is only listed is none.
        yield from (user for user in group.gr_mem if _groups_of(user))
    numbers = {group.gr_gid for group in groups}
    if numbers:
        yield from (user.pw_name for user in pwd.getpwall() if user.pw_gid in numbers)


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


def _names_a_process(pid_file: str) -> bool:
    try:
        with open(pid_file, encoding="ascii") as stream:
            os.kill(int(stream.read()), 0)
    except (OSError, ValueError, OverflowError):
        return False
    return True


def apply(policy: Policy, sshd: Sshd) -> Report:
    """Have sshd keep a policy, and return what is in force.

    Raise PolicyError if this sshd cannot keep it, and SshdError if it does not; all files are then as they were, and
    sshd runs if it did.
    """
    try:
        return _keep(policy, sshd) if policy.enabled else _remove(policy, sshd)
    except OSError as error:
        words = (error.filename, error.strerror or type(error).__name__)
        raise SshdError(": ".join(map(str, filter(None, words)))) from error


def reapply(sshd: Sshd) -> Optional[Report]:
    """Express the policy that is kept for the sshd that is here now, as after an upgrade; None without a policy.

    Raise PolicyError or SshdError if that cannot be done.
    """
    file = sshd.place()
    text = sshd.text(file)
    if text is None:
        return None
    policy = dropin.read_policy(text)
    if policy is None:
        raise SshdError("{}: has no policy line that can be read, run cloud-init's module again".format(file))
    return apply(policy, sshd)


def _keep(policy: Policy, sshd: Sshd) -> Report:
    version = sshd.version()
    reads_drop_ins = openssh.has(version, "reads-drop-ins")
    if not reads_drop_ins and not sshd.main_is_ours_to_change:
        raise SshdError("OpenSSH {}.{} reads no drop-ins, and {} is not ours to change".format(*version, sshd.main))
    expression = sshd.express(policy, version)
    ways = [_IN_MAIN]
    if reads_drop_ins:
        ways = [_DROP_IN] if sshd.place() == sshd.file else []
        ways += [_INCLUDED, _IN_MAIN] if sshd.main_is_ours_to_change else []
    with sshd.alone() as unfinished:
        for way in ways[:-1]:
            try:
                return _keep_in(way, policy, version, expression, unfinished, sshd)
            except _NotReadError:
                sshd.tidy()
        return _keep_in(ways[-1], policy, version, expression, unfinished, sshd)


def _keep_in(
    way: str,
    policy: Policy,
    version: openssh.Version,
    expression: openssh.Expression,
    unfinished: bool,
    sshd: Sshd,
) -> Report:
    """Keep a policy in one of the ways that there are."""
    in_main = way == _IN_MAIN
    texts: Dict[str, Optional[str]] = {sshd.file: None if in_main else dropin.render(policy, expression)}
    texts[sshd.tmout_file] = tmout.render(expression.tmout) if expression.tmout else None
    main = sshd.text(sshd.main) or ""
    if way != _DROP_IN:
        texts[sshd.main_file] = (
            dropin.with_block(main, policy, expression) if in_main else dropin.with_include(main, sshd.file)
        )
    texts = {file: text for file, text in texts.items() if unfinished or not sshd.stands(file, text)}
    if openssh.has(version, "takes-256-kib"):
        sshd.check_size(texts)
    with sshd.prepared(texts):
        if (sshd.main_file if in_main else sshd.file) in texts:
            try:
                sshd.prove(expression, in_main, sshd.candidate(in_main))
            except _NotReadError:
                raise
            except SshdError as error:
                # What is refused may be what stands in our place now (cut off, a dangling link): its end is to show.
                if in_main or sshd.file not in str(error):
                    raise
        unproved, restarted = _land(texts, expression, in_main, sshd)
    return Report(sshd.main if in_main else sshd.file, policy, version, expression, unproved, bool(texts), restarted)


def _remove(policy: Policy, sshd: Sshd) -> Report:
    changed = restarted = False
    place = sshd.file
    if os.path.isdir(os.path.dirname(sshd.folder)):
        with sshd.alone() as unfinished:
            files = (sshd.file, sshd.tmout_file)
            texts: Dict[str, Optional[str]] = {
                file: None for file in files if unfinished or not sshd.stands(file, None)
            }
            place = sshd.place()
            main = sshd.text(sshd.main) or ""
            if dropin.without_block(main) != main:
                texts[sshd.main_file] = dropin.without_block(main)
            changed = bool(texts)
            with sshd.prepared(texts):
                _, restarted = _land(texts, None, False, sshd)
    return Report(place, policy, None, None, (), changed, restarted)


def _land(
    texts: Mapping[str, Optional[str]], expression: Optional[openssh.Expression], in_main: bool, sshd: Sshd
) -> Tuple[Tuple[str, ...], bool]:
    """Put prepared texts in place, prove them and restart an sshd that runs and had others, or put all back.

    Return what is not proved, and whether sshd was restarted.
    """
    restarting = None
    unproved: Tuple[str, ...] = ()
    unread = bool(set(texts) - {sshd.tmout_file}) or bool(expression and not sshd.has_read())
    try:
        with contextlib.ExitStack() as stack:
            for file, text in texts.items():
                stack.enter_context(sshd.landed(file, text))
            # Asked after landing: one that starts from here on reads the new text by itself.
            service = sshd.running() if unread else None
            if expression or service:
                expression = expression or openssh.Expression((), None)
                unproved = sshd.prove(expression, in_main)
                overridden = sshd.overridden(expression)
                if overridden:
                    raise SshdError("; ".join((*overridden, OPTION_REMEDY)))
            if service:
                sshd.check_that_it_starts()
                restarting = service
                sshd.restart(service)
    except BaseException as error:
        if not restarting:
            raise
        state = sshd.revive(restarting)
        if not isinstance(error, Exception):
            raise
        raise SshdError("{}; the old configuration is back, sshd is {}".format(error, state)) from error
    return unproved, restarting is not None
