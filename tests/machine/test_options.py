"""What sshd is started with: known from its unit before its first start, and from the process while it runs."""

from __future__ import annotations

import json
import subprocess
from typing import NamedTuple

import pytest
import serving
from baking import bake
from machine import Machine
from serving import MAIN, SECTION, has_read, listener, status, unattended

OTHER = "{client_alive_interval: 62}"


class Options(NamedTuple):
    """A command line of sshd's, and what of it is in the way of the policy, if anything is."""

    options: str
    overridden_by: str | None = None
    # The unit, with {} for the options
    unit: str = ""


SEVEN = "-o ClientAliveInterval=7"
UNIT = "[Service]\nExecStart=\nExecStart=/usr/sbin/sshd -D {}\n"
QUOTED = """[Service]\nExecStart=\nExecStart=/usr/sbin/sshd -D -o "ClientAliveInterval 7"\n"""

OPTIONS = {
    "none": Options(""),
    "another keyword": Options("-o LogLevel=VERBOSE -4 -u0"),
    "another PID file": Options("-o PidFile=/run/other.pid"),
    "no PID file": Options("-oPidFile=none"),
    "ours": Options(SEVEN, SEVEN),
    "ours without a blank": Options("-oClientAliveInterval=7", SEVEN),
    "ours in lower case": Options("-oclientaliveinterval=7", SEVEN),
    "ours in a bundle": Options("-4oClientAliveInterval=7", SEVEN),
    "ours at the end of a bundle": Options("-4o ClientAliveInterval=7", SEVEN),
    "ours twice, the first wins": Options(f"{SEVEN} -o ClientAliveInterval=61", SEVEN),
    "ours twice, the first is right": Options("-o ClientAliveCountMax=3 -o ClientAliveCountMax=9"),
    "ours in the unit": Options(SEVEN, SEVEN, UNIT),
    "ours with a blank in the unit": Options("", SEVEN, QUOTED),
    "ours in an Environment of the unit": Options(
        "", SEVEN, "[Service]\nEnvironment=X=-oClientAliveInterval=7\n" + UNIT[10:].format("$X")
    ),
    "ours with a blank in an Environment of the unit": Options(
        "", SEVEN, '[Service]\nEnvironment="X=-o ClientAliveInterval=7"\n' + UNIT[10:].format("$X")
    ),
    "ours in one of many EnvironmentFiles": Options(
        "", SEVEN, "[Service]\nEnvironmentFile=-/etc/default/mi*\n" + UNIT[10:].format("$MINE")
    ),
    "ours in another EnvironmentFile": Options(
        "", SEVEN, "[Service]\nEnvironmentFile=/etc/default/mine\n" + UNIT[10:].format("$MINE")
    ),
    "one word of a variable": Options(
        "", SEVEN, "[Service]\nEnvironmentFile=/etc/default/mine\n" + UNIT[10:].format("${MINE}")
    ),
    "ours by nice": Options(SEVEN, SEVEN, "[Service]\nExecStart=\nExecStart=/usr/bin/nice -n 0 /usr/sbin/sshd -D {}\n"),
    "ours by a shell": Options(
        SEVEN, SEVEN, "[Service]\nExecStart=\nExecStart=/bin/sh -c 'exec /usr/sbin/sshd -D {}'\n"
    ),
    "a port": Options("-p 22"),
    "a main file that reads it": Options("-f /etc/ssh/other"),
    "a main file that does not": Options("-f /etc/ssh/bare", "/etc/ssh/bare"),
    "a main file in a bundle": Options("-ef /etc/ssh/bare", "/etc/ssh/bare"),
    "a main file without a blank": Options("-f/etc/ssh/bare", "/etc/ssh/bare"),
}
NAMES = list(OPTIONS)
FILES = f"""\
cp {MAIN} /etc/ssh/other
grep -v ^Include {MAIN} >/etc/ssh/bare
echo 'MINE="-oClientAliveInterval=7"' >/etc/default/mine
"""


def test_an_export_that_systemd_ignores(oldest: Machine) -> None:
    serving.as_it_was(oldest)
    oldest.sh(f"echo 'export SSHD_OPTS={SEVEN.replace(' ', '')}' >/etc/default/ssh; systemctl restart ssh; sleep 1")
    assert unattended(oldest, OTHER).code == 0
    assert has_read(oldest, "ClientAliveInterval 62")
    assert status(oldest).code == 0


def script(name: str) -> str:
    """Return what gives sshd options, of the service's file or in the unit."""
    options, _, unit = OPTIONS[name]
    if unit:
        folder = "/etc/systemd/system/ssh.service.d"
        return f"{FILES}mkdir -p {folder}\ncat >{folder}/x.conf <<'X'\n{unit.replace('{}', options)}X\n"
    return f"{FILES}cat >/etc/default/ssh <<'X'\nSSHD_OPTS=\"{options}\"\nX\n"


def stand(machine: Machine, name: str) -> None:
    """Have status and runs meet options before sshd starts with them, and while it runs with them."""
    overridden_by = OPTIONS[name].overridden_by
    serving.as_it_was(machine)
    machine.run("systemctl", "stop", "ssh")
    machine.sh(script(name) + "systemctl daemon-reload")
    said = unattended(machine, OTHER)
    assert said.code == int(overridden_by is not None), said
    assert overridden_by is None or overridden_by in said.text
    machine.run("systemctl", "start", "ssh")
    found = status(machine)
    assert found.code == said.code, found.problems
    if overridden_by:
        assert overridden_by in found.problems
        said = unattended(machine, SECTION)
        assert (said.code, overridden_by in said.text) == (1, True)
        return
    assert has_read(machine, "ClientAliveInterval 62")
    before = listener(machine)
    assert "sshd restarted" in unattended(machine, SECTION).text
    assert listener(machine) != before
    assert has_read(machine, serving.OURS)
    found = status(machine)
    assert found.code == 0, found.problems


@pytest.mark.parametrize("name", NAMES[6::8])
def test_the_oldest(oldest: Machine, name: str) -> None:
    stand(oldest, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_each(each: Machine, name: str) -> None:
    stand(each, name)


FIRST_BOOT = ["ours in a bundle", "ours in another EnvironmentFile", "a main file that does not", "another PID file"]


@pytest.mark.slow
@pytest.mark.parametrize("name", FIRST_BOOT)
def test_the_first_boot(oldest_or_newest: str, name: str) -> None:
    overridden_by = OPTIONS[name].overridden_by
    with Machine(oldest_or_newest, f"#cloud-config\nssh_keepalive: {SECTION}\n") as machine:
        bake(machine)
        subprocess.run(("chroot", machine.root, "sh", "-ec", script(name)), check=True)
        machine.boot()
        machine.wait()
        errors = json.loads(machine.run("cat", "/run/cloud-init/result.json").stdout)["v1"]["errors"]
        assert (overridden_by or "") in str(errors)
        assert bool(errors) == (overridden_by is not None)
        assert status(machine).code == int(overridden_by is not None)


IN_SYSTEMD = """\
mkdir -p /etc/systemd/system/ssh.service.d /etc/systemd/system.conf.d
printf '[Service]\\nExecStart=\\nExecStart=/usr/sbin/sshd -D $OWN\\n' >/etc/systemd/system/ssh.service.d/x.conf
printf '[Manager]\\nDefaultEnvironment="OWN=-o ClientAliveInterval=7"\\n' >/etc/systemd/system.conf.d/x.conf
"""


def test_a_variable_of_systemds_own(oldest_or_newest: str) -> None:
    with Machine(oldest_or_newest, f"#cloud-config\nssh_keepalive: {SECTION}\n") as machine:
        bake(machine)
        subprocess.run(("chroot", machine.root, "sh", "-ec", IN_SYSTEMD), check=True)
        machine.boot()
        machine.wait()
        errors = json.loads(machine.run("cat", "/run/cloud-init/result.json").stdout)["v1"]["errors"]
        assert SEVEN in str(errors)
        machine.sh(
            "systemctl stop ssh; systemctl set-environment OWN=-oUseDNS=no; rm /etc/systemd/system.conf.d/x.conf"
        )
        apply = unattended(machine, OTHER)
        assert apply.code == 0, apply
        machine.sh("systemctl start ssh")
        found = status(machine)
        assert (found.code, "another command" in found.notes) == (0, False), found


@pytest.mark.slow
@pytest.mark.parametrize("options", ["-oClientAliveInterval=7", "-4", "-4oClientAliveInterval=7"])
def test_one_for_each_connection(options: str) -> None:
    with Machine("bullseye", f"#cloud-config\nssh_keepalive: {SECTION}\n") as machine:
        bake(machine)
        subprocess.run(("systemctl", "--quiet", f"--root={machine.root}", "disable", "ssh.service"), check=True)
        subprocess.run(("systemctl", "--quiet", f"--root={machine.root}", "enable", "ssh.socket"), check=True)
        (machine.root / "etc/default/ssh").write_text(f"SSHD_OPTS={options}\n")
        machine.boot()
        machine.wait(sshd=False)
        is_overridden = "ClientAlive" in options
        errors = json.loads(machine.run("cat", "/run/cloud-init/result.json").stdout)["v1"]["errors"]
        assert bool(errors) == is_overridden
        assert (SEVEN if is_overridden else "") in str(errors)
        assert serving.can_log_in(machine)
        found = status(machine)
        # 8.4 answers nothing without /run/sshd, which goes with each connection.
        assert found.code in ((1,) if is_overridden else (0, 2)), found.problems
