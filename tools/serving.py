"""Who serves in a machine, what it has really read, and what the product says and does about it."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from baking import bake, set_default
from machine import Machine

MAIN = "/etc/ssh/sshd_config"
FOLDER = "/etc/ssh/sshd_config.d"
# What a machine here enforces before and after each test
SECTION = "{client_alive_interval: 61}"
OURS = "ClientAliveInterval 61"

# What others may change, as it was
_PRISTINE = """\
mkdir /pristine
cp -a --parents /etc/ssh /etc/systemd/system /etc/default /etc/nsswitch.conf /etc/profile /etc/profile.d /pristine
"""
_BRING_BACK = """\
for place in $(awk '$2 ~ "^/etc" {print $2}' /proc/mounts | sort -r); do umount "$place"; done
systemctl stop ssh visor extra old mgmt ssh-mgmt 2>/dev/null || true
for pid in $(ss -Hltnp | grep -Eo '"[^"]*sshd[^"]*",pid=[0-9]*' | cut -d= -f2); do kill $pid 2>/dev/null || true; done
rm -rf /srv/* /etc/ssh /etc/systemd/system /etc/default /etc/profile.d /run/ssh-keepalive.json /run/sshd.pid
cp -a /pristine/etc /
systemctl daemon-reload
systemctl reset-failed
systemctl start ssh
"""
# The text of its configuration is in a listener's memory, line by line.
_SEARCH = """\
import re, sys
for line in open(f"/proc/{sys.argv[1]}/maps"):
    start, end, rights = re.match("([0-9a-f]+)-([0-9a-f]+) (....)", line).groups()
    if rights.startswith("rw"):
        with open(f"/proc/{sys.argv[1]}/mem", "rb", 0) as memory:
            memory.seek(int(start, 16))
            try:
                if sys.argv[2].encode() in memory.read(int(end, 16) - int(start, 16)):
                    sys.exit()
            except OSError:
                pass
sys.exit(1)
"""

_CALL = """\
import logging, sys, types, yaml
import cc_ssh_keepalive
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
cloud = types.SimpleNamespace(distro=types.SimpleNamespace(get_option=lambda name, default: default))
try:
    cc_ssh_keepalive.handle("ssh_keepalive", {"ssh_keepalive": yaml.safe_load(sys.argv[1])}, cloud)
except Exception as error:
    print(error)
    sys.exit(1)
"""


class Said(NamedTuple):
    """Hold the exit code of a run of the product, and its words."""

    code: int
    text: str


class Status(NamedTuple):
    """Hold the exit code of status, and its JSON."""

    code: int
    found: dict[str, Any]

    def server(self, **wanted: Any) -> dict[str, Any]:
        """Return what is said of the one server with some values."""
        (found,) = [one for one in self.found["servers"] if wanted.items() <= one.items()]
        return found

    @property
    def problems(self) -> str:
        """All problems with their remedies, a line each."""
        return "\n".join(f"{one['message']}: {one['remedy']}" for one in self.found["problems"])

    @property
    def notes(self) -> str:
        return "\n".join(self.found["notes"])

    @property
    def addresses(self) -> set[str]:
        """Where all servers listen that are told of."""
        return {address for one in self.found["servers"] for address in one["addresses"]}


def run(machine: Machine, *words: str, input: str | None = None, timeout: float = 120) -> Said:
    answer = machine.run(*words, input=input, check=False, timeout=timeout)
    assert "Traceback" not in answer.stderr, answer.stderr
    return Said(answer.returncode, answer.stdout + answer.stderr)


def apply(machine: Machine, section: str) -> Said:
    """Apply a section (YAML) as a person does, who looks on."""
    return run(machine, "ssh-keepalive", "apply", "-", input=f"#cloud-config\nssh_keepalive: {section}\n")


def reapply(machine: Machine) -> Said:
    """Do as a package does after an upgrade."""
    return run(machine, "ssh-keepalive", "reapply")


def unattended(machine: Machine, section: str) -> Said:
    """Apply a section (YAML) as a boot does, by a call of the module as cloud-init calls it."""
    return run(machine, "python3", "-c", _CALL, section)


def status(machine: Machine) -> Status:
    """Ask for the status."""
    answer = machine.run("ssh-keepalive", "status", "--json", check=False, timeout=60)
    assert answer.stderr == ""
    return Status(answer.returncode, json.loads(answer.stdout))


def listener(machine: Machine, port: int = 22) -> int:
    """Return the process that listens on a port, 0 for none."""
    found = re.findall(r"pid=(\d+)", machine.run("ss", "-Hltnp", f"sport = {port}").stdout)
    # systemd holds a socket unit's as well.
    return max(map(int, found), default=0)


def until_it_listens(machine: Machine, port: int = 22) -> int:
    """Wait until a process listens on a port, for 5 s at most, and return it."""
    machine.sh(f"for i in $(seq 100); do ss -Hltn sport = {port} | grep -q . && exit; sleep 0.05; done; exit 1")
    return listener(machine, port)


def has_read(machine: Machine, text: str, port: int = 22) -> bool:
    """Tell whether a text is in the memory of the process that listens on a port."""
    pid = listener(machine, port)
    assert pid
    return machine.run("python3", "-c", _SEARCH, str(pid), text, check=False).returncode == 0


def can_log_in(machine: Machine, port: int = 22) -> bool:
    answer = machine.run("ssh", "-o", "ConnectTimeout=5", "-p", str(port), "localhost", "whoami", check=False)
    return answer.stdout == "root\n"


@contextlib.contextmanager
def enforcing(suite: str) -> Iterator[Machine]:
    """Yield a booted machine that enforces SECTION, asked for by its user-data."""
    with Machine(suite, f"#cloud-config\nssh_keepalive: {SECTION}\n") as machine:
        bake(machine)
        machine.boot()
        machine.wait()
        machine.sh(_PRISTINE)
        # Defaults of the image's, which tests set, would have lost.
        machine.reseed("#cloud-config\n{}\n")
        machine.sh("for file in /var/lib/cloud/instance/*cloud-config.txt; do echo '#cloud-config' >$file; done")
        yield machine


def as_it_was(machine: Machine) -> None:
    """Bring back what enforcing has yielded: the files, and an sshd that has read them."""
    set_default(machine, SECTION)
    machine.sh(_BRING_BACK)
    said = apply(machine, SECTION)
    assert said.code == 0, said.text
