# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The services of OpenRC and SysV that start sshd."""

import contextlib
import os
import time
from typing import List, NamedTuple, Optional, Tuple

from .. import paths
from . import processes, units
from .command import Answer
from .host import Host
from .problem import Problem, SshdError

# What a restarted sshd may take to write its PID file, by which it is known to run off systemd.
_PID_FILE_SECONDS = 3.0
# Where init scripts have sshd's arguments from: Debian's, Red Hat's, OpenRC's of Alpine and of Gentoo
_DEFAULTS = tuple(zip(paths.SSHD_DEFAULTS, (("SSHD_OPTS",), ("OPTIONS",), ("command_args", "SSHD_OPTS"))))
# And its main file, where that is another: OpenRC's of Alpine, and of Gentoo
_MAIN_FILES = ("cfgfile", "SSHD_CONFIG")


class Script(NamedTuple):
    """Name a service of OpenRC's or SysV's."""

    name: str
    manager: str

    def changed_since(self, listener: processes.Listener, host: Host) -> List[str]:
        """Return the files that say how it is started and have changed since its process was, or may have."""
        found = []
        for file in (*paths.SSHD_DEFAULTS, f"/etc/init.d/{self.name}"):
            with contextlib.suppress(OSError):
                if os.stat(host.at(file)).st_ctime >= processes.on_the_clock(listener.began):
                    found.append(file)
        return found

    def _do(self, verb: str, host: Host) -> Answer:
        return host.run(self.manager, self.name, verb)

    def runs(self, host: Host, pid_file_counts: bool = False) -> bool:
        """Return whether it runs; OpenRC may call it so when it is gone, but for a PID file that was right before."""
        return self._do("status", host).code == 0 and (not pid_file_counts or pid_file_names_sshd(host))

    def restart(self, host: Host) -> None:
        """Restart it, once; raise SshdError if it does not come back."""
        counts = pid_file_names_sshd(host)
        answer = self._do("restart", host)
        if not self._comes_up(host, counts) or answer.code != 0:
            raise SshdError(Problem(f"after its restart sshd is down: {answer.last_words()}"))

    def recover(self, host: Host) -> str:
        """Have it run again with the restored files; return its state."""
        host.spend_reserve()
        # zap: else OpenRC neither starts what it takes for started nor, as Debian has it, stops what is gone.
        for verbs in (("restart",), ("zap", "restart") if self.manager == "rc-service" else ("restart",)):
            with contextlib.suppress(SshdError):
                for verb in verbs:
                    self._do(verb, host)
                if self._comes_up(host, True):
                    return "active"
        return "down"

    def _comes_up(self, host: Host, pid_file_counts: bool) -> bool:
        # It leaves its parent before it listens.
        end = time.monotonic() + _PID_FILE_SECONDS
        while not self.runs(host, pid_file_counts):
            if time.monotonic() >= end:
                return False
            time.sleep(0.1)
        return True


# Debian's init script starts nothing where this is.
FORBIDS = "/etc/ssh/sshd_not_to_be_run"


def script(host: Host) -> Optional[Script]:
    """Return the service that runs sshd off systemd, None if none does."""
    manager = next((name for name in ("rc-service", "service") if host.program(name)), None)
    found = [Script(name, manager) for name in host.services] if manager else []
    return next((one for one in found if one.runs(host)), None)


def pid_file_names_sshd(host: Host) -> bool:
    """Return whether sshd's own PID file names a process of root's that takes connections."""
    return processes.pid_in(host.at(paths.SSHD_PID_FILE)) in {listener.pid for listener in processes.listeners(host)}


def default_words(host: Host) -> Tuple[str, ...]:
    """Return the arguments with which an init script starts sshd, as far as its own file of defaults says."""
    for file, names in _DEFAULTS:
        values = units.variables_in(file, host, is_for_shell=True)
        words = next(filter(None, map(values.get, names)), "").split()
        main = next(filter(None, map(values.get, _MAIN_FILES)), paths.MAIN)
        # Of one that the shell makes of a variable nothing is known.
        if main.startswith("/") and main != paths.MAIN:
            words += ["-f", main]
        if words:
            return tuple(words)
    return ()
