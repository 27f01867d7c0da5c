"""An sshd that runs, but not as the service's: put into effect by a person, named by a boot."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

import pytest
import serving
from baking import bake
from machine import Machine
from serving import OURS, SECTION, apply, can_log_in, has_read, listener, status, unattended

OTHER = "{client_alive_interval: 62}"
LOOP = "while :; do /usr/sbin/sshd -D; sleep 0.2; done"


class Start(NamedTuple):
    """What starts sshd instead of the service, and whether a unit does, that can be restarted."""

    script: str
    unit: str | None = None


STARTS = {
    "by hand": Start("/usr/sbin/sshd"),
    "by hand in the foreground": Start("setsid /usr/sbin/sshd -D </dev/null >/dev/null 2>&1 &"),
    "by hand in debug": Start("setsid /usr/sbin/sshd -D -e </dev/null >/dev/null 2>&1 &"),
    "by a supervisor": Start(f"systemd-run -q --unit=visor sh -c '{LOOP}'"),
    "by another unit": Start("systemd-run -q --unit=visor /usr/sbin/sshd -D", "visor.service"),
    "by hand, with ssh masked": Start("systemctl -q mask ssh; /usr/sbin/sshd"),
    "by hand, without a PID file": Start("/usr/sbin/sshd -o PidFile=none"),
    "by a login shell of root's": Start("ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/k; /usr/sbin/sshd -h /etc/ssh/k"),
}
NAMES = list(STARTS)


def stand(machine: Machine, name: str) -> None:
    start = STARTS[name]
    machine.sh("systemctl stop visor 2>/dev/null || true")
    serving.as_it_was(machine)
    machine.sh(f"systemctl stop ssh\nmkdir -p /run/sshd\n{start.script}\n")
    before = serving.until_it_listens(machine)
    assert has_read(machine, OURS)
    said = unattended(machine, SECTION)
    assert listener(machine) == before
    said = unattended(machine, OTHER)
    assert has_read(machine, "ClientAliveInterval 62") == (said.code == 0), said
    if start.unit:
        assert said.code == 0, said
    else:
        assert listener(machine) == before
        assert "sshd restarted" not in said.text
        assert "when it starts" not in said.text
        assert f"kill -HUP {before}" in said.text
    assert (status(machine).code == 0) == (said.code == 0)
    said = apply(machine, "{client_alive_interval: 63}")
    assert said.code == 0, said
    assert has_read(machine, "ClientAliveInterval 63")
    if not start.unit:
        assert listener(machine) == before
    assert can_log_in(machine)
    found = status(machine)
    assert found.code == 0, found.problems
    machine.sh("systemctl stop visor 2>/dev/null || true; systemctl -q unmask ssh; rm -f /etc/ssh/k /etc/ssh/k.pub")


@pytest.mark.parametrize("name", NAMES[1:2])
def test_the_newest(newest: Machine, name: str) -> None:
    stand(newest, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_each(each: Machine, name: str) -> None:
    stand(each, name)


def test_a_masked_service_that_runs_on(newest: Machine) -> None:
    serving.as_it_was(newest)
    newest.run("systemctl", "mask", "ssh")
    try:
        said = unattended(newest, OTHER)
        assert has_read(newest, "ClientAliveInterval 62") == (said.code == 0), said
        assert (status(newest).code == 0) == (said.code == 0)
        assert can_log_in(newest)
    finally:
        newest.run("systemctl", "unmask", "ssh")


@pytest.mark.slow
def test_a_restart_that_is_none(newest: Machine) -> None:
    serving.as_it_was(newest)
    before = listener(newest)
    folder = "/etc/systemd/system/ssh.service.d"
    newest.sh(f"mkdir -p {folder}; printf '[Unit]\\nRefuseManualStop=yes\\n' >{folder}/x.conf; systemctl daemon-reload")
    said = unattended(newest, OTHER)
    assert listener(newest) == before
    assert said.code != 0
    assert "sshd restarted" not in said.text
    # Nothing that waits for a restart, or the old text: what sshd has read.
    found = status(newest)
    assert (found.code == 0) == has_read(newest, "ClientAliveInterval 62") or found.found["policy"] == {
        "client_alive_interval": 61,
        "client_alive_count_max": 3,
    }


BOOTCMD = """\
#cloud-config
bootcmd:
  - mkdir -p /run/sshd
  - ssh-keygen -A
  - {}
ssh_keepalive: {}
"""


@pytest.mark.parametrize(
    ("end", "command"),
    [
        pytest.param("bullseye", "/usr/sbin/sshd", marks=pytest.mark.slow),
        pytest.param("forky", "/usr/sbin/sshd -p 22", marks=pytest.mark.slow),
        pytest.param("forky", "systemctl mask ssh.service; /usr/sbin/sshd", marks=pytest.mark.slow),
        pytest.param("bookworm", "/usr/sbin/sshd -o PidFile=none", marks=pytest.mark.slow),
    ],
)
def test_started_by_bootcmd(end: str, command: str) -> None:
    with Machine(end, BOOTCMD.format(command, SECTION)) as machine:
        bake(machine)
        machine.boot()
        machine.wait(sshd=False)
        errors = json.loads(machine.run("cat", "/run/cloud-init/result.json").stdout)["v1"]["errors"]
        pid = listener(machine)
        is_enforced = has_read(machine, OURS)
        # On Debian 11 it ends with the stage that has started it, and the service follows.
        assert is_enforced or "ssh_keepalive" in str(errors)
        found = status(machine)
        if not is_enforced:
            assert f"kill -HUP {pid}" in str(errors)
            # That the service has failed is known, and whether the other one was sent a signal since is not.
            assert found.code == (2 if "mask" in command else 1)
            assert f"kill -HUP {pid}" in found.problems
            (told,) = set(re.findall(rf"(?:mkdir -p /run/sshd && )?kill -HUP {pid}", found.problems))
            machine.sh(told)
            serving.until_it_listens(machine)
            machine.sh("sleep 0.3")
            assert has_read(machine, OURS)
            assert pid not in [one["pid"] for one in status(machine).found["servers"] if not one["has_read"]]
