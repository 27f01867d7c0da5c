"""Nobody is locked out by a run: it restarts no sshd for what others have left in files."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import serving
from baking import DROP_IN
from machine import Machine
from serving import FOLDER, MAIN, OURS, SECTION, apply, can_log_in, has_read, listener, reapply, status, unattended

OTHER = "{client_alive_interval: 62}"


class Staged(NamedTuple):
    """What somebody has left for the next restart: a script, the file's name, and what sshd's memory would hold."""

    script: str
    file: str
    text: str = "AllowUsers deploy"


STAGED = {
    "a line in the main file": Staged(f"echo 'AllowUsers deploy' >>{MAIN}", MAIN),
    "an address that is not here": Staged(
        f"echo 'ListenAddress 203.0.113.1' >{FOLDER}/50-b.conf", f"{FOLDER}/50-b.conf", "203.0.113.1"
    ),
    "a drop-in": Staged(f"echo 'AllowUsers deploy' >{FOLDER}/50-b.conf", f"{FOLDER}/50-b.conf"),
    "another port": Staged(f"echo 'Port 2200' >>{MAIN}", MAIN, "Port 2200"),
    "a file with its old time": Staged(
        f"sed -i '$aAllowUsers deploy' {MAIN}; touch -d 2020-01-01 {MAIN} {FOLDER}", MAIN
    ),
    "another main file by rename": Staged(
        f"cp -p {MAIN} {MAIN}.new; echo 'AllowUsers deploy' >>{MAIN}.new; mv {MAIN}.new {MAIN}", MAIN
    ),
    "the service's options": Staged(
        "echo 'SSHD_OPTS=\"-o AllowUsers=deploy\"' >/etc/default/ssh", "/etc/default/ssh", "AllowUsers=deploy"
    ),
    "the service's bundled options": Staged(
        "echo 'SSHD_OPTS=-4oAllowUsers=deploy' >/etc/default/ssh", "/etc/default/ssh", "AllowUsers=deploy"
    ),
    "a command before the unit's own": Staged(
        "mkdir -p /etc/systemd/system/ssh.service.d; printf '[Service]\\nExecStartPre=/bin/false\\n' "
        ">/etc/systemd/system/ssh.service.d/x.conf; systemctl daemon-reload",
        "/etc/systemd/system/ssh.service.d/x.conf",
    ),
    "a condition of the unit's": Staged("touch /etc/ssh/sshd_not_to_be_run", "/etc/ssh/sshd_not_to_be_run"),
    "a host key": Staged(
        "rm /etc/ssh/ssh_host_ed25519_key*; ssh-keygen -qt ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key",
        "/etc/ssh/ssh_host_ed25519_key",
    ),
    "another folder of drop-ins": Staged(
        f"cp -a {FOLDER} {FOLDER}.new; echo 'AllowUsers deploy' >{FOLDER}.new/50-b.conf; "
        f"mv {FOLDER} {FOLDER}.old; mv {FOLDER}.new {FOLDER}",
        f"{FOLDER}/50-b.conf",
    ),
    "a drop-in of the unit": Staged(
        "mkdir -p /etc/systemd/system/ssh.service.d; printf '[Service]\\nExecStart=\\n"
        "ExecStart=/usr/sbin/sshd -D -o AllowUsers=deploy\\n' >/etc/systemd/system/ssh.service.d/x.conf; "
        "systemctl daemon-reload",
        "ssh.service",
        "AllowUsers=deploy",
    ),
}
NAMES = list(STAGED)


def stand(machine: Machine, name: str) -> None:
    """Have every kind of run meet what somebody has staged."""
    staged = STAGED[name]
    serving.as_it_was(machine)
    before = listener(machine)
    machine.sh(staged.script)
    for said in (reapply(machine), unattended(machine, SECTION), apply(machine, SECTION)):
        assert "sshd restarted" not in said.text
        assert listener(machine) == before
    for run, section in ((unattended, OTHER), (apply, "{client_alive_interval: 63}"), (apply, SECTION)):
        said = run(machine, section)
        assert listener(machine) == before, said
        # The last one is what sshd has read already.
        if section != SECTION:
            assert said.code == 1
            assert staged.file in said.text
            assert "systemctl restart ssh" in said.text
            assert section.split()[1].rstrip("}") in machine.run("cat", DROP_IN).stdout
            assert status(machine).code != 0
    assert has_read(machine, OURS)
    assert not has_read(machine, staged.text)
    assert can_log_in(machine)


@pytest.mark.parametrize("name", NAMES[::8])
def test_the_newest_is_not_restarted_for(newest: Machine, name: str) -> None:
    stand(newest, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_each_is_not_restarted_for(each: Machine, name: str) -> None:
    stand(each, name)


CONDITIONS = ["[Unit]\\nConditionFileNotEmpty=/srv/go", "[Service]\\nExecCondition=/bin/test -s /srv/go"]


@pytest.mark.parametrize("condition", [CONDITIONS[0], pytest.param(CONDITIONS[1], marks=pytest.mark.slow)])
def test_a_condition_that_only_systemd_knows(newest: Machine, condition: str) -> None:
    serving.as_it_was(newest)
    folder = "/etc/systemd/system/ssh.service.d"
    newest.sh(f"mkdir -p {folder}; echo >/srv/go; printf '{condition}\\n' >{folder}/x.conf; systemctl daemon-reload")
    newest.sh("systemctl restart ssh; sleep 1; : >/srv/go")
    before = listener(newest)
    said = unattended(newest, OTHER)
    assert (said.code, condition.partition("\\n")[2] in said.text) == (1, True)
    assert listener(newest) == before
    assert can_log_in(newest)


# As in images of linuxcontainers.org
GENERATOR = """\
#!/bin/sh
mkdir -p /run/systemd/system/service.d
printf '[Service]\\nProtectProc=default\\n' >/run/systemd/system/service.d/zzz-lxc-service.conf
"""


def test_a_drop_in_that_a_generator_writes_anew_is_no_reason(newest: Machine) -> None:
    serving.as_it_was(newest)
    folder = "/etc/systemd/system-generators"
    newest.sh(f"mkdir -p {folder}")
    try:
        newest.run("tee", f"{folder}/lxc", input=GENERATOR)
        newest.sh(f"chmod 755 {folder}/lxc; systemctl daemon-reload; systemctl restart ssh; sleep 1")
        newest.run("systemctl", "daemon-reload")
        assert "zzz-lxc" in newest.run("systemctl", "show", "-p", "DropInPaths", "ssh").stdout
        said = unattended(newest, OTHER)
        assert said.code == 0, said
        assert has_read(newest, "ClientAliveInterval 62")
    finally:
        newest.sh(f"rm -r {folder} /run/systemd/system/service.d; systemctl daemon-reload")


def test_an_address_of_a_network_of_its_own_is_no_reason(newest: Machine) -> None:
    serving.as_it_was(newest)
    folder = "/etc/systemd/system/ssh.service.d"
    lines = "[Service]\\nPrivateNetwork=yes\\nExecStartPre=/bin/ip addr add 10.9.9.9/32 dev lo\\n"
    newest.sh(f"mkdir -p {folder}; printf '{lines}' >{folder}/x.conf; systemctl daemon-reload")
    newest.sh(f"echo 'ListenAddress 10.9.9.9' >{FOLDER}/50-b.conf; systemctl restart ssh; sleep 1")
    try:
        said = unattended(newest, OTHER)
        found = status(newest)
    finally:
        # Which the next test does not see among the machine's listeners
        newest.run("systemctl", "stop", "ssh")
    assert said.code == 0, said
    assert said.text.endswith("changed, sshd restarted\n")
    assert (found.code, found.addresses) == (0, {"10.9.9.9:22"}), found.problems


def test_what_a_person_has_put_into_effect_is_no_reason(newest: Machine) -> None:
    serving.as_it_was(newest)
    newest.sh(f"echo 'ClientAliveCountMax 9' >{FOLDER}/50-b.conf; echo 'LogLevel VERBOSE' >>{MAIN}")
    said = apply(newest, OTHER)
    assert (said.code, f"{FOLDER}/50-b.conf" in said.text, MAIN in said.text) == (1, True, True)
    newest.run("systemctl", "restart", "ssh")
    assert has_read(newest, "ClientAliveInterval 62")
    for section in (SECTION, OTHER):
        before = listener(newest)
        said = unattended(newest, section)
        assert said.code == 0, said
        assert said.text.endswith("changed, sshd restarted\n")
        assert listener(newest) != before
    assert status(newest).code == 0


@pytest.mark.slow
def test_what_was_staged_and_taken_away_is_no_reason(newest: Machine) -> None:
    serving.as_it_was(newest)
    newest.sh(f"cp -p {MAIN} /main; echo 'AllowUsers deploy' >>{MAIN}; echo '# x' >{FOLDER}/50-b.conf")
    assert apply(newest, OTHER).code == 1
    newest.sh(f"cp -p /main {MAIN}; rm {FOLDER}/50-b.conf")
    before = listener(newest)
    said = apply(newest, OTHER)
    assert said.code == 0, said
    assert listener(newest) != before
    assert has_read(newest, "ClientAliveInterval 62")
    assert status(newest).code == 0


def test_sshd_is_not_restarted_into_a_failure(newest: Machine) -> None:
    serving.as_it_was(newest)
    before = listener(newest)
    newest.sh(f"echo 'NoSuchKeyword yes' >{FOLDER}/50-b.conf")
    for said in (reapply(newest), unattended(newest, SECTION), unattended(newest, OTHER), apply(newest, OTHER)):
        assert "NoSuchKeyword" in said.text
        assert said.code == 1
    assert listener(newest) == before
    assert OURS in newest.run("cat", DROP_IN).stdout


def test_an_sshd_that_is_tried_again_is_told_of(newest: Machine) -> None:
    serving.as_it_was(newest)
    # As on RHEL
    folder = "/etc/systemd/system/ssh.service.d"
    lines = "[Service]\\nRestart=on-failure\\nRestartSec=42s\\nRestartPreventExitStatus=\\n"
    newest.sh(f"mkdir -p {folder}; printf '{lines}' >{folder}/x.conf; systemctl daemon-reload")
    newest.sh(f"echo 'ListenAddress 203.0.113.1' >{FOLDER}/50-b.conf; systemctl restart ssh || true")
    newest.sh("until systemctl show -p SubState ssh | grep auto-restart; do sleep 0.1; done")
    found = status(newest)
    assert (found.code, "ssh.service has failed (exit-code), it serves nobody" in found.problems) == (1, True)
    assert "ssh.service has failed (exit-code)" in unattended(newest, OTHER).text


@pytest.mark.slow
def test_an_sshd_that_is_down_is_told_of(newest: Machine) -> None:
    serving.as_it_was(newest)
    newest.sh(f"echo 'ListenAddress 203.0.113.1' >{FOLDER}/50-b.conf; systemctl restart ssh || true")
    newest.sh("while systemctl is-active ssh; do sleep 0.1; done >/dev/null || true")
    assert listener(newest) == 0
    found = status(newest)
    assert found.code != 0
    assert "ssh.service" in found.problems
