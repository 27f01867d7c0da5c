# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""This machine: where its files are, and its programs, which are run within a time budget."""

import logging
import os
import shutil
import time
from typing import Optional, Tuple

from . import command
from .command import Answer
from .problem import Problem, SshdError

LOG = logging.getLogger(__name__)

_COMMAND_SECONDS = 10.0
# With less than this left no program is started.
_LEAST_SECONDS = 0.1
# What all commands together may take, and what of it is reserved for restoring.
TOTAL_SECONDS = 40.0
WAY_BACK_SECONDS = 15.0
# How long a restarted sshd is waited for: at a boot, and by a person
_BOOT_PATIENCE, _PATIENCE = 15.0, 60.0


class SlowError(SshdError):
    """Say which program did not answer in time, or said too much."""


class Host:
    """Run commands on a machine, within a budget of time.

    `services` are the names that sshd's service may have, and `path` the folders in which programs are looked for.
    `attended` says that a person watches the run; an unattended run changes less. `root` is for tests.
    """

    def __init__(
        self,
        services: Tuple[str, ...] = ("ssh", "sshd"),
        attended: bool = False,
        root: str = "",
        path: str = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin",
    ) -> None:
        self.services = services
        self.attended = attended
        # Whether name services have answered, as long as none was too slow
        self.names_answer = True
        self.patience = _PATIENCE if attended else _BOOT_PATIENCE
        self._root = root
        self.path = path
        self._end = time.monotonic() + TOTAL_SECONDS
        self._reserve = WAY_BACK_SECONDS

    def at(self, path: str) -> str:
        """Return where a path of the machine is."""
        return self._root + path

    @property
    def runs_systemd(self) -> bool:
        """Return whether systemd is the init system; sd_booted(3)."""
        return os.path.isdir(self.at("/run/systemd/system"))

    def program(self, name: str) -> Optional[str]:
        """Return the absolute path of a program, by which sshd requires to be called; None if it is not here."""
        return shutil.which(name, path=self.path)

    @property
    def seconds_left(self) -> float:
        """Return how many seconds all commands still have, without those that are reserved for restoring."""
        return self._end - self._reserve - time.monotonic()

    def extend(self, seconds: float) -> None:
        """Give all commands more seconds, after a wait that has a limit of its own."""
        self._end += seconds

    def spend_reserve(self) -> None:
        """Let the commands that restore take what is reserved for them."""
        self._reserve = 0.0

    def run(self, name: str, *arguments: str, seconds: float = _COMMAND_SECONDS) -> Answer:
        """Run a program and return what it says; raise SshdError if it is missing or takes longer than that."""
        program = self.program(name)
        if program is None:
            raise SshdError(Problem(f"{name} is not on this machine (looked in {self.path})"))
        shown = " ".join((name, *arguments))
        seconds = min(seconds, self.seconds_left)
        if seconds < _LEAST_SECONDS:
            raise SlowError(Problem(f"no time left for {shown}, the commands before took too long"))
        began = time.monotonic()
        try:
            answer = command.run((program, *arguments), seconds, {"PATH": self.path, "LC_ALL": "C", "TZ": "UTC"})
        except command.CommandError as error:
            raise SlowError(Problem(f"{shown} {error}")) from None
        LOG.debug("%s: exit %d after %.0f ms", shown, answer.code, 1000 * (time.monotonic() - began))
        return answer

    def label(self, *paths: str) -> str:
        """Give files the SELinux contexts of their names, where there are any; return why that failed, "" if not."""
        if self.program("restorecon") is None:
            return ""
        answer = self.run("restorecon", *paths)
        return answer.last_words() if answer.code else ""
