# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""Questions to an sshd about its configuration, and its answers."""

import contextlib
import os
from typing import Dict, List, NamedTuple, Optional, Set, Tuple

from .. import openssh, paths
from ..openssh import Connection
from . import files, trace
from .command import Answer
from .host import Host, SlowError
from .problem import Problem, SshdError, UnansweredError
from .servers import Server

NO_FOLDER, NO_KEYS = "privilege separation directory", "no hostkeys available"


class Reply(NamedTuple):
    """Hold what an sshd reports for a connection, and its trace.

    `about` is False if sshd did not answer about the connection in time, and was asked about nobody in particular.
    """

    values: str
    trace: str
    about: bool = True


class Questions:
    """Ask the servers of one machine; one that `prepares` makes what sshd must see before it answers."""

    def __init__(self, host: Host, prepares: bool) -> None:
        self._host = host
        self._prepares = prepares
        self._host_key: List[str] = []
        self._keys_loaded: Set[Tuple[str, str]] = set()
        self._versions: Dict[str, openssh.Version] = {}

    def version(self, server: Server) -> openssh.Version:
        """Return the version of a server's program."""
        if server.program not in self._versions:
            # Older ones know no -V and answer with a usage text that names the version, at exit 1.
            answer = self._host.run(server.program or "sshd", "-V")
            version = openssh.parse_version(answer.err + answer.out)
            if version is None:
                raise SshdError(Problem(f"{server.program} -V names no OpenSSH version: {answer.last_words()}"))
            self._versions[server.program] = version
        return self._versions[server.program]

    def knows_channel_timeout(self, server: Server) -> bool:
        """Return whether a program of a version before ChannelTimeout has it: distributions add what is newer."""
        options = ("-o", "ChannelTimeout=session:*=60", "-o", "UnusedConnectionTimeout=60")
        answer = self._host.run(server.program, "-t", "-f", os.devnull, *options)
        return "Bad configuration option" not in answer.err

    def ask(self, server: Server, connection: Connection, main: Optional[str] = None, is_traced: bool = True) -> Reply:
        """Ask a server about a connection, with its own or another main file.

        Without a trace it takes half the time where there are hundreds of Match lines.

        Raise UnansweredError if it cannot say, and SshdError if it refuses its configuration.
        """
        if server.arguments is None:
            message = f"the command line of {server.name} is cut off in /proc"
            raise UnansweredError(Problem(message, "stop it, and start it from a unit of systemd's"))
        options = [*server.arguments.options, *(["-ddd"] if is_traced else [])]
        if main or server.arguments.main:
            options += ["-f", main or server.main]
        who = ["-C", str(connection)]
        # -G wants neither host keys nor /run/sshd, and takes half the time of -T alone, which loads the keys: those are
        # looked at once, with what is in place.
        place = (server.program, server.main)
        loads_keys = self._prepares and not main and place not in self._keys_loaded
        how = ["-T"]
        if not loads_keys and openssh.has(self.version(server), "shows-configuration"):
            how = ["-G", "-T"]
        about = self._host.names_answer
        try:
            answer = self._answer(server, *how, *options, *(who if about else ()))
        except SlowError:
            if not about:
                raise
            # A Match of groups has it ask name services. Without a connection it looks at no Match.
            self._host.names_answer = about = False
            answer = self._answer(server, *how, *options)
        if answer.code != 0:
            said = answer._replace(err=trace.complaint(answer.err)).last_words()
            if NO_FOLDER in said or NO_KEYS in said:
                raise UnansweredError(Problem(f"sshd -T answers once sshd has started: {said}", "start sshd"))
            remedy = f"correct that until {server.test_command} is silent"
            raise SshdError(Problem(f"sshd refuses its configuration: {said}", remedy))
        if loads_keys:
            self._keys_loaded.add(place)
        return Reply(answer.out, trace.decoded(answer.err), about)

    def check(self, server: Server) -> None:
        """Raise SshdError if a server that runs would not start again with its own program and options."""
        self._make_run_folder()
        # Without a host key for asking: its own are what it would start with.
        answer = self._host.run(server.program, "-t", *server.own_options)
        if answer.code != 0:
            raise SshdError(Problem(f"sshd runs, but would not start again: {answer.last_words()}"))

    def forget_host_key(self) -> None:
        """Forget a key for asking, which was taken away."""
        self._host_key = []

    def _answer(self, server: Server, *arguments: str) -> Answer:
        if not self._prepares:
            return self._host.run(server.program, *arguments)
        self._make_run_folder()
        answer = self._host.run(server.program, *self._host_key, *arguments)
        if answer.code != 0 and NO_FOLDER in answer.err:
            # Where systemd starts an sshd for each connection, the end of the last one takes the folder along.
            self._make_run_folder()
            answer = self._host.run(server.program, *self._host_key, *arguments)
        if answer.code != 0 and NO_KEYS in answer.err and not self._host_key:
            self._make_host_key()
            answer = self._host.run(server.program, *self._host_key, *arguments)
        return answer

    def _make_run_folder(self) -> None:
        """Make what sshd wants to see before its first start, for good: a running sshd refuses logins without it."""
        folder = self._host.at(paths.SSHD_RUN_FOLDER)
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o755)
            os.chmod(folder, 0o755)
            files.label(folder, self._host)

    def _make_host_key(self) -> None:
        """Make a key for asking alone, where the machine has none yet; sshd answers nothing without one."""
        key = files.key_for_asking(self._host)
        # ECDSA is what FIPS mode allows too
        answer = self._host.run("ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", key)
        if answer.code != 0:
            raise SshdError(Problem(f"no host keys, and none can be made: {answer.last_words()}"))
        self._host_key = ["-h", key]
