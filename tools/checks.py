"""What checking user-data takes, by `ssh-keepalive check` and by what else there is."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from baking import bake
from costs import compile_as_packages_do
from machine import Machine
from releases import RELEASES

SUITE = "trixie"
SCHEMA = Path(__file__).resolve().parents[1] / "schema/ssh-keepalive.schema.json"
USER_DATA = """\
#cloud-config
hostname: web-{0}
users:
  - default
  - name: deploy
    groups: [sudo]
    shell: /bin/bash
    sudo: ALL=(ALL) NOPASSWD:ALL
packages: [nginx, curl]
write_files:
  - path: /etc/motd
    content: |
      machine {0}
ssh_keepalive:
  unresponsive_timeout: 3m
  idle_timeout: 15m
runcmd:
  - systemctl enable --now nginx
"""
CHECK_JSONSCHEMA = "check-jsonschema"
# It takes one file.
ONE_BY_ONE = "cloud-init schema -c"
TOOLS = {
    "ssh-keepalive check": ("ssh-keepalive", "check"),
    CHECK_JSONSCHEMA: ("python3", "-m", "check_jsonschema", "--schemafile", "/srv/schema.json"),
    ONE_BY_ONE: ("cloud-init", "schema", "-c"),
}
# Of repetitions no more than fit in this time, but one at least
SECONDS = 30

# Prints how long a command takes, in seconds, and the most memory that it has, in MiB.
TIMED = r"""
import json, resource, subprocess, sys, time
count, command = int(sys.argv[1]), sys.argv[2:]
files = ["/srv/files/{}.yaml".format(number) for number in range(count)]
began = time.perf_counter()
done = subprocess.run(command + files, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
seconds = time.perf_counter() - began
if done.returncode:
    sys.exit(done.stderr.decode()[-2000:])
print(json.dumps((seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)))
"""


def checked(counts: tuple[int, ...], repetitions: int) -> list[dict[str, Any]]:
    """Return seconds and MiB of each tool for each count of files, all in one machine and by the same Python."""
    with Machine(SUITE) as machine:
        bake(machine)
        compile_as_packages_do(machine.root)
        put_check_jsonschema(machine.root)
        shutil.copy(SCHEMA, machine.root / "srv/schema.json")
        (machine.root / "srv/files").mkdir()
        for number in range(max(counts)):
            (machine.root / f"srv/files/{number}.yaml").write_text(USER_DATA.format(number))
        machine.boot()
        machine.wait()
        return [
            {"tool": tool, "files": count, **times(machine, tool, count, repetitions)}
            for tool in TOOLS
            for count in counts
            if tool != ONE_BY_ONE or count == 1
        ]


def times(machine: Machine, tool: str, count: int, repetitions: int) -> dict[str, float]:
    """Return the medians of seconds and MiB that a tool takes for some files."""
    measured: list[tuple[float, float]] = []
    while len(measured) < repetitions and sum(seconds for seconds, _ in measured) < SECONDS:
        command = ("python3", "-c", TIMED, str(count), *TOOLS[tool])
        measured.append(json.loads(machine.run(*command, timeout=3600, env={"PYTHONPATH": "/srv/python"}).stdout))
    seconds, mebibytes = (statistics.median(values) for values in zip(*measured))
    return {"seconds": seconds, "MiB": mebibytes}


def put_check_jsonschema(root: Path) -> None:
    """Put check-jsonschema beside the machine's Python, with what it needs, and compiled."""
    options = ("--quiet", "--disable-pip-version-check", "--no-compile", "--only-binary=:all:")
    where = (f"--python-version={RELEASES[SUITE].python}", f"--target={root}/srv/python")
    subprocess.run((sys.executable, "-m", "pip", "install", *options, *where, CHECK_JSONSCHEMA), check=True)
    subprocess.run(("chroot", root, "python3", "-m", "compileall", "-q", "/srv/python"), check=True)
