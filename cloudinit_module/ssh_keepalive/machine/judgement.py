# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""A judgement of audits: whether a server enforces the policy, or why not."""

import os
from typing import List, Optional, Sequence

from .. import openssh, sshd_config
from ..openssh import Settings
from . import files, trace, verification
from .audit import Audit
from .files import File
from .host import Host
from .problem import NotReadError, Problem, SshdError
from .record import Reading
from .servers import Server
from .verification import Deviation


class Judge:
    """Judge what the servers make of a drop-in, or of blocks in a main file where they do not read that."""

    def __init__(self, drop_in: File, main: File, host: Host) -> None:
        self._drop_in = drop_in
        self._main = main
        self._host = host
        # The text of the main file before this run
        self.old_main = ""

    def check_candidate(self, found: Audit, in_main: bool, above: int) -> None:
        """Raise SshdError if a staged text would not be enforced, whatever our own old text says.

        `above` is how many lines of the candidate are before those of the main file. Raise NotReadError if it is not
        read.
        """
        deviations = [one for one in found.deviations if one.file != self._drop_in.path]
        self._raise_for(found, deviations, in_main, above)

    def check(self, found: Audit, settings: Settings, in_main: bool) -> List[str]:
        """Raise SshdError if the machine's own server does not enforce its settings; return what is to be told.

        Raise NotReadError if it does not read them, or not all of them.
        """
        big = too_big(found)
        if big:
            raise SshdError(big)
        if settings.tmout:
            # Where sshd knows ChannelTimeout a boot need not import that.
            from . import shells

            wrong = shells.tmout_problem(settings.tmout, self._host)
            if wrong:
                raise SshdError(wrong)
        if os.path.realpath(found.main) != os.path.realpath(found.server.main):
            # Another is built into its program, and what is written to this one it never reads.
            problems = self.problems_of_another(found)
            if problems:
                raise SshdError(*problems)
        exceptions = [one for one in found.for_root if one.is_for("root")]
        others = [one for one in found.for_root if one not in exceptions]
        self._raise_for(found, (*found.deviations, *others), in_main)
        if not in_main and not found.reads_matches:
            # Not all match entries are asked about.
            raise NotReadError(self._not_read(found))
        return [*(verification.problem(one, found.server).message for one in exceptions), *found.notes]

    def problems_of_another(self, found: Audit) -> List[Problem]:
        """Return why another server than the machine's own does not enforce the policy."""
        drop_in = self._drop_in.path
        deviations = (*found.deviations, *(one for one in found.for_root if not one.is_for("root")))
        if (deviations and not found.reads(drop_in)) or not found.reads_matches:
            return [not_read(found, drop_in)]
        ours = [one for one in deviations if one.file == drop_in]
        if ours and found.settings:
            version = openssh.name_of(found.settings.version)
            message = f"{found.server.name} is {version}, and {drop_in} is written for another: {ours[0].message}"
            return [Problem(message, "have both started from the same program")]
        return [verification.problem(one, found.server) for one in deviations]

    def _raise_for(self, found: Audit, deviations: Sequence[Deviation], in_main: bool, above: int = 0) -> None:
        if not deviations:
            return
        ours = (self._drop_in.path, self._drop_in.temporary("new"))
        unread = not any(found.reads(file) for file in ours)
        # OpenSSH 8.2 and 8.3 skip Match in included files unless the main file has one.
        skipped = any(one.file in ours for one in deviations)
        if not in_main and (unread or skipped) and not any(one.is_by_option for one in deviations):
            problem = self._not_read(found)
            messages = ", ".join(one.message for one in deviations)
            raise NotReadError(problem._replace(message=f"{messages}: {problem.message}"))
        shown = [one._replace(set_by=self._as_it_was(one.set_by, found, above)) for one in deviations]
        raise SshdError(*(verification.problem(one, found.server) for one in shown))

    def _as_it_was(self, place: Optional[str], found: Audit, above: int) -> Optional[str]:
        """Return a line of a candidate, or of a main file with a new block, as it is in the file that stays."""
        file, _, line = (place or "").rpartition(":")
        if file not in (found.main, found.server.main, self._main.path):
            return place
        before = above or sshd_config.lines_before(files.text(file) or "")
        return f"{found.server.main}:{int(line) - before + sshd_config.lines_before(self.old_main)}"

    def _not_read(self, found: Audit) -> Problem:
        message = f"{found.server.main} does not read {self._drop_in.path}"
        return Problem(message, f"put 'Include {self._drop_in.path}' on its first line, and restart sshd")


def too_big(found: Audit) -> Optional[Problem]:
    """Return the problem of a configuration with which every login is refused, None for one that is small enough."""
    if not found.is_too_big:
        return None
    has = f"the configuration of {found.server.name} has {trace.size(found.reply.trace)} bytes"
    remedy = f"shorten {found.main} and what it includes, then {found.server.restart_command}"
    return Problem(f"{has}, above 256 KiB this version refuses every login", remedy)


def unread(server: Server, reading: Reading) -> Problem:
    """Return the problem of a server that has not read its configuration as it is now, or may not have."""
    changed = ", ".join(reading.changed)
    message = f"whether {server.name} has read {changed} as it is now is not known"
    if reading.is_noted:
        message = f"{server.name} has not read {changed} since it changed"
    survive = "" if server.listener and server.listener.pid == 1 else ", open sessions survive"
    return Problem(message, f"{server.restart_command}{survive}")


def not_read(found: Audit, drop_in: str) -> Problem:
    """Return the problem of a server that does not read the drop-in."""
    server = found.server
    message = f"{server.name} reads {found.main}, which does not read {drop_in}"
    if found.settings and not openssh.has(found.settings.version, "reads-drop-ins"):
        # An Include would keep it from being started.
        lines = "; ".join(f"{keyword} {value}" for keyword, value in found.settings.directives)
        return Problem(message, f"put its lines ({lines}) at the top of {found.main}, then {server.restart_command}")
    return Problem(message, f"put 'Include {drop_in}' on its first line, then {server.restart_command}")
