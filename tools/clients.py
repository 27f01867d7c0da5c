"""An ssh client that can be frozen, and how long sshd puts up with it."""

from __future__ import annotations

import contextlib
import re
import signal
import time
from typing import NamedTuple

from baking import bake
from host import MachineError
from machine import Machine
from sessions import NAMED, Session, ssh

# For root, the parent of what a session runs is the sshd that serves it.
CAT = "-p {} 127.0.0.1 'echo sshd is $PPID; " + NAMED + "; exec cat'"


class Client(Session):
    """A session, logged in to a machine's sshd as root, with `cat` at the other end."""

    def __init__(self, machine: Machine, port: int = 22) -> None:
        """Log in."""
        super().__init__(machine, ssh(CAT.format(port)))
        with contextlib.ExitStack() as stack:
            stack.push(self)
            self.wait()
            stack.pop_all()
        self.begin()
        self.last_sign_of_life = time.monotonic()

    @property
    def server(self) -> int:
        """The process that serves it."""
        return self._pids["sshd"]

    def answers(self) -> bool:
        """Type a line, and tell whether it comes back."""
        before = self.output
        self.type("line\n")
        while self.output == before and self.client.poll() is None:
            time.sleep(0.01)
        self.last_sign_of_life = time.monotonic()
        return self.output == f"{before}line\n"

    def freeze(self) -> None:
        """Stop the client as a dead machine would: its connection stays, and nothing answers any more."""
        assert self.answers()
        self.client.send_signal(signal.SIGSTOP)

    def served(self) -> bool:
        """Tell whether sshd still keeps the session."""
        self.look()
        return self.ends["sshd"] is None

    def seconds_until_dropped(self, timeout: float) -> float:
        """Wait until sshd has ended the session; return the seconds since the client's last sign of life."""
        deadline = time.monotonic() + timeout
        while self.served():
            if time.monotonic() > deadline:
                raise MachineError(f"still served after {timeout} s")
            time.sleep(0.05)
        return time.monotonic() - self.last_sign_of_life


class Measured(NamedTuple):
    """What became of two clients of one machine: one was frozen, one idle."""

    dropped_after: float
    logged: bool
    idle_one_answers: bool


def measure(section: str, suite: str) -> Measured:
    """Freeze one of two clients of a machine with a section (YAML), and wait for its end."""
    with Machine(suite, f"#cloud-config\nssh_keepalive: {section}\n") as machine:
        bake(machine)
        machine.boot()
        machine.wait()
        with Client(machine) as idle, Client(machine) as frozen:
            frozen.freeze()
            dropped_after = frozen.seconds_until_dropped(timeout=600)
            log = machine.run("journalctl", "-b", "--no-pager").stdout
            logged = re.findall("Timeout, client not responding from user root", log)
            return Measured(dropped_after, len(logged) == 1, idle.served() and idle.answers())
