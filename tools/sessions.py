"""Real ssh sessions of all kinds in one machine, side by side, and what becomes of each."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from types import TracebackType
from typing import NamedTuple

from baking import bake
from host import MachineError
from machine import ESCAPES, Machine
from networks import Network


class Kind(NamedTuple):
    """A way to use ssh: a command line, and what is typed into it, once and every second."""

    command: str
    typed: str = ""
    repeated: str = ""
    # What it says when it is ready.
    says: str = r"command is \d"
    # The kind whose connection it goes through.
    through: str = ""
    # A file that not every machine has.
    needs: str = ""


# What some kinds are by, and tmux for outputs: together, since each set of packages has a base of its own
PACKAGES = ("python3-paramiko", "rsync", "tmux")
# Whose processes say this have their ends watched.
NAMED = "echo command is $$"
SILENT = f"{NAMED}; exec sleep 1000"
PRINTING = f"{NAMED}; while sleep 1; do echo; done"
# The ports of other servers in the machine, by their ClientAliveInterval
INNER = {5: 2005, 0: 2000}
# It has -O since 8.7; before it does nothing else.
SCP = "$(scp -O 2>&1 | grep -q unknown || echo -O)"
LIST = "ls /etc/hostname\n"
# A channel in which nothing is started
BARE = """\
import paramiko, socket
connection = paramiko.Transport(socket.create_connection(("127.0.0.1", 22), source_address=("{address}", 0)))
connection.connect(username="root", pkey=paramiko.Ed25519Key(filename="/root/.ssh/id_ed25519"))
channel = connection.open_session()
print("connected", flush=True)
channel.recv(1)
"""
SOCKS4 = r'printf "\x04\x01\x00\x07\x7f\x00\x00\x01\x00" >&3; head -c 8 <&3 >/dev/null; '


def ssh(arguments: str, typed: str = "", repeated: str = "", says: str = r"command is \d") -> Kind:
    return Kind(f"ssh {{options}} {arguments}", typed, repeated, says)


def held_open(arguments: str) -> Kind:
    return ssh(f"-N {arguments} 127.0.0.1", says="connected")


def shared(arguments: str, through: str, typed: str = "", command: str = "") -> Kind:
    return Kind(f"ssh {arguments} 127.0.0.1 {command}", typed, through=through)


def connection(port: int, through: str, repeated: str = "", greeting: str = "") -> Kind:
    """Connect, through a port that ssh forwards, to a server that sends back what it gets."""
    script = f"exec 3<>/dev/tcp/127.0.0.1/{port} 4<&0; {greeting}cat <&4 >&3 & cat <&3"
    return Kind(f"bash -c '{script}'", "hello\n", repeated, "hello", through)


def jump(port: int) -> Kind:
    """Go through the machine's sshd to another one, which ends nothing."""
    outer = f"ssh -o BindAddress={{address}} -W 127.0.0.1:{port} 127.0.0.1"
    return Kind(f"ssh -o ProxyCommand=\"{outer}\" -tt 127.0.0.1 '{SILENT}'")


def editor(port: int) -> Kind:
    """Do as editors do: all traffic goes through connections, and the command beside them is silent."""
    return ssh(f"-T -D {port} 127.0.0.1 '{SILENT}'")


KINDS = {
    "shell at its prompt": ssh("-tt 127.0.0.1", f"nohup sleep 1000 >/dev/null 2>&1 & echo nohup is $!\n{NAMED}\n"),
    "shell, typing lines": ssh("-tt 127.0.0.1", f"{NAMED}\n", ":\n"),
    "shell, typing without Enter": ssh("-tt 127.0.0.1", f"{NAMED}\n", " \x7f"),
    "shell, silent job": ssh("-tt 127.0.0.1", f"{NAMED}\nsh -c 'echo job is $$; exec sleep 1000'\n", says=r"job is \d"),
    "shell, printing job": ssh("-tt 127.0.0.1", f"{NAMED}\nwhile sleep 1; do echo; done\n"),
    "shell, top": ssh("-tt 127.0.0.1", f"{NAMED}\ntop -d 1\n"),
    "shell of somebody exempted": ssh("-tt exempt@127.0.0.1", f"{NAMED}\n"),
    "ssh -tt host command, silent": ssh(f"-tt 127.0.0.1 '{SILENT}'"),
    "ssh -tt host command, printing": ssh(f"-tt 127.0.0.1 '{PRINTING}'"),
    "ssh -tt host bash, at its prompt": ssh("-tt 127.0.0.1 bash", f"{NAMED}\n"),
    "ssh host command, silent": ssh(f"127.0.0.1 '{SILENT}'"),
    "ssh host command, printing": ssh(f"127.0.0.1 '{PRINTING}'"),
    "rsync, waiting for its other end": Kind(
        f"""rsync -e "ssh -b {{address}}" --rsync-path '{NAMED} >&2; sleep 1000; rsync' 127.0.0.1:/etc/hostname /tmp""",
        needs="usr/bin/rsync",
    ),
    "scp -O, slow": Kind(
        f"scp {SCP} -v -l 1 {{options}} /usr/bin/ssh 127.0.0.1:/dev/null", says="Sending file modes: C.*(?s:.*)Sink: C"
    ),
    "sftp, idle": Kind("sftp {options} 127.0.0.1", LIST, says="\n/etc/hostname"),
    "sftp, listing": Kind("sftp {options} 127.0.0.1", LIST, LIST, says="\n/etc/hostname"),
    "paramiko, a channel with nothing in it": Kind(
        f"python3 -c '{BARE}'", says="connected", needs="usr/lib/python3/dist-packages/paramiko"
    ),
    "ssh -N": held_open(""),
    "ssh -N -R, nobody connected": held_open("-R 1000:127.0.0.1:7"),
    "ssh -N -L, connection idle": held_open("-L 1001:127.0.0.1:7"),
    "ssh -N -L, the idle connection": connection(1001, "ssh -N -L, connection idle"),
    "ssh -N -L, connection busy": held_open("-L 1002:127.0.0.1:7"),
    "ssh -N -L, the busy connection": connection(1002, "ssh -N -L, connection busy", "line\n"),
    "master, session idle": held_open("-M -S /run/idle"),
    "master, the idle session": shared("-S /run/idle -tt", "master, session idle", f"{NAMED}\n"),
    "master, one session idle, one busy": held_open("-M -S /run/both"),
    "master, the idle one of two": shared("-S /run/both -tt", "master, one session idle, one busy", f"{NAMED}\n"),
    "master, the busy one of two": shared("-S /run/both -tt", "master, one session idle, one busy", f"{PRINTING}\n"),
    "master, command silent": held_open("-M -S /run/command"),
    "master, the silent command": shared("-S /run/command", "master, command silent", command=f"'{SILENT}'"),
    "shell beside an idle forward": ssh("-tt -L 1003:127.0.0.1:7 127.0.0.1", f"{NAMED}\n"),
    "the idle forward beside it": connection(1003, "shell beside an idle forward"),
    "shell beside a busy forward": ssh("-tt -L 1004:127.0.0.1:7 127.0.0.1", f"{NAMED}\n"),
    "the busy forward beside it": connection(1004, "shell beside a busy forward", "line\n"),
    "ssh -J, idle, the inner sshd probes": jump(INNER[5]),
    "ssh -J, idle, the inner sshd does not probe": jump(INNER[0]),
    "editor, idle": editor(1005),
    "editor, its idle connection": connection(1005, "editor, idle", greeting=SOCKS4),
    "editor, busy": editor(1006),
    "editor, its busy connection": connection(1006, "editor, busy", "line\n", SOCKS4),
}

ECHO = """
import shutil, socketserver
class Echo(socketserver.StreamRequestHandler):
    rbufsize = 0
    def handle(self):
        shutil.copyfileobj(self.rfile, self.wfile)
socketserver.ThreadingTCPServer(("127.0.0.1", 7), Echo).serve_forever()
"""


class Session:
    """A client of one kind; the ends of the client, and of the processes that have said their names, are watched."""

    _numbers = itertools.count(256)

    def __init__(self, machine: Machine, kind: Kind, network: Network | None = None, subnet: int = 0) -> None:
        """Start the client; it comes from an address of its own, by which sshd's log names it."""
        self.kind = kind
        self._machine = machine
        self.address = network.address(subnet) if network else "127.1.{}.{}".format(*divmod(next(self._numbers), 256))
        options = f"-o BindAddress={self.address} -o PermitLocalCommand=yes -o LocalCommand='echo connected'"
        if network:
            options += f" -o HostName={network.server}"
        self._output = tempfile.TemporaryFile()  # noqa: SIM115
        self.client = machine.popen(
            *(network.enter if network else ()),
            "sh",
            "-c",
            "exec " + kind.command.replace("{options}", options).replace("{address}", self.address),
            stdin=subprocess.PIPE,
            stdout=self._output,
            stderr=self._output,
            env={"TERM": "xterm"},
        )
        self.type(kind.typed)
        self._typed = time.monotonic()
        self._pids: dict[str, int] = {}
        self.began = 0.0
        self.ends: dict[str, float | None] = {}

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.kill()
        self.client.communicate()
        self._output.close()

    def type(self, text: str) -> None:
        """Type a text, whether or not there is still somebody to read it."""
        with contextlib.suppress(BrokenPipeError):
            self.client.stdin.write(text)
            self.client.stdin.flush()

    @property
    def output(self) -> str:
        """What the user has seen."""
        size = os.fstat(self._output.fileno()).st_size
        return re.sub(ESCAPES, "", os.pread(self._output.fileno(), size, 0).decode(errors="replace"))

    @property
    def last_output(self) -> float:
        """When the user saw something for the last time, on the monotonic clock."""
        return time.monotonic() - (time.time() - os.fstat(self._output.fileno()).st_mtime)

    def wait(self, timeout: float = 60) -> None:
        """Return when the session is ready."""
        deadline = time.monotonic() + timeout
        while not re.search(self.kind.says, self.output):
            if self.client.poll() is not None or time.monotonic() > deadline:
                raise MachineError(f"{self.kind.command}: {self.client.poll()}\n{self.output}")
            time.sleep(0.02)

    def begin(self, journal: str = "") -> None:
        """Count from the last that was seen of the session, and watch what has said its name, or is in the journal."""
        self.began = self.last_output
        named = re.findall(r"\b(\w+) is (\d+)$", self.output, re.MULTILINE)
        named += re.findall(rf"(sshd)[a-z-]*\[(\d+)\]: Accepted .* from {self.address} port", journal)
        self._pids = {name: int(pid) for name, pid in named}
        self.ends = dict.fromkeys(("client", *self._pids))

    def die(self, freezes: bool = False) -> None:
        """Type for the last time, count from that, and have the client freeze if nothing else is to become of it."""
        self.type("\n")
        self.began = time.monotonic()
        if freezes:
            time.sleep(0.2)  # until that is on its way
            self.client.send_signal(signal.SIGSTOP)

    def look(self) -> None:
        """Type what is typed every second, and note what has ended."""
        now = time.monotonic()
        if self.kind.repeated and now > self._typed + 1:
            self._typed = now
            self.type(self.kind.repeated)
        if self.ends["client"] is None and self.client.poll() is not None:
            self.ends["client"] = now - self.began
        for name, pid in self._pids.items():
            if self.ends[name] is None and not self._machine.alive(pid):
                self.ends[name] = now - self.began

    def outcome(self, journal: str) -> Outcome:
        """Tell what has become of the session so far, with what sshd has logged of its connection."""
        lines = re.findall(r"^\[ *([0-9.]+)\] \S+ sshd[a-z-]*\[(\d+)\]: (.*)$", journal, re.MULTILINE)
        pids = {str(self._pids.get("sshd"))}
        # For somebody who is not root, a child of that process serves the session.
        pids |= {text.split()[-1] for _, pid, text in lines if pid in pids and text.startswith("User child is on pid ")}
        log = [(float(at) - self.began, text) for at, pid, text in lines if pid in pids]
        return Outcome(self.ends, self.client.poll(), self.output, [(at, text) for at, text in log if at > 1])


class Outcome(NamedTuple):
    """What has become of a session; times are seconds since its last traffic, or since it began if it is busy."""

    ends: dict[str, float | None]
    status: int | None
    output: str
    log: list[tuple[float, str]]

    @property
    def ended(self) -> float | None:
        """When the session ended for who used it, which may be before its client or its command did."""
        ends = [self.ends.get(name) for name in ("client", "command", "sshd")]
        if "command" in self.ends:  # or the channel is that of a session which shares the connection
            ends += [at for at, text in self.log if text.startswith("channel 0: closing after ")]
        return min((end for end in ends if end is not None), default=None)


@contextlib.contextmanager
def ready(suite: str, policy: str, packages: tuple[str, ...] = ()) -> Iterator[Machine]:
    """Make a machine, not yet booted, with a policy: a section (YAML in braces), or lines for sshd."""
    section = policy if policy.startswith("{") else "null"
    with Machine(suite, f"#cloud-config\nssh_keepalive: {section}\n", packages=packages) as machine:
        folder = machine.root / "etc/ssh/sshd_config.d"
        # At VERBOSE it logs which channels it closes.
        (folder / "zz-sessions.conf").write_text("LogLevel VERBOSE\nMaxStartups 100\n")
        if policy == section:
            bake(machine)
        else:
            (folder / "00-lines.conf").write_text(policy)
        yield machine


def outcomes(machine: Machine, seconds: float) -> dict[str, Outcome]:
    """Boot a machine, use it in all kinds of ways for some seconds, and tell what became of each."""
    machine.boot()
    machine.wait()
    machine.sh("useradd -p '*' -m -s /bin/bash exempt; cp -r /root/.ssh ~exempt; chown -R exempt ~exempt")
    sessions: dict[str, Session] = {}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(machine.popen("python3", "-c", ECHO, stdout=subprocess.DEVNULL))
        stack.callback(server.kill)
        for interval, port in INNER.items():
            options = (f"-oClientAliveInterval={interval}", "-oPidFile=none")
            inner = machine.popen("/usr/sbin/sshd", "-D", "-f", "/dev/null", f"-p{port}", *options)
            stack.callback(inner.communicate)
            stack.callback(inner.kill)
        machine.run("bash", "-c", "until : </dev/tcp/127.0.0.1/7; do sleep 0.1; done 2>/dev/null")
        kinds = {name: kind for name, kind in KINDS.items() if (machine.root / kind.needs).exists()}
        for through in (False, True):
            wave = {name: kind for name, kind in kinds.items() if bool(kind.through) == through}
            sessions.update({name: stack.enter_context(Session(machine, kind)) for name, kind in wave.items()})
            for name in wave:
                sessions[name].wait()
        time.sleep(0.5)  # until prompts are there
        journal = journal_of(machine)
        for session in sessions.values():
            session.begin(journal)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for session in sessions.values():
                session.look()
            time.sleep(0.05)
        journal = journal_of(machine)
        return {name: sessions[name].outcome(journal) for name in kinds}


def journal_of(machine: Machine) -> str:
    return machine.run("journalctl", "-b", "-o", "short-monotonic", "--no-pager").stdout
