"""All who listen: second instances, sshd of other programs, and those that nobody's unit has started."""

from __future__ import annotations

import shutil
from typing import NamedTuple

import pytest
import serving
from baking import DROP_IN, bake
from bases import base
from clients import Client
from machine import Machine
from serving import MAIN, OURS, SECTION, apply, can_log_in, has_read, listener, reapply, status, unattended

OTHER, THIRD = "{client_alive_interval: 62}", "{client_alive_interval: 63}"
INCLUDE = f"Include {DROP_IN}"
MANAGEMENT = "/etc/ssh/sshd_config_mgmt"
UNIT = "printf '[Service]\\nExecStart=/usr/sbin/sshd -D -f {}\\n' >/etc/systemd/system/{}.service\n"
UNIT += "systemctl daemon-reload; systemctl start {}\n"


class Second(NamedTuple):
    """A second sshd on port 2222: what starts it, and its unit if it has one that can be restarted."""

    script: str
    unit: str | None = None
    file: str = MANAGEMENT
    options: str = "PidFile /run/mgmt.pid\n"


SECONDS = {
    "by hand": Second(f"/usr/sbin/sshd -f {MANAGEMENT}"),
    "a unit": Second(UNIT.format(MANAGEMENT, "ssh-mgmt", "ssh-mgmt"), "ssh-mgmt.service"),
    "a unit of another name": Second(UNIT.format(MANAGEMENT, "mgmt", "mgmt"), "mgmt.service"),
    "by hand, with the default PID file": Second(f"/usr/sbin/sshd -f {MANAGEMENT}", options=""),
    "by hand, without a PID file": Second(f"/usr/sbin/sshd -f {MANAGEMENT}", options="PidFile none\n"),
    "by hand, bundled flags": Second(f"/usr/sbin/sshd -4ef {MANAGEMENT} 2>/dev/null"),
    "by a supervisor": Second(f"systemd-run -q --unit=visor sh -c '/usr/sbin/sshd -D -f {MANAGEMENT}; exit'"),
    "a transient unit": Second(f"systemd-run -q --unit=extra /usr/sbin/sshd -D -f {MANAGEMENT}", "extra.service"),
    "a forking unit": Second(
        # As a child of systemd's sshd does not leave its parent.
        "systemd-run -q --unit=old -p Type=forking -p PIDFile=/run/mgmt.pid "
        f"sh -c '/usr/sbin/sshd -f {MANAGEMENT}; exit'",
        "old.service",
    ),
    "a copy of the program": Second(f"mkdir -p /opt/x; cp /usr/sbin/sshd /opt/x/sshd; /opt/x/sshd -f {MANAGEMENT}"),
    "an instance of a template": Second(
        "printf '[Service]\\nExecStart=/usr/sbin/sshd -D -f /etc/ssh/sshd_config_%%i\\n' "
        ">/etc/systemd/system/inst@.service; systemctl daemon-reload; systemctl start inst@mgmt",
        "inst@mgmt.service",
    ),
    "a link with another name": Second(f"ln -sf sshd /usr/sbin/sshd-second; /usr/sbin/sshd-second -f {MANAGEMENT}"),
    "a copy with another name": Second(f"cp /usr/sbin/sshd /usr/sbin/mysshd; /usr/sbin/mysshd -f {MANAGEMENT}"),
    "a file elsewhere": Second("/usr/sbin/sshd -f /srv/sshd.conf", file="/srv/sshd.conf"),
}
NAMES = list(SECONDS)
LINK = "ln -sf sshd /usr/sbin/sshd-x; /usr/sbin/sshd-x -f {0}; sleep 0.5; "
UNSEEN = {
    # Which a short environment leaves no room for
    "a title that is cut": "cp {0} /x; cd /; env -i /usr/sbin/sshd -f/x",
    "a path with a blank": "mkdir -p '/opt/my ssh'; cp /usr/sbin/sshd '/opt/my ssh'; '/opt/my ssh/sshd' -f {0}",
    "a link that is gone": LINK + "rm /usr/sbin/sshd-x",
    "a link that leads elsewhere": LINK + "ln -sf nologin /usr/sbin/sshd-x",
    "a program that is gone": "cp /usr/sbin/sshd /opt/sshd; /opt/sshd -f {0}; sleep 0.5; rm /opt/sshd",
}


def start(machine: Machine, name: str, *lines: str) -> int:
    """Start a second sshd whose file begins with some lines; return its process."""
    second = SECONDS[name]
    serving.as_it_was(machine)
    machine.sh("for unit in visor extra old inst@mgmt; do systemctl stop $unit 2>/dev/null || true; done")
    machine.run("systemctl", "reset-failed")
    text = "".join(f"{line}\n" for line in lines) + f"Port 2222\nPermitRootLogin yes\n{second.options}"
    machine.run("tee", second.file, input=text)
    # A process's start is known to 10 ms.
    machine.sh("sleep 0.02; " + second.script)
    return serving.until_it_listens(machine, 2222)


def stand(machine: Machine, name: str) -> None:
    """Have a second sshd told of, with the policy and without it, and brought to enforce it."""
    second = SECONDS[name]
    # It does not read what enforces the policy.
    start(machine, name)
    found = status(machine)
    assert found.code == 1
    assert second.file in found.problems
    assert f"Include {DROP_IN}" in found.problems
    assert "0.0.0.0:2222" in found.addresses
    for run in (unattended, apply):
        said = run(machine, OTHER if run is unattended else THIRD)
        assert said.code == 1, said
        assert second.file in said.text
        assert f"Include {DROP_IN}" in said.text
    assert has_read(machine, "ClientAliveInterval 63")
    # It reads it.
    before = start(machine, name, INCLUDE)
    main = listener(machine)
    assert has_read(machine, OURS, 2222)
    found = status(machine)
    assert found.code == 0, found.problems
    assert {"0.0.0.0:22", "0.0.0.0:2222"} <= found.addresses
    reapply(machine)
    assert (listener(machine), listener(machine, 2222)) == (main, before)
    said = unattended(machine, OTHER)
    assert has_read(machine, "ClientAliveInterval 62")
    assert has_read(machine, "ClientAliveInterval 62", 2222) == (second.unit is not None)
    if second.unit:
        assert said.code == 0, said
    else:
        assert said.code == 1
        assert listener(machine, 2222) == before
        assert f"kill -HUP {before}" in said.text
        found = status(machine)
        assert found.code == 1
        assert f"kill -HUP {before}" in found.problems
    said = apply(machine, THIRD)
    assert said.code == 0, said
    assert has_read(machine, "ClientAliveInterval 63", 2222)
    found = status(machine)
    assert found.code == 0, found.problems
    if not second.unit:
        assert listener(machine, 2222) == before


@pytest.mark.parametrize("name", UNSEEN)
def test_one_that_is_hard_to_see(newest: Machine, name: str) -> None:
    serving.as_it_was(newest)
    newest.run("tee", MANAGEMENT, input=f"{INCLUDE}\nPort 2222\nPermitRootLogin yes\nPidFile none\n")
    newest.sh(UNSEEN[name].format(MANAGEMENT))
    before = serving.until_it_listens(newest, 2222)
    said = apply(newest, OTHER)
    assert (said.code == 0) == has_read(newest, "ClientAliveInterval 62", 2222)
    assert listener(newest, 2222) == before
    found = status(newest)
    assert (found.code == 0) == (said.code == 0)
    assert "0.0.0.0:2222" in found.addresses
    if name.endswith(("gone", "elsewhere")):
        # It would die of a signal.
        assert (said.code, "kill -HUP" in said.text + found.problems) == (1, False)


@pytest.mark.parametrize("name", NAMES[:1])
def test_the_newest(newest: Machine, name: str) -> None:
    stand(newest, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_each(each: Machine, name: str) -> None:
    stand(each, name)


def test_a_spare_one_changes_nothing_of_what_is_said(newest: Machine) -> None:
    serving.as_it_was(newest)
    before = status(newest)
    main = listener(newest)
    newest.sh("/usr/sbin/sshd -p 2222; sleep 0.2")
    spare = listener(newest, 2222)
    assert newest.run("cat", "/run/sshd.pid").stdout == f"{spare}\n"
    found = status(newest)
    assert found.code == 0
    assert found.server(pid=main) == before.server(pid=main)
    assert reapply(newest).code == 0
    assert listener(newest) == main
    said = unattended(newest, OTHER)
    assert said.code == 1
    assert f"kill -HUP {spare}" in said.text
    assert has_read(newest, "ClientAliveInterval 62")
    newest.sh(f"kill {spare}; while kill -0 {spare} 2>/dev/null; do sleep 0.05; done")
    found = status(newest)
    assert found.code == 0, found.problems
    assert "0.0.0.0:2222" not in found.addresses
    assert "sshd restarted" in unattended(newest, THIRD).text


@pytest.mark.slow
def test_a_spare_one_hides_nothing_of_the_main_one(newest: Machine) -> None:
    serving.as_it_was(newest)
    conflict = "/etc/ssh/sshd_config.d/00-a.conf"
    newest.sh(f"echo 'ClientAliveInterval 7' >{conflict}; systemctl restart ssh; rm {conflict}; sleep 0.1")
    newest.sh("/usr/sbin/sshd -p 2222; sleep 0.2")
    assert has_read(newest, OURS, 2222)
    assert has_read(newest, "ClientAliveInterval 7\n")
    assert status(newest).code != 0


@pytest.mark.slow
def test_a_listener_that_somebody_has_changed_gets_no_signal(newest: Machine) -> None:
    before = start(newest, "by hand", INCLUDE)
    newest.sh(f"echo 'AllowUsers deploy' >>{MANAGEMENT}")
    said = apply(newest, OTHER)
    assert said.code == 1
    assert MANAGEMENT in said.text
    assert has_read(newest, OURS, 2222)
    assert not has_read(newest, "AllowUsers deploy", 2222)
    assert listener(newest, 2222) == before
    assert has_read(newest, "ClientAliveInterval 62")


@pytest.mark.slow
def test_a_listener_with_a_relative_file_lives_on(newest: Machine) -> None:
    serving.as_it_was(newest)
    newest.run("tee", MANAGEMENT, input=f"{INCLUDE}\nPort 2222\nPidFile none\n")
    newest.sh("cd /etc/ssh; /usr/sbin/sshd -f sshd_config_mgmt; sleep 0.2")
    before = listener(newest, 2222)
    said = apply(newest, OTHER)
    assert listener(newest, 2222) == before
    assert has_read(newest, "ClientAliveInterval 62", 2222) == (said.code == 0)
    assert (status(newest).code == 0) == (said.code == 0)


def test_a_start_that_makes_a_key_changes_no_configuration(newest: Machine) -> None:
    """Also where the folder had been changed otherwise before, which a new name in it hides."""
    serving.as_it_was(newest)
    folder = "/etc/systemd/system/ssh.service.d"
    line = "ExecStartPre=/usr/bin/touch /etc/ssh/new_key"
    newest.sh(f"mkdir -p {folder}; printf '[Service]\\n{line}\\n' >{folder}/x.conf")
    newest.sh("systemctl daemon-reload; systemctl restart ssh; sleep 1; rm /etc/ssh/new_key; chmod 755 /etc/ssh")
    said = unattended(newest, OTHER)
    assert said.code == 0, said
    assert has_read(newest, "ClientAliveInterval 62")
    found = status(newest)
    assert found.code == 0, found.problems


def test_what_is_said_of_one_without_a_pid_file_settles_it(newest: Machine) -> None:
    before = start(newest, "by hand, without a PID file", INCLUDE)
    # Which no run of ours has seen
    newest.sh("rm /run/ssh-keepalive.json; sleep 1.5")
    said = unattended(newest, OTHER)
    assert (said.code, f"kill -HUP {before}" in said.text) == (1, True)
    found = status(newest)
    assert found.code != 0
    assert f"kill -HUP {before}" in found.problems
    newest.sh(f"kill -HUP {before}; sleep 0.5")
    assert has_read(newest, "ClientAliveInterval 62", 2222)
    assert status(newest).code == 0
    # What it has read is not taken for what comes later.
    newest.sh(f"echo 'ClientAliveInterval 7' >>{MANAGEMENT}; sed -i 1d {MANAGEMENT}")
    newest.sh(f"kill -HUP {before}; sleep 0.5")
    assert has_read(newest, "ClientAliveInterval 7", 2222)
    assert status(newest).code != 0


@pytest.mark.slow
def test_a_second_one_drops_dead_clients_in_time(newest: Machine) -> None:
    start(newest, "by hand", INCLUDE)
    assert apply(newest, "{unresponsive_timeout: 15s}").code == 0
    with Client(newest, 2222) as client:
        client.freeze()
        assert 12 < client.seconds_until_dropped(timeout=40) < 16.5


OVERRIDE = """\
mkdir -p /etc/systemd/system/ssh.service.d
printf '[Service]\\nExecStart=\\nExecStart=%s\\n' '{}' >/etc/systemd/system/ssh.service.d/x.conf
"""
OLD = "/opt/openssh92/sshd"


@pytest.fixture
def old_program(newest: Machine) -> Machine:
    """A machine with OpenSSH 9.2, which takes twice the time, beside its own."""
    serving.as_it_was(newest)
    (newest.root / OLD[1:]).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(base("bookworm") / "usr/sbin/sshd", newest.root / OLD[1:])
    return newest


@pytest.mark.parametrize("command", [f"{OLD} -D $SSHD_OPTS", pytest.param(f"{OLD} -D -4", marks=pytest.mark.slow)])
def test_another_program_is_asked(old_program: Machine, command: str) -> None:
    old_program.sh(OVERRIDE.format(command) + "systemctl daemon-reload; systemctl restart ssh")
    found = status(old_program)
    # 61 s are another time there.
    assert found.found["openssh"] == "9.2"
    said = unattended(old_program, "{unresponsive_timeout: 20s}")
    assert said.code == 0, said
    assert "OpenSSH 9.2" in said.text
    assert has_read(old_program, "ClientAliveInterval 2\n")
    found = status(old_program)
    assert (found.code, found.found["openssh"]) == (0, "9.2"), found.problems
    assert found.found["servers"][0]["program"] == OLD


def test_another_main_file_that_is_built_into_a_program(newest: Machine) -> None:
    """As of an OpenSSH that somebody has compiled."""
    serving.as_it_was(newest)
    newest.sh("mkdir -p /opt/ssh; echo 'PermitRootLogin yes' >/opt/ssh/sshd_config")
    # The names are as long as each other.
    newest.sh(f"sed s#{MAIN}#/opt/ssh/sshd_config#g /usr/sbin/sshd >/opt/ssh/sshd; chmod 755 /opt/ssh/sshd")
    newest.sh(OVERRIDE.format("/opt/ssh/sshd -D") + "systemctl daemon-reload; systemctl restart ssh")
    before = listener(newest)
    said = apply(newest, OTHER)
    assert said.code == 1
    assert (
        f"reads /opt/ssh/sshd_config, which does not read {DROP_IN}: put '{INCLUDE}' on its first line, "
        "then systemctl restart ssh.service"
    ) in said.text
    assert listener(newest) == before
    newest.sh(f"sed -i '1i{INCLUDE}' /opt/ssh/sshd_config; systemctl restart ssh")
    assert has_read(newest, OURS)
    said = apply(newest, OTHER)
    assert said.code == 0, said
    assert has_read(newest, "ClientAliveInterval 62")
    found = status(newest)
    assert found.code == 0, found.problems


@pytest.mark.slow
def test_another_program_for_some(old_program: Machine) -> None:
    old_program.run("tee", MANAGEMENT, input=f"{INCLUDE}\nPort 2222\nPidFile none\n")
    old_program.sh(f"{OLD} -f {MANAGEMENT}; sleep 0.2")
    said = apply(old_program, "{unresponsive_timeout: 20s}")
    # What is right for one is wrong for the other.
    assert said.code == 1
    assert OLD in said.text or "port 2222" in said.text
    assert status(old_program).code == 1


@pytest.mark.slow
def test_another_program_drops_dead_clients_in_time(old_program: Machine) -> None:
    old_program.sh(OVERRIDE.format(f"{OLD} -D") + "systemctl daemon-reload; systemctl restart ssh")
    assert unattended(old_program, "{unresponsive_timeout: 15s}").code == 0
    with Client(old_program) as client:
        client.freeze()
        assert 10 < client.seconds_until_dropped(timeout=40) < 16.5


@pytest.mark.slow
def test_another_program_from_the_first_boot_on() -> None:
    with Machine("forky", "#cloud-config\nssh_keepalive:\n  unresponsive_timeout: 20s\n") as machine:
        folder = machine.root / "etc/systemd/system/ssh.service.d"
        folder.mkdir(parents=True)
        (folder / "x.conf").write_text(f"[Service]\nExecStart=\nExecStart={OLD} -D $SSHD_OPTS\n")
        (machine.root / OLD[1:]).parent.mkdir()
        shutil.copy(base("bookworm") / "usr/sbin/sshd", machine.root / OLD[1:])
        bake(machine)
        machine.boot()
        machine.wait()
        assert has_read(machine, "ClientAliveInterval 2\n")
        found = status(machine)
        assert (found.code, found.found["openssh"]) == (0, "9.2"), found.problems


@pytest.mark.slow
@pytest.mark.parametrize("link", ["wants", "requires"])
def test_what_another_program_would_not_start_with_is_taken_back(link: str) -> None:
    """An OpenSSH 8.4 that alone is enabled starts at the first boot, though the policy is not for it."""
    with Machine("trixie", "#cloud-config\nssh_keepalive: {unresponsive_timeout: 3m, idle_timeout: 15m}\n") as machine:
        library = "usr/lib/x86_64-linux-gnu/libcrypto.so.1.1"
        (machine.root / OLD[1:]).parent.mkdir()
        shutil.copy(base("bullseye") / "usr/sbin/sshd", machine.root / OLD[1:])
        shutil.copy(base("bullseye") / library, machine.root / library)
        units = machine.root / "etc/systemd/system"
        for file in (*units.glob("multi-user.target.wants/ssh*.service"), *units.glob("ssh*.service")):
            file.unlink()
        (units / "corp-sshd.service").write_text(f"[Service]\nRuntimeDirectory=sshd\nExecStart={OLD} -D\n")
        (units / f"multi-user.target.{link}").mkdir(exist_ok=True)
        (units / f"multi-user.target.{link}/corp-sshd.service").symlink_to("/etc/systemd/system/corp-sshd.service")
        bake(machine)
        machine.boot()
        machine.wait(sshd=False)
        serving.until_it_listens(machine)
        assert can_log_in(machine)
        machine.sh(f"test ! -e {DROP_IN}")
        found = status(machine)
        assert found.code == 1
        assert "corp-sshd.service would not start with it: ssh_keepalive.idle_timeout: 900: OpenSSH 8.4 has no" in str(
            found.problems
        )
        said = apply(machine, "{unresponsive_timeout: 3m, idle_timeout: 15m}")
        assert said.code == 1
        machine.sh(f"test ! -e {DROP_IN}; systemctl restart corp-sshd")
        serving.until_it_listens(machine)
        assert can_log_in(machine)


@pytest.mark.slow
def test_main_is_not_taken_for_the_packaged_one(newest: Machine) -> None:
    """A unit whose sshd reads another main file is told which line that lacks."""
    serving.as_it_was(newest)
    newest.sh(f"grep -v ^Include {MAIN} >/etc/ssh/other; " + OVERRIDE.format("/usr/sbin/sshd -D -f /etc/ssh/other"))
    newest.sh("systemctl daemon-reload; systemctl restart ssh")
    assert not has_read(newest, OURS)
    found = status(newest)
    assert found.code == 1
    assert "/etc/ssh/other" in found.problems
    assert f"Include {DROP_IN}" in found.problems
    said = unattended(newest, SECTION)
    assert (said.code, "/etc/ssh/other" in said.text) == (1, True)
    newest.sh(f"sed -i '1i{INCLUDE}' /etc/ssh/other; systemctl restart ssh")
    found = status(newest)
    assert found.code == 0, found.problems
    assert unattended(newest, OTHER).code == 0
    assert has_read(newest, "ClientAliveInterval 62")
