"""Throwaway Debian machines: real systemd, cloud-init and sshd, booted by systemd-nspawn on an overlay."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import host
from bases import base
from host import MachineError
from releases import BACKPORTS, FOREIGN, RELEASES

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
        self._work = host.cache("run") / self.name
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._init = 0
        self._held = contextlib.ExitStack()
        with self._held:
            lower = image or base(suite, init, packages)
            self._held.enter_context(host.locked(lower, fcntl.LOCK_SH))
            with host.locked(host.cache("run")):
                host.sweep()
                self._work.mkdir()
                # While this lock is held the machine has an owner, and no sweep takes it away.
                self._held.enter_context(host.locked(self._work))
                self._held.callback(host.discard, self._work)
            scratch = self._work / "scratch"
            scratch.mkdir()
            self.root = host.mount_overlay(lower, scratch)
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
        cgroup = host.cgroups()[0] / self.name
        cgroup.mkdir(exist_ok=True)
        enter = 'echo $$ >"$0/cgroup.procs" && exec "$@"'
        with self._console.open("ab") as console:
            self._nspawn = subprocess.Popen(
                ("sh", "-c", enter, cgroup, *_nspawn(self.name, self.root, self.init, options)),
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
        parts = [f"{self.name} ({self.release.name}): {problem}{host.exhausted()}"]
        logs = {"console": self.console()}
        cloud_init = self.root / "var/log/cloud-init-output.log"
        if cloud_init.exists():
            logs["cloud-init-output.log"] = cloud_init.read_text(errors="replace")
        for name, text in logs.items():
            parts += [f"--- {name}", *text.splitlines()[-30:]]
        return "\n".join(parts)


def _nspawn(name: str, root: Path, init: str, options: Iterable[str]) -> tuple[str, ...]:
    """Return the command that switches a machine on."""
    return (
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
        f"--machine={name}",
        f"--directory={root}",
        *options,
        # --boot prefers systemd, which may be installed beside another init.
        *(("--boot", "systemd.show_status=yes") if init == "systemd" else ("/sbin/init",)),
    )


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _init_of(nspawn: int) -> int:
    """Return the process which is number 1 of the machine, or 0 if there is none yet."""
    with contextlib.suppress(OSError):
        for child in _children(nspawn):
            if re.search(r"^NSpid:.*\t1$", Path(f"/proc/{child}/status").read_text(), re.MULTILINE):
                return child
    return 0
