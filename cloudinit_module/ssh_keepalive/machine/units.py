# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The units of systemd that start sshd, as systemd shows them and their files have them."""

import calendar
import contextlib
import functools
import glob
import os
import re
import time
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from . import processes
from .arguments import environment, expanded, parse, variables
from .host import Host
from .problem import Problem, SshdError, UnansweredError

_PROPERTIES = (
    "Id,LoadState,ActiveState,SubState,MainPID,InvocationID,Result,ExecStart,Environment,EnvironmentFiles,"
    "ExecMainStartTimestamp,Accept,Triggers,NRestarts,FragmentPath,DropInPaths,KillMode,Listen,Job,NeedDaemonReload"
)

# What systemd writes for a start, and what generators write anew at each daemon-reload
_WRITTEN_BY_SYSTEMD = ("/run/systemd/transient/", "/run/systemd/generator")
_RUNS_SSHD = re.compile(rb"^\s*Exec.*sshd", re.MULTILINE)
# Where units are, and below these the folders with links to what will be started; systemd.unit(5)
_FOLDERS = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/run/systemd/generator",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
_WANTS = (".wants", ".requires")
# What a shell makes something else of
_MEANT_FOR_SHELL = re.compile(r"[;&|<>()$`]")
_CONDITION = re.compile(r"^(?P<kind>ExecCondition|(?:Condition|Assert)[A-Za-z]+)=(?P<value>.*\S)", re.MULTILINE)


class Unit(NamedTuple):
    """Hold what systemd says of a unit, and the command that it starts (None: no sshd that is known).

    `state` and `substate` are systemd's ActiveState and SubState; `is_template` says that it is started once for each
    connection, by a socket with Accept=yes, `is_activated` that a socket of systemd's listens for it, on `addresses`.
    `files` are those that its variables are from, `definition` those that it is defined in. `started` is the time of
    the start by the clock as it was then, in seconds since the epoch, `retries` how often systemd has started it again
    by itself, `has_job` says that it is to be started or stopped, or is right now, `is_masked` that systemd would not
    start it again, and `is_outdated` that systemd has not read its files since they changed.
    """

    name: str
    state: str
    substate: str = ""
    pid: int = 0
    invocation: str = ""
    result: str = ""
    program: Optional[str] = None
    words: Tuple[str, ...] = ()
    files: Tuple[str, ...] = ()
    definition: Tuple[str, ...] = ()
    addresses: Tuple[Tuple[str, int], ...] = ()
    kill_mode: str = "process"
    is_template: bool = False
    started: Optional[float] = None
    is_activated: bool = False
    retries: int = 0
    has_job: bool = False
    is_masked: bool = False
    is_outdated: bool = False

    @property
    def starts_sshd(self) -> bool:
        """Return whether its command is an sshd or a link to one, and not something that starts one."""
        program = self.program or ""
        return "sshd" in (os.path.basename(program), os.path.basename(os.path.realpath(program)))

    @property
    def is_starting(self) -> bool:
        """Return whether it is on its way up, but not waiting to be tried again after a failure."""
        return self.state == "activating" and not self.is_to_be_retried

    @property
    def is_settled(self) -> bool:
        """Return whether it runs, or has failed and waits."""
        return self.state in ("active", "failed") or self.substate.startswith("auto-restart")

    @property
    def is_skipped(self) -> bool:
        """Return whether its start is over and it does not run: a condition was not met."""
        return self.state == "inactive" and not self.has_job

    @property
    def is_to_be_retried(self) -> bool:
        """Return whether it has failed and systemd will start it again, or does: that has the next failure soon."""
        return self.state == "activating" and (self.substate.startswith("auto-restart") or self.retries > 0)

    @property
    def failure(self) -> Optional[str]:
        """Return why it has failed, also if systemd will start it again; None if it has not."""
        if self.state != "failed" and not self.is_to_be_retried:
            return None
        # At the start of the next try the result of the last one is forgotten.
        return self.substate if self.result in ("", "success") else self.result

    @property
    def is_reading(self) -> bool:
        """Return whether its program was started, and does not take connections yet."""
        return self.is_starting and self.substate == "start" and self.pid != 0


def of_sshd(host: Host) -> List[Unit]:
    """Return the units of systemd that run an sshd, or will; those of the service names first."""
    names = [f"{name}.service" for name in host.services]
    wanted = [*names, *_enabled(host)]
    listens = any(processes.listening(1, host)[1])
    if listens or processes.is_any(host):
        # With those that somebody has started. To show one takes milliseconds, of a boot's busy systemd many, and at
        # most first boots none of these is there yet.
        wanted += ["*ssh*.service", *(f"{name}@x.service" for name in ("ssh", "sshd"))]
        wanted.append("*.socket" if listens else "*ssh*.socket")
    found = _show(host, *dict.fromkeys(wanted))
    sockets = [block for block in found if block["Id"].endswith(".socket") and block["ActiveState"] == "active"]
    addresses: Dict[str, Tuple[Tuple[str, int], ...]] = {}
    for block in sockets:
        # One that accepts by itself starts a service of its own name for each connection.
        for_each = [re.sub("[.]socket$", "@x.service", block["Id"])] if block.get("Accept") == "yes" else []
        for name in for_each or block.get("Triggers", "").split():
            addresses[name] = (*addresses.get(name, ()), *_addresses(block.get("Listen", "")))
    others = [name for name in addresses if name not in {block["Id"] for block in found}]
    found += _show(host, *others) if others else []
    result: Dict[str, Unit] = {}
    for block in found:
        unit = _unit(block, host)
        if unit is None or (unit.is_template and block["Id"] not in addresses):
            continue
        if not unit.is_template and parse(unit.words).serves_one:
            # Of one connection
            continue
        unit = unit._replace(is_activated=block["Id"] in addresses, addresses=addresses.get(block["Id"], ()))
        if unit.starts_sshd or unit.name in names:
            result.setdefault(unit.name, unit)
    return list(result.values())


def _enabled(host: Host) -> List[str]:
    """Return the services that are enabled, and run an sshd by what their files say."""
    # Where /lib is a link to /usr/lib all is there once.
    folders = dict.fromkeys(os.path.realpath(host.at(folder)) for folder in _FOLDERS)
    linked: List[Tuple[str, str]] = []
    drop_ins: List[Tuple[str, str]] = []
    for folder in folders:
        for name in _listed(folder):
            place = os.path.join(folder, name)
            if name.endswith(_WANTS):
                linked += [(one, os.path.join(place, one)) for one in _listed(place) if one.endswith(".service")]
            elif name.endswith(".service.d"):
                service = name[: -len(".d")]
                drop_ins += [(service, os.path.join(place, one)) for one in _listed(place) if one.endswith(".conf")]
    names = {name for name, _ in linked}
    return sorted({name for name, file in (*linked, *drop_ins) if name in names and _runs_sshd(file)})


def _listed(folder: str) -> List[str]:
    with contextlib.suppress(OSError):
        return os.listdir(folder)
    return []


def _runs_sshd(file: str) -> bool:
    """Return whether a line of a unit's file runs an sshd."""
    with contextlib.suppress(OSError), open(file, "rb") as stream:
        text = stream.read()
        # Most name none, and that is known in no time.
        return b"sshd" in text and bool(_RUNS_SSHD.search(text.replace(b"\\\n", b" ")))
    return False


def _addresses(shown: str) -> Tuple[Tuple[str, int], ...]:
    """Return the addresses and ports of TCP that systemctl shows of a socket, such as [::]:22 (Stream)."""
    found = re.findall(r"^\[?([0-9a-fA-F.:]+?)\]?:(\d+) \(Stream\)", shown, re.MULTILINE)
    return tuple((address, int(port)) for address, port in found)


def changed_since(unit: Unit, listener: processes.Listener, host: Host) -> List[str]:
    """Return the files of a unit that have changed since its process was started, or may have."""
    began = processes.on_the_clock(listener.began)
    if unit.started is not None and unit.started < began - processes.STEP_SECONDS:
        # The clock was set since: what it was then counts.
        began = unit.started
    found = []
    definition = [file for file in unit.definition if not _is_of_programs(file)]
    # A script that starts sshd says how, too.
    script = unit.program if not unit.starts_sshd and is_script(unit.program or "") else None
    for file in filter(None, (*definition, *unit.files, script)):
        with contextlib.suppress(OSError):
            if os.stat(file if file == script else host.at(file)).st_ctime >= began:
                found.append(file)
    return found


def _is_of_programs(file: str) -> bool:
    """Return whether programs write a unit's file, and write it anew without a change: by its time nothing is known.

    Below /etc the drop-ins of all services are people's, elsewhere those of a package or of a container's image.
    """
    is_for_all = os.path.basename(os.path.dirname(file)) == "service.d" and not file.startswith("/etc/")
    return is_for_all or file.startswith(_WRITTEN_BY_SYSTEMD)


def is_script(file: str) -> bool:
    """Return whether a program is a script."""
    with contextlib.suppress(OSError), open(file, "rb") as stream:
        return stream.read(2) == b"#!"
    return False


def doubtful_conditions(unit: Unit, host: Host) -> List[str]:
    """Return the conditions with which a unit may not be started again; systemd.unit(5), Condition*= and Assert*=.

    Those of a path's existence are looked at, of others only systemd knows, and it does not tell: `systemctl show -p
    Conditions` says "[unprintable]" (247, 252, 258).
    """
    found = []
    for file in filter(None, unit.definition):
        with contextlib.suppress(OSError), open(host.at(file), encoding="utf-8", errors="replace") as stream:
            for condition in _CONDITION.finditer(stream.read()):
                path = re.match(r"(!?)(/\S+)$", condition.group("value"))
                is_of_path = path and condition.group("kind").endswith("PathExists")
                if not (path and is_of_path) or os.path.exists(host.at(path.group(2))) == bool(path.group(1)):
                    found.append(condition.group())
    return found


def others_in(listener: processes.Listener, host: Host) -> int:
    """Return how many other processes are in the control group of a listener: sessions, which its end may end too."""
    mine = _cgroup(listener.pid, host)
    pids = [int(name) for name in os.listdir(host.at("/proc")) if name.isdigit()]
    return sum(_cgroup(pid, host) == mine for pid in pids if pid != listener.pid) if mine else 0


def _cgroup(pid: int, host: Host) -> str:
    return processes.text(host.at(f"/proc/{pid}/cgroup"))


def unit_of(listener: processes.Listener, host: Host) -> Optional[Unit]:
    """Return the unit whose main process a listener is, None without one."""
    names = sorted(set(re.findall(r"/([^/\n]+\.service)$", _cgroup(listener.pid, host), re.MULTILINE)))
    found = [_unit(block, host) for block in _show(host, *names)] if names else []
    return next((unit for unit in found if unit and unit.pid == listener.pid), None)


def now(name: str, host: Host) -> Unit:
    """Return a unit as it is now; raise SshdError if it is gone."""
    unit = _unit(_show(host, name)[0], host)
    if unit is None:
        raise SshdError(Problem(f"{name} is gone"))
    return unit


def _show(host: Host, *names: str) -> List[Dict[str, str]]:
    answer = host.run("systemctl", "show", "-p", _PROPERTIES, *names)
    blocks = []
    for text in answer.out.split("\n\n"):
        block: Dict[str, str] = {}
        for line in text.splitlines():
            name, _, value = line.partition("=")
            block[name] = f"{block[name]}\n{value}" if name in block else value
        if "Id" in block:
            blocks.append(block)
    # In a chroot it says that it ignores the command, and exits with 0: words count.
    if not blocks:
        raise UnansweredError(Problem(f"systemctl show does not say whether sshd runs: {answer.last_words()}"))
    return blocks


def _unit(block: Dict[str, str], host: Host) -> Optional[Unit]:
    if not block["Id"].endswith(".service") or block.get("LoadState") not in ("loaded", "masked"):
        return None
    name = block["Id"].replace("@x.service", "@.service")
    state = block["ActiveState"]
    if block["LoadState"] == "masked" and state not in ("active", "reloading"):
        return None
    program: Optional[str] = None
    words: Sequence[str] = ()
    settings, files = _environment(block, host)
    # The last command is the one that stays.
    for path, argv in re.findall(r"path=(.*?) ; argv\[\]=(.*?) ; ignore_errors=", block.get("ExecStart", "")):
        # Its path may have blanks.
        program, words = _of_sshd(path, expanded(argv.replace(path, "-", 1).split()[1:], settings))
    return Unit(
        name,
        state,
        block.get("SubState", ""),
        int(block.get("MainPID") or 0),
        block.get("InvocationID", ""),
        block.get("Result", ""),
        program,
        tuple(words),
        files,
        (block.get("FragmentPath", ""), *block.get("DropInPaths", "").split()),
        (),
        block.get("KillMode", ""),
        name.endswith("@.service"),
        _time(block.get("ExecMainStartTimestamp", "")),
        retries=int(block.get("NRestarts") or 0),
        has_job=block.get("Job", "0") not in ("", "0"),
        is_masked=block["LoadState"] == "masked",
        is_outdated=block.get("NeedDaemonReload") == "yes",
    )


def _of_sshd(program: str, words: Sequence[str]) -> Tuple[str, Sequence[str]]:
    """Return the sshd that a command starts, with its words, be it by nice, env or the like; else all as it is."""
    for position, word in enumerate(words):
        rest = words[position + 1 :]
        if word.startswith("/") and os.path.basename(word) == "sshd" and not _MEANT_FOR_SHELL.search(" ".join(rest)):
            return word, rest
    return program, words


def _time(text: str) -> Optional[float]:
    """Return what systemd shows as a time, in seconds since the epoch; None for none."""
    if not text:
        # What reads a time takes milliseconds to be imported.
        return None
    try:
        return float(calendar.timegm(time.strptime(text, "%a %Y-%m-%d %H:%M:%S UTC")))
    except ValueError:
        return None


def _environment(block: Dict[str, str], host: Host) -> Tuple[Dict[str, str], Tuple[str, ...]]:
    """Return the variables that a unit's command gets, and the files that they are from."""
    found = environment(block.get("Environment", ""))
    shown = re.findall(r"^(/.*?) \(ignore_errors=", block.get("EnvironmentFiles", ""), re.MULTILINE)
    files: List[str] = []
    for file in shown:
        # It may be a pattern.
        matching = sorted(glob.glob(host.at(file))) if glob.has_magic(file) else [host.at(file)]
        files += [one[len(host.at("")) :] for one in matching]
    for file in files:
        found.update(variables_in(file, host))
    command = block.get("ExecStart", "")
    if re.search("/sshd[ ;]", command) and not set(re.findall(r"[$]{?([A-Za-z_]\w*)", command)) <= set(found):
        # Its own override those of systemd.
        found = {**_environment_of_systemd(host), **found}
    return found, tuple(files)


@functools.lru_cache(maxsize=1)
def _environment_of_systemd(host: Host) -> Dict[str, str]:
    """Return the variables that all units get, by DefaultEnvironment= or `systemctl set-environment`, asked once."""
    return environment(host.run("systemctl", "show-environment").out.replace("=$'", "='"))


def variables_in(file: str, host: Host, is_for_shell: bool = False) -> Dict[str, str]:
    """Return what a file of assignments sets, nothing where it cannot be read."""
    # A pipe is not waited for.
    if not os.path.isfile(host.at(file)):
        return {}
    with contextlib.suppress(OSError), open(host.at(file), encoding="utf-8", errors="surrogateescape") as stream:
        return variables(stream.read(), is_for_shell)
    return {}
