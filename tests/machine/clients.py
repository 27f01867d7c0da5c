"""Real ssh clients in a machine, and how long sshd puts up with them."""

from __future__ import annotations

import signal
import time
from types import TracebackType

from machine import Machine


class Client:
    """An ssh client in a machine, logged in to the machine's own sshd as root, with `cat` at the other end."""

    def __init__(self, machine: Machine) -> None:
        """Log in."""
        self._machine = machine
        # The parent of what a session runs is the sshd that serves it.
        self._process = machine.popen("ssh", "localhost", "echo $PPID; exec cat", stdin=-1)
        self.server = self._process.stdout.readline().strip()
        if not self.server:
            raise AssertionError(self._process.stderr.read())
        self.last_sign_of_life = time.monotonic()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def answers(self) -> bool:
        """Type a line, and tell whether it comes back."""
        try:
            self._process.stdin.write("line\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return False
        came_back = self._process.stdout.readline() == "line\n"
        self.last_sign_of_life = time.monotonic()
        return came_back

    def freeze(self) -> None:
        """Stop the client as a dead machine would: its connection stays, and nothing answers any more."""
        assert self.answers()
        self._process.send_signal(signal.SIGSTOP)

    def served(self) -> bool:
        """Tell whether sshd still keeps the session."""
        return self._machine.run("kill", "-0", self.server, check=False).returncode == 0

    def seconds_until_dropped(self, timeout: float) -> float:
        """Wait until sshd has ended the session; return the seconds since the client's last sign of life."""
        wait = f"while kill -0 {self.server} 2>/dev/null; do sleep 0.05; done"
        self._machine.sh(wait, timeout=timeout)
        return time.monotonic() - self.last_sign_of_life
