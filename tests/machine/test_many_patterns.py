"""What a policy of the greatest size costs a machine: no more questions than a small one, on a slow CPU, too."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from costs import with_patterns
from machine import Machine
from serving import Said, as_it_was, can_log_in, status

# As the module is called by cloud-init, with all that it starts
CALL = """\
import logging, sys, yaml
sys.stdin.readline()
from ssh_keepalive import policy
from ssh_keepalive.machine.apply import apply
from ssh_keepalive.machine.host import Host
logging.basicConfig(level=logging.DEBUG, format="%(message)s", stream=sys.stdout)
print(apply(policy.parse(yaml.safe_load(sys.argv[1])), Host(("ssh",))))
"""
# t3.nano's baseline
SHARE = 0.05


@contextlib.contextmanager
def slowly(pid: int) -> Iterator[None]:
    """Give a process, and all that it will start, no more than that share of a core."""
    tops = (Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup"))
    group = next(top for top in tops if (top / "cgroup.procs").exists()) / f"slow-{pid}"
    group.mkdir()
    try:
        if (group / "cpu.cfs_quota_us").exists():
            (group / "cpu.cfs_quota_us").write_text(str(int(100000 * SHARE)))
        else:
            (group / "cpu.max").write_text(f"{int(100000 * SHARE)} 100000")
        for child in (pid, *Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
            (group / "cgroup.procs").write_text(str(child))
        yield
    finally:
        os.rmdir(group)


def unattended(machine: Machine, section: str) -> Said:
    with machine.popen("python3", "-c", CALL, section, stdin=subprocess.PIPE) as process:
        with slowly(process.pid):
            out, err = process.communicate("\n", timeout=120)
        return Said(process.returncode, out + err)


def look(machine: Machine, count: int) -> list[str]:
    """Have a slow machine enforce a policy of so many patterns before sshd runs; return what it starts for that."""
    as_it_was(machine)
    machine.run("systemctl", "stop", "ssh")
    said = unattended(machine, with_patterns(count, idle="none"))
    assert said.code == 0, said.text
    assert "not verified" not in said.text
    assert "did not answer" not in said.text
    machine.run("systemctl", "start", "ssh")
    found = status(machine)
    assert found.code == 0, found.problems
    assert can_log_in(machine)
    return re.findall("^(.*): exit -?[0-9]+ after", said.text, re.MULTILINE)


def test_250_patterns_are_enforced_on_a_twentieth_of_a_core(newest: Machine) -> None:
    started = look(newest, 250)
    assert len(started) <= 12, started


@pytest.mark.slow
def test_the_number_of_processes_does_not_grow(each: Machine) -> None:
    few, many = (look(each, count) for count in (1, 250))
    assert len(many) <= len(few)
