"""What examples/local-runs.sh shows, on an ordinary machine: cloud-init runs there, and no cloud tells it anything."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Iterator

import pytest
from baking import DROP_IN, bake, effective
from machine import Machine

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DEFAULT = (EXAMPLES / "images/95_ssh_keepalive.cfg").read_text()


def commands() -> list[list[str]]:
    """Return the commands of each paragraph of the example."""
    paragraphs = (EXAMPLES / "local-runs.sh").read_text().split("\n\n")
    return [[line for line in paragraph.splitlines() if not line.startswith("#")] for paragraph in paragraphs]


CHECK, APPLY, BOOT = commands()


@pytest.fixture(scope="module")
def booted(oldest_or_newest: str) -> Iterator[Machine]:
    with Machine(oldest_or_newest, None) as machine:
        bake(machine)
        (machine.root / "95_ssh_keepalive.cfg").write_text(DEFAULT)
        machine.boot()
        machine.wait()
        yield machine


def check(machine: Machine, user_data: str) -> subprocess.CompletedProcess[str]:
    (machine.root / "user-data.yaml").write_text(user_data)
    (command,) = CHECK
    return machine.sh(command, check=False)


def test_a_file_is_checked(booted: Machine) -> None:
    if booted.suite == "bullseye":  # cloud-init 22.2 and later have the command, and a schema that we can be part of
        return
    for file in (EXAMPLES / "user-data").iterdir():
        assert check(booted, file.read_text()).returncode == 0
    wrong = check(booted, "#cloud-config\nssh_keepalive:\n  client_alive_interval: 60\n  unresponsive_timeout: 10\n")
    assert wrong.returncode == (0 if booted.suite == "bookworm" else 1)
    assert "  unresponsive_timeout: 10\t\t# E1\n" in wrong.stdout
    assert "# E1: 10 is less than the minimum of 15\n" in wrong.stdout


def test_a_policy_is_applied_at_once(booted: Machine) -> None:
    assert "ssh-keepalive install" in APPLY
    for command in APPLY:
        booted.sh(command)
    assert '{"unresponsive_timeout": 300}' in booted.run("cat", DROP_IN).stdout
    booted.sh("rm /etc/cloud/cloud.cfg.d/95_ssh_keepalive.cfg")


def test_a_seed_makes_it_a_new_instance(booted: Machine) -> None:
    (booted.root / "user-data.yaml").write_text("#cloud-config\nssh_keepalive:\n  client_alive_interval: 43\n")
    *before, reboot = BOOT
    assert reboot == "reboot"
    for command in before:
        booted.sh(command)
    booted.reboot()
    booted.wait()
    status = booted.run("cloud-init", "status", "--long")
    assert re.search("DataSourceNoCloud|datasource: nocloud", status.stdout), status.stdout
    assert effective(booted)["clientaliveinterval"] == "43"
