"""The files in examples/user-data and what examples/terraform renders, on real machines: what sshd keeps of each."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from baking import DROP_IN, bake, effective
from machine import SEED, Machine
from terraform import rendered

FOLDER = Path(__file__).resolve().parents[2] / "examples/user-data"
TMOUT = "/etc/profile.d/zz-ssh-keepalive.sh"


class Kept(NamedTuple):
    """Hold interval/count that sshd is to report, on OpenSSH 9.2 if others, and how long sessions may be idle.

    For commands and subsystems that may be another time.
    """

    pair: str
    on_9_2: str = ""
    idle: int | None = None
    commands: int | None = None

    @property
    def channels(self) -> str:
        """Return what sshd says of ChannelTimeout."""
        if self.idle is None:
            return "none"
        if self.commands:
            types = "session:command={0} session:subsystem:*={0} session:*={1} global={0}"
            return types.format(self.commands, self.idle)
        return f"session:*={self.idle} global={self.idle}"


KEPT = {
    "articles.yaml": Kept("5/35", "3/29"),
    "azure.yaml": Kept("180/3"),
    "bastion.yaml": Kept("5/17", "3/14", idle=900, commands=7200),
    "cis-debian.yaml": Kept("300/3"),
    "cis-rhel.yaml": Kept("300/1"),
    "idle.yaml": Kept("5/35", "3/29", idle=900, commands=7200),
    "lost-networks.yaml": Kept("5/35", "3/29"),
    "minimal.yaml": Kept("5/3", "2/4", idle=60),
    "openscap.yaml": Kept("300/3"),
    "sftp.yaml": Kept("5/59", "3/49", idle=900, commands=43200),
    "stig.yaml": Kept("600/1"),
}
# OpenSSH 8.4 has no ChannelTimeout.
REFUSED = {("bullseye", "bastion.yaml")}


@pytest.fixture(
    scope="module",
    params=["bullseye", "trixie", *(pytest.param(suite, marks=pytest.mark.slow) for suite in ("bookworm", "forky"))],
)
def booted(request: pytest.FixtureRequest) -> Iterator[Machine]:
    with Machine(request.param) as machine:
        bake(machine)
        machine.boot()
        machine.wait()
        yield machine


def in_effect(machine: Machine, *who: str) -> str:
    return "{clientaliveinterval}/{clientalivecountmax}".format(**effective(machine, *who))


def first_boot(machine: Machine, user_data: str) -> None:
    """Boot a machine as a new instance, without what an earlier one has left."""
    machine.poweroff()
    (machine.root / DROP_IN[1:]).unlink(missing_ok=True)
    machine.reseed(user_data)
    machine.boot()
    machine.wait()
    assert machine.run("cloud-init", "status").stdout == "status: done\n"


@pytest.mark.parametrize("name", sorted(KEPT))
def test_sshd_keeps_it(booted: Machine, name: str) -> None:
    text = (FOLDER / name).read_text()
    if (booted.suite, name) in REFUSED:
        before = effective(booted)
        answer = booted.run("ssh-keepalive", "apply", "-", input=text, check=False)
        assert (answer.returncode, answer.stdout) == (1, "")
        assert "ssh-keepalive: ssh_keepalive.idle_timeout: 900: OpenSSH 8.4 has no ChannelTimeout: " in answer.stderr
        assert effective(booted) == before
        return
    # One release has first boots, which do the same and take longer; the others' are in test_first_boot.py.
    if booted.suite == "trixie":
        first_boot(booted, text)
    else:
        # This restarts it more often than systemd's start limit allows people to.
        booted.run("systemctl", "reset-failed", "ssh")
        booted.run("ssh-keepalive", "apply", "-", input=text)

    kept = KEPT[name]
    is_9_2 = booted.release.openssh == "9.2"
    assert in_effect(booted) == ((is_9_2 and kept.on_9_2) or kept.pair)
    values = effective(booted)
    tmout = booted.run("cat", TMOUT, check=False).stdout
    if booted.suite == "bullseye":
        assert "channeltimeout" not in values
        assert re.findall("TMOUT=(.*)", tmout) == ([str(kept.idle)] if kept.idle else [])
    else:
        # What is none 9.2 does not print.
        assert values.get("channeltimeout", "none") == kept.channels
        assert values["unusedconnectiontimeout"] == (str(kept.idle) if kept.idle else "none")
        assert tmout == ""
    assert booted.run("ssh-keepalive", "status").stdout.startswith("enforced: ")


def test_a_bastion_has_other_times_for_some(booted: Machine) -> None:
    if (booted.suite, "bastion.yaml") in REFUSED:
        return
    booted.run("ssh-keepalive", "apply", "-", input=(FOLDER / "bastion.yaml").read_text())
    ten_minutes = "3/99" if booted.release.openssh == "9.2" else "5/119"
    assert in_effect(booted, "ci-runner", "192.0.2.1") == ten_minutes
    assert in_effect(booted, "deploy", "10.1.2.3") == ten_minutes
    assert in_effect(booted, "somebody", "fd00::1") == "10/3"


def test_every_file_is_here() -> None:
    assert sorted(KEPT) == sorted(file.name for file in FOLDER.iterdir())


@pytest.mark.parametrize("suite", ["bullseye", "forky"])  # the oldest cloud-init, and the newest
def test_what_terraform_renders(suite: str, machines: Callable[..., Machine]) -> None:
    machine = machines(suite)
    bake(machine, "{tcp_keep_alive: false}")
    # Clouds take the base64 off.
    (machine.root / SEED / "user-data").write_bytes(base64.b64decode(rendered()))
    machine.boot()
    machine.wait()
    assert machine.run("cat", "/run/parts").stdout == "machine\nrole\n"
    assert machine.run("cloud-init", "status").stdout == "status: done\n"
    values = effective(machine)
    assert in_effect(machine) == "5/35"
    assert values["tcpkeepalive"] in ("no", "false")  # the image's; 10.6 has the other word
    if suite == "bullseye":
        assert re.findall("TMOUT=(.*)", machine.run("cat", TMOUT).stdout) == ["900"]
    else:
        assert values["channeltimeout"] == KEPT["idle.yaml"].channels
