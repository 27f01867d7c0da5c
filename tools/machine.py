"""Throwaway Debian machines: real systemd, cloud-init and sshd, booted by systemd-nspawn on an overlay."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import hashlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple


class Release(NamedTuple):
    """A Debian release; the versions are what its newest packages print."""

    suite: str
    name: str
    cloud_init: str
    openssh: str
    python: str
    rolling: bool = False  # its versions rise; those given here are the least


RELEASES = {
    release.suite: release
    for release in (
        Release("bullseye", "Debian 11", cloud_init="20.4", openssh="8.4", python="3.9"),
        Release("bookworm", "Debian 12", cloud_init="22.4", openssh="9.2", python="3.11"),
        Release("trixie", "Debian 13", cloud_init="25.1", openssh="10.0", python="3.13"),
        Release("forky", "Debian testing", cloud_init="26.2", openssh="10.6", python="3.14", rolling=True),
    )
}

# Releases whose OpenSSH comes from backports.
BACKPORTS = {
    release.suite: release
    for release in (
        RELEASES["bookworm"]._replace(suite="bookworm-backports", name="Debian 12 backports", openssh="10.0"),
        RELEASES["trixie"]._replace(suite="trixie-backports", name="Debian 13 backports", openssh="10.3"),
    )
}

# A release of another architecture, whose programs this one's kernel runs as well.
FOREIGN = {"bookworm-i386": RELEASES["bookworm"]._replace(suite="bookworm-i386", name="Debian 12 on i386")}

PROGRAMS = ("mmdebstrap", "systemd-nspawn", "nsenter", "mount", "umount")

# The packages of each init system; Debian's OpenRC is started by sysvinit's init.
INITS = {
    "systemd": "systemd,systemd-sysv,dbus,libpam-systemd",
    "sysvinit": "sysvinit-core",
    "openrc": "openrc,sysvinit-core",
}

MMDEBSTRAP = (
    "mmdebstrap",
    "--variant=apt",
    # The package indexes of an old release, or of a snapshot, may have passed their date.
    '--aptopt=Acquire::Check-Valid-Until "false"',
    '--aptopt=Acquire::Languages "none"',
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    # mount, passwd and locales are what the init system and cloud-init call without depending on them.
    "--include={init},mount,passwd,locales,iproute2,ca-certificates,openssh-server,openssh-client,cloud-init,python3",
)

# Shell scripts which mmdebstrap runs on the host, with the new root as $1.
BACKPORTED = r"""
set -e
cd "$1/etc/apt"
mkdir -p sources.list.d preferences.d
echo 'deb http://deb.debian.org/debian {suite} main' >sources.list.d/backports.list
printf 'Package: openssh-*\nPin: release n={suite}\nPin-Priority: 990\n' >preferences.d/backports
"""
CUSTOMIZE = r"""
set -e
cd "$1"
: >etc/machine-id
echo machine >etc/hostname
printf '127.0.0.1 localhost machine\n::1 localhost ip6-localhost\n' >etc/hosts
rm -f etc/resolv.conf
printf 'datasource_list: [ NoCloud, None ]\nlocale: C.UTF-8\n' >etc/cloud/cloud.cfg.d/90_machine.cfg

install -d -m 700 root/.ssh
chroot . ssh-keygen -q -t ed25519 -N '' -C machine -f /root/.ssh/id_ed25519
cp root/.ssh/id_ed25519.pub root/.ssh/authorized_keys
printf 'Host localhost 127.0.0.1 ::1\n  %s\n  %s\n  %s\n  %s\n' 'StrictHostKeyChecking no' \
    'UserKnownHostsFile /dev/null' 'LogLevel ERROR' 'BatchMode yes' >root/.ssh/config
chmod 600 root/.ssh/*
"""

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}

# Colours, cursor movements, and what systemd tells terminals about the session.
ESCAPES = r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[^\[\]]|\r"

SEED = "var/lib/cloud/seed/nocloud"

# systemd's own, see systemd(1), SIGNALS.
SIGNAL_POWEROFF = signal.SIGRTMIN + 4


class MachineError(AssertionError):
    """Something about a machine is not as it must be."""


class CommandError(MachineError):
    """A command in a machine failed, or took too long."""

    def __init__(self, what: str, argv: tuple[str, ...], stdout: str, stderr: str) -> None:
        super().__init__(f"{' '.join(argv)}: {what}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
        self.stdout = stdout
        self.stderr = stderr


class Process(subprocess.Popen[str]):
    """A command in a machine; what is started, and waits for it, is nsenter."""

    def send_signal(self, sig: int) -> None:
        """Send a signal to the command; SIGKILL goes to its whole process group."""
        if self.poll() is not None:
            return
        children = _children(self.pid)
        if sig == signal.SIGKILL:
            os.killpg(self.pid, sig)
        elif sig == signal.SIGCONT or not children:
            os.kill(self.pid, sig)  # nsenter passes SIGCONT on, and no other
        else:
            os.kill(children[0], sig)
            if sig == signal.SIGSTOP:  # nsenter stops as well, a moment later, and must not miss the SIGCONT
                os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)


@functools.lru_cache
def unavailable() -> str | None:
    """Say why machines cannot be booted here, or return None."""
    if os.geteuid() != 0:
        return "booting machines needs root"
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"booting machines needs {', '.join(missing)} (apt install mmdebstrap systemd-container)"
    if not _cgroups():
        return "booting machines needs a cgroup hierarchy of systemd's in /sys/fs/cgroup"
    with tempfile.TemporaryDirectory() as folder:
        lower = Path(folder, "lower")
        scratch = Path(folder, "scratch")
        lower.mkdir()
        scratch.mkdir()
        try:
            _mount_overlay(lower, scratch)
        except MachineError as error:
            return f"booting machines needs tmpfs and overlay mounts: {error}"
        finally:
            _unmount(scratch)
    return None


def base(suite: str, init: str = "systemd", packages: tuple[str, ...] = (), announce: str = "") -> Path:
    """Return the root of a freshly installed release, built once and cached; never to be written to.

    If it is to be built, announce is printed, and then what mmdebstrap says.
    """
    command = _mmdebstrap(suite, init, packages)
    recipe = "\0".join((suite, *command, CUSTOMIZE))
    folder = _folder("base", "-".join((suite, *((init,) if init != "systemd" else ()), *packages)))
    root = folder / hashlib.sha256(recipe.encode()).hexdigest()[:12]
    if not root.is_dir():
        if announce:
            print(announce.format(folder=folder), flush=True)
        with _locked(folder):
            if not root.is_dir():  # another process may have built it while this one waited
                _build(suite, root, command, shown=bool(announce))
                for old in set(folder.iterdir()) - {root}:
                    _remove_base(old)
    return root


class Machine:
    """A machine of one release, which the end of its context throws away."""

    def __init__(
        self,
        suite: str,
        user_data: str | None = "#cloud-config\n{}\n",
        instance_id: str | None = None,
        init: str = "systemd",
        packages: tuple[str, ...] = (),
        image: Path | None = None,
    ) -> None:
        """Make the root of a machine; with user_data None cloud-init finds no datasource; init is one of INITS.

        Packages are what it has beside what each has; their names are those of a base of its own. An image is a root
        that somebody else has made of that release; it is not written to.
        """
        self.suite = suite
        self.init = init
        self.release = {**RELEASES, **BACKPORTS, **FOREIGN}[suite]
        self.name = f"machine-{uuid.uuid4().hex[:12]}"
        self._work = _folder("run") / self.name
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._init = 0
        self._held = contextlib.ExitStack()
        with self._held:
            lower = image or base(suite, init, packages)
            self._held.enter_context(_locked(lower, fcntl.LOCK_SH))
            with _locked(_folder("run")):
                _sweep()
                self._work.mkdir()
                # While this lock is held the machine has an owner, and no sweep takes it away.
                self._held.enter_context(_locked(self._work))
                self._held.callback(_discard, self._work)
            scratch = self._work / "scratch"
            scratch.mkdir()
            self.root = _mount_overlay(lower, scratch)
            self._console = scratch / "console"
            self.reseed(user_data, instance_id)
            self._held = self._held.pop_all()

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def running(self) -> bool:
        """Tell whether the machine is switched on."""
        return self._nspawn is not None and self._nspawn.poll() is None

    @property
    def pid(self) -> int:
        """Return the number that process 1 of the machine has on the host."""
        return self._init

    def reseed(self, user_data: str | None, instance_id: str | None = None) -> None:
        """Hand the next boot new user-data, as a new instance unless an instance-id is given."""
        seed = self.root / SEED
        shutil.rmtree(seed, ignore_errors=True)
        if user_data is None:
            return
        seed.mkdir(parents=True)
        instance_id = instance_id or f"i-{uuid.uuid4().hex[:12]}"
        (seed / "meta-data").write_text(f"instance-id: {instance_id}\nlocal-hostname: machine\n")
        (seed / "network-config").write_text("version: 2\nethernets: {}\n")
        (seed / "user-data").write_text(user_data)

    def boot(self, *options: str, timeout: float = 30) -> None:
        """Switch the machine on, with options of nspawn's; return when its init takes commands; timeout in s."""
        if self.running:
            raise MachineError(f"{self.name} is switched on already")
        # nspawn makes the machine's cgroups in its own; two machines in one cgroup would fight for it.
        cgroup = _cgroups()[0] / self.name
        cgroup.mkdir(exist_ok=True)
        enter = 'echo $$ >"$0/cgroup.procs" && exec "$@"'
        nspawn = (
            "systemd-nspawn",
            "--quiet",
            "--register=no",
            "--keep-unit",
            "--private-network",
            "--link-journal=no",
            "--resolv-conf=off",
            "--timezone=off",
            "--console=read-only",
            "--hostname=machine",
            f"--machine={self.name}",
            f"--directory={self.root}",
            *options,
            # --boot prefers systemd, which may be installed beside another init.
            *(("--boot", "systemd.show_status=yes") if self.init == "systemd" else ("/sbin/init",)),
        )
        with self._console.open("ab") as console:
            self._nspawn = subprocess.Popen(
                ("sh", "-c", enter, cgroup, *nspawn),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # or a Ctrl-C in pytest's terminal would hit it as well
                env={**ENVIRONMENT, "TERM": "dumb", "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            )
        self._until(f"{self.init} took no commands", timeout, self._answers)

    def wait(self, timeout: float = 90, sshd: bool = True) -> None:
        """Return when cloud-init has finished and, if asked for, sshd listens; timeout in seconds."""
        start = time.monotonic()
        self._until("cloud-init did not finish", timeout, self._initialized)
        if sshd:
            left = start + timeout - time.monotonic()
            self._until("sshd does not run", left, self._serves)

    def run(
        self,
        *argv: str,
        check: bool = True,
        timeout: float = 60,
        input: str | None = None,
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the machine as root; env is added to a clean environment, timeout is in seconds."""
        stdin = subprocess.DEVNULL if input is None else subprocess.PIPE
        with self.popen(*argv, env=env, stdin=stdin) as process:
            try:
                stdout, stderr = process.communicate(input, timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                stdout, stderr = process.communicate(timeout=5)
                raise CommandError(f"not done after {timeout} s", argv, stdout, stderr) from None
        if check and process.returncode:
            raise CommandError(f"exit status {process.returncode}", argv, stdout, stderr)
        return subprocess.CompletedProcess(argv, process.returncode, stdout, stderr)

    def sh(self, script: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a shell script in the machine as root, with the options of run."""
        return self.run("sh", "-ec", script, **options)

    def popen(self, *argv: str, env: dict[str, str] | None = None, **options: Any) -> Process:
        """Start a command in the machine as root; options are subprocess.Popen's."""
        if not self.running:
            raise MachineError(f"{self.name} is switched off")
        namespaces = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup")
        defaults = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return Process(
            ("nsenter", f"--target={self._init}", *namespaces, "--", *argv),
            **{**defaults, **options},
            env={**ENVIRONMENT, **(env or {})},
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )

    def alive(self, pid: int) -> bool:
        """Tell whether a process of the machine lives, without starting one that looks."""
        return os.path.exists(f"/proc/{self._init}/root/proc/{pid}")

    def poweroff(self, timeout: float = 60) -> None:
        """Shut the machine down cleanly; its root stays, to be read or booted again; timeout in seconds."""
        if not self.running:
            raise MachineError(f"{self.name} is switched off")
        assert self._nspawn is not None
        if self.init == "systemd":
            os.kill(self._init, SIGNAL_POWEROFF)
        else:
            self.run("poweroff")
        try:
            self._nspawn.wait(timeout)
        except subprocess.TimeoutExpired:
            raise MachineError(self._report(f"not shut down after {timeout} s")) from None

    def reboot(self) -> None:
        """Shut the machine down cleanly, and boot it again."""
        self.poweroff()
        self.boot()

    def console(self) -> str:
        """Return what all boots have printed on the console."""
        text = self._console.read_text(errors="replace") if self._console.exists() else ""
        return re.sub(ESCAPES, "", text)

    def close(self) -> None:
        """Throw the machine away, running or not."""
        self._held.close()
        if self._nspawn is not None:
            self._nspawn.wait()

    def _answers(self) -> bool:
        assert self._nspawn is not None
        self._init = _init_of(self._nspawn.pid)
        # systemctl talks to systemd through this socket, even before there is a D-Bus; telinit to init through a FIFO.
        door = "systemd/private" if self.init == "systemd" else "initctl"
        return self._init != 0 and os.path.exists(f"/proc/{self._init}/root/run/{door}")

    def _initialized(self) -> bool:
        run = f"/proc/{self._init}/root/run/cloud-init"
        if os.path.exists(f"{run}/disabled"):
            return True
        # A symbolic link. It comes a moment before cloud-init's last unit ends, until which status says "running".
        if not os.path.lexists(f"{run}/result.json"):
            return False
        if self.init != "systemd":
            return self.run("pgrep", "--full", "^/usr/bin/python3 /usr/bin/cloud-init ", check=False).returncode == 1
        # That unit has failed, and is finished all the same, where a module failed.
        return self._state("cloud-final.service") in ("active", "failed")

    def _serves(self) -> bool:
        if self.init != "systemd":
            return self.run("ss", "-Hltn", "sport = 22").stdout != ""
        return self._state("ssh.service") == "active"

    def _state(self, unit: str) -> str:
        return self.run("systemctl", "is-active", unit, check=False).stdout.strip()

    def _until(self, complaint: str, timeout: float, condition: Callable[[], bool]) -> None:
        """Return when condition holds; raise with the complaint when it does not in timeout seconds."""
        start = time.monotonic()
        while not condition():
            if not self.running:
                raise MachineError(self._report(f"switched off, and {complaint}"))
            if time.monotonic() > start + timeout:
                raise MachineError(self._report(f"{complaint} in {timeout:.0f} s"))
            time.sleep(0.02)

    def _report(self, problem: str) -> str:
        """Tell a problem with the ends of the logs which may explain it."""
        parts = [f"{self.name} ({self.release.name}): {problem}{_exhausted()}"]
        logs = {"console": self.console()}
        cloud_init = self.root / "var/log/cloud-init-output.log"
        if cloud_init.exists():
            logs["cloud-init-output.log"] = cloud_init.read_text(errors="replace")
        for name, text in logs.items():
            parts += [f"--- {name}", *text.splitlines()[-30:]]
        return "\n".join(parts)


def _folder(*names: str) -> Path:
    """Return a folder of the cache, which is made if need be."""
    folder = Path(os.environ.get("SSH_KEEPALIVE_CACHE", "/var/cache/cloud-init-ssh-keepalive"), *names)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def _locked(folder: Path, how: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Hold a lock on a folder; it ends with this process at the latest. BlockingIOError if how has LOCK_NB."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)


def _mmdebstrap(suite: str, init: str, packages: tuple[str, ...]) -> tuple[str, ...]:
    command = tuple(part.format(init=",".join((INITS[init], *packages))) for part in MMDEBSTRAP)
    if suite in BACKPORTS:
        return (*command, f"--setup-hook={BACKPORTED.format(suite=suite)}")
    return (*command, f"--architectures={suite.partition('-')[2]}") if suite in FOREIGN else command


def _build(suite: str, root: Path, command: tuple[str, ...], shown: bool) -> None:
    fresh = root.with_name(f"new-{root.name}")
    # Not each mirror has the security updates of other architectures.
    source = (f"deb http://deb.debian.org/debian {suite.partition('-')[0]} main",) if suite in FOREIGN else ()
    _rmtree(fresh)
    process = subprocess.Popen(
        (*command, f"--customize-hook={CUSTOMIZE}", suite.partition("-")[0], fresh, *source),
        stdin=subprocess.DEVNULL,
        # On a terminal it draws progress bars.
        stdout=None if shown else subprocess.PIPE,
        stderr=None if shown else subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    try:
        stdout, _ = process.communicate()
        if process.returncode:
            raise MachineError(f"mmdebstrap could not build {suite}:\n{(stdout or '')[-8000:]}")
        fresh.rename(root)
    except BaseException:
        # As a terminal would: it waits for what it has started, and unmounts what it has mounted there.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        process.communicate()
        _rmtree(fresh)
        raise


def _remove_base(root: Path) -> None:
    """Remove a base which an older recipe built, unless a machine uses it."""
    with contextlib.suppress(BlockingIOError), _locked(root, fcntl.LOCK_EX | fcntl.LOCK_NB):
        _rmtree(root)


def _rmtree(folder: Path) -> None:
    """Remove a folder, but nothing that is mounted in it."""
    if folder.exists():
        subprocess.run(("rm", "-rf", "--one-file-system", folder), check=True)


def _mount(*argv: str | Path) -> None:
    done = subprocess.run(("mount", *argv), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise MachineError(done.stdout.partition("\n")[0])


def _mount_overlay(lower: Path, scratch: Path) -> Path:
    """Mount a writable view of lower, and return its path."""
    # A tmpfs is quick, holds an upper layer where the host itself runs on an overlay, and is gone with one umount.
    _mount("-t", "tmpfs", "-o", "mode=755", "machine", scratch)
    upper, work, root = scratch / "upper", scratch / "work", scratch / "root"
    for folder in (upper, work, root):
        folder.mkdir()
    _mount("-t", "overlay", "-o", f"lowerdir={lower},upperdir={upper},workdir={work}", "machine", root)
    return root


def _unmount(scratch: Path) -> None:
    """Unmount scratch and all in it, if it is mounted."""
    for options in ((), ("--lazy",)):
        if os.path.ismount(scratch):
            subprocess.run(("umount", "--recursive", *options, scratch), stderr=subprocess.DEVNULL)


def _cgroups() -> list[Path]:
    """Return the tops of systemd's cgroup hierarchies: unified, or version 2 and 1 side by side, or only version 1."""
    places = (Path("/sys/fs/cgroup", name) for name in ("", "unified", "systemd"))
    return [place for place in places if (place / "cgroup.procs").exists()]


def _exhausted() -> str:
    """Say what of the host is used up, without which no systemd starts; inotify(7)."""
    descriptor = ctypes.CDLL(None).inotify_init()
    if descriptor < 0:
        limit = int(Path("/proc/sys/fs/inotify/max_user_instances").read_text())
        return f", all {limit} inotify instances are in use: sysctl fs.inotify.max_user_instances={8 * limit}"
    os.close(descriptor)
    return ""


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _init_of(nspawn: int) -> int:
    """Return the process which is number 1 of the machine, or 0 if there is none yet."""
    with contextlib.suppress(OSError):
        for child in _children(nspawn):
            if re.search(r"^NSpid:.*\t1$", Path(f"/proc/{child}/status").read_text(), re.MULTILINE):
                return child
    return 0


def _sweep() -> None:
    """Throw away the machines whose owner was killed."""
    for work in _folder("run").glob("machine-*"):
        # One in use is locked; one which its owner throws away at this moment may be gone.
        with contextlib.suppress(BlockingIOError, FileNotFoundError), _locked(work, fcntl.LOCK_EX | fcntl.LOCK_NB):
            _discard(work)


def _discard(work: Path) -> None:
    """Kill what runs of a machine, and remove all traces of it from the host."""
    for cgroups in _cgroups():
        _kill(cgroups / work.name)
    _unmount(work / "scratch")
    with contextlib.suppress(FileNotFoundError):
        (work / "scratch").rmdir()
    work.rmdir()
    # nspawn leaves this behind where /run is no tmpfs.
    with contextlib.suppress(OSError):
        Path("/run/systemd/nspawn/propagate", work.name).rmdir()


def _kill(cgroup: Path, timeout: float = 10) -> None:
    """Kill all processes of a cgroup, and remove it with its children; timeout in seconds."""
    deadline = time.monotonic() + timeout
    while cgroup.is_dir():
        for folder, _, _ in os.walk(cgroup, topdown=False):
            with contextlib.suppress(OSError):
                for pid in Path(folder, "cgroup.procs").read_text().split():
                    os.kill(int(pid), signal.SIGKILL)
            with contextlib.suppress(OSError):
                os.rmdir(folder)
        if time.monotonic() > deadline:
            raise MachineError(f"processes in {cgroup} cannot be killed")
        time.sleep(0.01)
