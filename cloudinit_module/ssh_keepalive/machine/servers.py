# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The sshd servers of this machine: those that take connections, and those that will."""

import os
import shlex
import time
from typing import TYPE_CHECKING, List, NamedTuple, Optional, Tuple

from .. import paths
from . import processes, units
from .arguments import Arguments, parse
from .host import Host
from .problem import Problem
from .processes import Listener
from .units import Unit

if TYPE_CHECKING:
    from .init_scripts import Script

# What an sshd takes to start, and what the end of a boot is to wait for at most
_SETTLING_SECONDS = 3.0


class Server(NamedTuple):
    """Hold an sshd: its program, its main file, what starts it (`unit` or `script`), and its process (`listener`).

    `arguments` are None if neither the process nor its unit tells them. `script_words` are those with which the
    script would start it, but for its own. The clock was not set since `steady_since`, in ticks since the boot. One
    that `lacks_run_folder`, which a service that fails takes along, would end when it reads its files anew.
    """

    program: str
    main: str
    arguments: Optional[Arguments]
    unit: Optional[Unit] = None
    script: "Optional[Script]" = None
    listener: Optional[Listener] = None
    steady_since: Optional[int] = None
    script_words: Tuple[str, ...] = ()
    lacks_run_folder: bool = False

    @property
    def service(self) -> str:
        """Return the name of what starts it, "sshd" for nothing that is known."""
        return self.unit.name if self.unit else self.script.name if self.script else "sshd"

    @property
    def name(self) -> str:
        """Return what people call it."""
        name = self.unit.name if self.unit else "sshd"
        if self.listener:
            ports = ", ".join(str(port) for port in sorted({port for _, port in self.listener.addresses}))
            name += f" (process {self.listener.pid}, port {ports})" if ports else f" (process {self.listener.pid})"
        return name

    @property
    def unseen(self) -> Optional[Problem]:
        """Return the problem of a unit that runs, and whose process does not show what it listens on."""
        unit = self.unit
        if unit is None or self.listener or unit.state != "active" or not unit.pid or unit.is_template:
            return None
        return Problem(f"process {unit.pid} of {unit.name} is not seen to listen", self.restart_command)

    @property
    def failure(self) -> Optional[str]:
        """Return why its unit has failed, None if it has not, or if a process of it takes connections all the same."""
        return self.unit.failure if self.unit and not self.listener else None

    @property
    def is_replaced(self) -> bool:
        """Return whether it runs a program that was replaced since it was started."""
        return self.listener is not None and self.listener.program is None

    @property
    def is_to_start_otherwise(self) -> bool:
        """Return whether its unit would start it with another program or other words than its process has.

        Of a unit that starts a wrapper of sshd's that is not known. Off systemd its init script is meant, which may add
        words of its own.
        """
        unit, listener = self.unit, self.listener
        if self.script and listener and listener.words is not None:
            left = iter(listener.words)
            return not all(word in left for word in self.script_words)
        if unit is None or listener is None or listener.words is None or not unit.starts_sshd:
            return False
        programs = {os.path.realpath(path) for path in (unit.program, listener.program) if path}
        if len(programs) > 1 and units.is_script(str(unit.program)):
            return False
        return len(programs) > 1 or " ".join(unit.words) != " ".join(listener.words)

    @property
    def own_options(self) -> Tuple[str, ...]:
        """Return the options with which its program reads what it reads."""
        if self.arguments is None:
            return ()
        return (*self.arguments.options, *(("-f", self.main) if self.arguments.main else ()))

    @property
    def test_command(self) -> str:
        """Return the command that says what it refuses of its configuration."""
        return " ".join(map(shlex.quote, (self.program, "-t", *self.own_options)))

    @property
    def restart_command(self) -> str:
        """Return the command that has it read its files anew."""
        if self.unit and self.unit.is_template:
            return "log in anew"
        if self.unit and not (self.unit.is_masked and self.listener):
            return f"systemctl restart {shlex.quote(self.unit.name)}"
        if self.script:
            return f"{self.script.manager} {self.script.name} restart"
        if self.listener and self.listener.pid != 1 and not self.listener.starts_anew:
            return f"kill {self.listener.pid}, and start it as it was started"
        if self.listener and self.listener.pid != 1:
            prepare = f"mkdir -p {paths.SSHD_RUN_FOLDER} && " if self.lacks_run_folder else ""
            return f"{prepare}kill -HUP {self.listener.pid}"
        return "restart this container" if self.listener else "start sshd"


def find(host: Host) -> List[Server]:
    """Return the servers, the one that is the service's first; without any, the one that would be started by hand."""
    listeners = processes.listeners(host)
    found = []
    for unit in units.of_sshd(host) if host.runs_systemd else ():
        listener = next((one for one in listeners if one.pid == unit.pid), None)
        # A unit without a process counts as the server that it would start, also after it has failed.
        found.append(_server(host, unit=unit, listener=listener))
    managed = {server.listener.pid for server in found if server.listener}
    others = [listener for listener in listeners if listener.pid not in managed]
    script = _script(host) if others else None
    started = processes.pid_in(host.at(paths.SSHD_PID_FILE))
    if script and len(others) > 1:
        # A second one may have written its own number there: that one the script would stop.
        started = _started_by_script(others, started, host)
    for listener in others:
        # In a container one that stays in the foreground is what the container runs, and would end with it.
        is_daemon = listener.pid != 1 and listener.parent == 1 and not _stays(listener)
        own = script if script and is_daemon and started in (None, listener.pid) else None
        unit_of_it = units.unit_of(listener, host) if host.runs_systemd else None
        found.append(_server(host, unit=unit_of_it, script=own, listener=listener))
    if not found and host.program("sshd"):
        found.append(_server(host, script=_script(host)))
    steady = [server.listener.began for server in found if server.listener and _started_on_the_clock(server)]
    found = [server._replace(steady_since=min(steady)) if steady else server for server in found]
    return sorted(found, key=lambda server: (server.listener is None, server.unit is None and server.script is None))


def settled(host: Host) -> List[Server]:
    """Return the servers once systemd is through with starting and stopping them, or as they are after a while.

    No unit of ours is ordered after theirs for that: the end of cloud-init waits for ours, and where an sshd waits for
    the end of cloud-init there would be a cycle.
    """
    end = time.monotonic() + _SETTLING_SECONDS
    found = find(host)
    moving = [server.unit for server in found if server.unit and server.unit.has_job]
    for unit in moving:
        # What starts and restarts is imported where something does.
        from . import service

        service.settle(unit, host, end - time.monotonic())
    return find(host) if moving else found


def _started_by_script(found: List[Listener], started: Optional[int], host: Host) -> Optional[int]:
    """Return the process that an init script has started and would stop, 0 if these are not the same one."""
    from . import init_scripts

    words = init_scripts.default_words(host)
    fitting = [listener.pid for listener in found if listener.words == words]
    return 0 if fitting and started not in fitting else started


def _stays(listener: Listener) -> bool:
    """Return whether a process was started to stay in the foreground (-D, -d)."""
    return listener.words is None or parse(listener.words).stays


def as_started_anew(server: Server, host: Host) -> Server:
    """Return a server as its unit would start it now."""
    return _server(host, unit=server.unit)


def _script(host: Host) -> "Optional[Script]":
    if host.runs_systemd:
        return None
    from . import init_scripts

    return init_scripts.script(host)


def _started_on_the_clock(server: Server) -> bool:
    """Return whether systemd's note of a start, by the clock as it was then, still agrees with the clock."""
    if server.listener is None or server.unit is None or server.unit.started is None:
        return False
    return abs(server.unit.started - processes.on_the_clock(server.listener.began)) <= processes.STEP_SECONDS


def primary(found: List[Server], host: Host) -> Server:
    """Return the server that the machine's own service runs, or else the first; raise SshdError without any."""
    if not found:
        host.run("sshd", "-V")  # which says where it was looked for
    names = [f"{name}.service" for name in host.services]
    own = [server for server in found if server.unit and server.unit.name in names]
    own += [server for server in found if server.script or (server.unit and server.unit.is_template)]
    return next((server for server in own if server.listener), own[0] if own else found[0])


def none(host: Host) -> Server:
    """Return a server that is not there, by the main file of the packaged one."""
    return Server("", main_file(host), None)


def main_file(host: Host) -> str:
    """Return the main file of the packaged sshd."""
    etc_main, vendor_main = host.at(paths.MAIN), host.at(paths.VENDOR_MAIN)
    return vendor_main if os.path.exists(vendor_main) and not os.path.exists(etc_main) else etc_main


def _server(
    host: Host,
    unit: Optional[Unit] = None,
    script: "Optional[Script]" = None,
    listener: Optional[Listener] = None,
) -> Server:
    words = None
    script_words: Tuple[str, ...] = ()
    if script:
        from . import init_scripts

        script_words = init_scripts.default_words(host)
    if listener:
        words = listener.words
        # Its own words are not cut and know where blanks belong, if they are those of the process.
        if unit and unit.program and (words is None or " ".join(unit.words) == " ".join(words)):
            words = unit.words
    elif unit:
        # Of what a shell starts its words are not sshd's.
        words = unit.words if unit.starts_sshd or units.is_script(unit.program or "") else ()
    else:
        from . import init_scripts

        words = init_scripts.default_words(host)
    arguments = parse(words) if words is not None else None
    started = unit.program if unit and (unit.starts_sshd or units.is_script(unit.program or "")) else None
    program = (listener and listener.program) or started or host.program("sshd") or ""
    main = _main(arguments, listener, host)
    lacks_run_folder = not os.path.isdir(host.at(paths.SSHD_RUN_FOLDER))
    return Server(
        *(program, main, arguments, unit, script, listener),
        script_words=script_words,
        lacks_run_folder=lacks_run_folder,
    )


def _main(arguments: Optional[Arguments], listener: Optional[Listener], host: Host) -> str:
    if arguments and arguments.main:
        # A relative one is looked for where sshd was started, as far as that still shows.
        folder = processes.folder(listener.pid, host) if listener else None
        return os.path.join(folder or "/", arguments.main)
    return main_file(host)
