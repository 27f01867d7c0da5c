"""What the module does on a machine that runs, with people on it."""

from __future__ import annotations

import re
from typing import Iterator

import pytest
from baking import DROP_IN, apply, bake, effective, set_default
from clients import Client
from machine import Machine


@pytest.fixture(scope="module")
def booted(oldest_or_newest: str) -> Iterator[Machine]:
    """One machine of each release, whose user-data has no section, for tests that bring their own policy."""
    with Machine(oldest_or_newest) as machine:
        bake(machine)
        machine.boot()
        machine.wait()
        yield machine


@pytest.fixture(autouse=True)
def sshd_runs_at_the_end(booted: Machine) -> Iterator[None]:
    # Tests restart it more often than systemd's start limit allows people to.
    booted.run("systemctl", "reset-failed", "ssh")
    yield
    assert booted.run("ssh", "localhost", "whoami").stdout == "root\n"
    left = booted.run("ls", "-A", "/etc/ssh/sshd_config.d").stdout.split()
    assert set(left) <= {"00-ssh-keepalive.conf"}


def starts(machine: Machine) -> int:
    """Count how often sshd has begun to listen."""
    machine.run("journalctl", "--sync")
    log = machine.run("journalctl", "-b", "--no-pager").stdout
    return len(re.findall(r"Server listening on 0.0.0.0 port 22", log))


def interval(machine: Machine) -> str:
    return effective(machine)["clientaliveinterval"]


def restart(machine: Machine) -> None:
    """Do as somebody who has changed sshd's configuration."""
    machine.sh("systemctl reset-failed ssh; systemctl restart ssh")


def refusal(machine: Machine, section: str) -> str:
    """Apply a section that cannot be kept; return what cloud-init says, after making sure that nothing changed."""
    show = f"stat -c '%a %i %Y' {DROP_IN} || true; cat {DROP_IN} || true; mkdir -p /run/sshd; sshd -T | sort"
    before = machine.sh(f"({show}) 2>&1").stdout
    answer = apply(machine, section, check=False)
    assert answer.returncode == 1
    assert machine.sh(f"({show}) 2>&1").stdout == before
    return last_reason(machine)


def last_reason(machine: Machine) -> str:
    """Return what cloud-init's log has last as the module's exception."""
    log = machine.run("cat", "/var/log/cloud-init.log").stdout
    return re.findall(r"^ssh_keepalive\.machine\.problem\.SshdError: (.*)$", log, re.MULTILINE)[-1]


def test_an_absent_section_touches_nothing(booted: Machine) -> None:
    booted.sh(f"! test -e {DROP_IN}")
    assert booted.run("cloud-init", "status", "--long", check=False).returncode == 0
    assert starts(booted) == 1


def test_a_changed_policy_restarts_sshd_once_and_sessions_survive(booted: Machine) -> None:
    apply(booted, "{client_alive_interval: 30}")
    with Client(booted) as client:
        before = starts(booted)
        apply(booted, "{client_alive_interval: 31}")
        assert starts(booted) == before + 1
        assert interval(booted) == "31"
        assert client.answers()
        apply(booted, "{client_alive_interval: 31}")
        assert starts(booted) == before + 1
        assert client.answers()


def test_an_sshd_that_does_not_run_is_left_to_start_by_itself(booted: Machine) -> None:
    booted.run("systemctl", "stop", "ssh")
    booted.sh("! test -e /run/sshd")
    apply(booted, "{client_alive_interval: 32}")
    assert booted.run("systemctl", "is-active", "ssh", check=False).stdout == "inactive\n"
    booted.sh("test -d /run/sshd")
    booted.run("systemctl", "start", "ssh")
    assert interval(booted) == "32"


def test_missing_host_keys_are_stood_in_for(booted: Machine) -> None:
    booted.sh("mkdir /keys; mv /etc/ssh/ssh_host_* /keys; systemctl stop ssh")
    apply(booted, "{client_alive_interval: 33}")
    assert booted.sh("ls /etc/ssh/ssh_host_* 2>/dev/null | wc -l").stdout == "0\n"
    booted.sh("mv /keys/* /etc/ssh; rmdir /keys; systemctl start ssh")
    assert interval(booted) == "33"


def test_what_another_has_changed_is_not_put_into_effect(booted: Machine) -> None:
    other = "/etc/ssh/sshd_config.d/90-z.conf"
    apply(booted, "{client_alive_interval: 34}")
    before = starts(booted)
    booted.sh(f"echo 'MaxSessions 7' >{other}")
    for _ in "with nothing to write", "again":
        apply(booted, "{client_alive_interval: 34}")
        assert starts(booted) == before
    answer = apply(booted, "{client_alive_interval: 35}", check=False)
    assert (answer.returncode, starts(booted)) == (1, before)
    (pid,) = booted.run("systemctl", "show", "-p", "MainPID", "ssh").stdout.split("=")[1:]
    assert last_reason(booted) == (
        f"{DROP_IN} is written, but ssh.service (process {pid.strip()}, port 22) was not restarted: "
        f"{other} may have changed since it read that: systemctl restart ssh.service puts all of that into effect"
    )
    assert "ClientAliveInterval 35\n" in booted.run("cat", DROP_IN).stdout
    restart(booted)
    apply(booted, "{client_alive_interval: 35}")
    assert starts(booted) == before + 1
    booted.run("rm", other)
    restart(booted)


def test_a_file_that_wins_is_named(booted: Machine) -> None:
    apply(booted, "{client_alive_interval: 34}")
    booted.sh("echo 'ClientAliveInterval 7' >/etc/ssh/sshd_config.d/00-a.conf")
    try:
        assert refusal(booted, "{client_alive_interval: 35}") == (
            "ClientAliveInterval is 7 where 35 is expected, "
            "/etc/ssh/sshd_config.d/00-a.conf:1 overrides it: remove that line and restart sshd"
        )
    finally:
        booted.sh("rm /etc/ssh/sshd_config.d/00-a.conf")


@pytest.fixture
def main_file(booted: Machine) -> Iterator[str]:
    """The text of sshd's main file, which comes back after the test."""
    booted.sh("cp -p /etc/ssh/sshd_config /main")
    yield booted.run("cat", "/etc/ssh/sshd_config").stdout
    booted.sh("cp -p /main /etc/ssh/sshd_config; rm /main")
    restart(booted)


SOMEBODY = "user=nobody,host=localhost,addr=127.0.0.1,laddr=127.0.0.1,lport=22"

FOREIGN = """
Match User root
  ClientAliveInterval 41
Match Address 10.0.0.0/8,127.0.0.0/8,::1
  ClientAliveInterval 42
Match LocalAddress 10.0.0.1,127.0.0.1
  ClientAliveInterval 43
Match Group root
  ClientAliveInterval 5
Match Host localhost
  ClientAliveInterval 46
Match RDomain blue
  ClientAliveInterval 47
"""


def test_a_match_for_somebody_is_nobodys_fault(booted: Machine, main_file: str) -> None:
    booted.run("tee", "-a", "/etc/ssh/sshd_config", input=FOREIGN)
    restart(booted)
    apply(booted, "{client_alive_interval: 36}")
    assert "ClientAliveInterval 36" in booted.run("cat", DROP_IN).stdout
    log = booted.run("cat", "/var/log/cloud-init.log").stdout
    line = len(main_file.splitlines()) + 3
    said = re.findall(r"\[INFO\]: ssh_keepalive: .*?; (.*); \S+ changed, sshd restarted$", log, re.MULTILINE)[-1]
    assert said == (
        "ClientAliveInterval is 41 where 36 is expected for user root from 192.0.2.1, "
        f"/etc/ssh/sshd_config:{line} overrides it"
    )


@pytest.mark.parametrize("criteria", ["User *,!root", "LocalPort 22", "Group *"])
def test_a_match_for_everybody_is_named(booted: Machine, main_file: str, criteria: str) -> None:
    apply(booted, "{client_alive_interval: 37}")
    booted.run("tee", "-a", "/etc/ssh/sshd_config", input=f"\nMatch {criteria}\nClientAliveCountMax 9\n")
    restart(booted)
    place = f"/etc/ssh/sshd_config:{len(main_file.splitlines()) + 3}"
    # Nobody in particular is in no group.
    whom, names = (" for user root from 192.0.2.1", ", or name whom it is for in ssh_keepalive.match")
    is_group = criteria == "Group *"
    assert refusal(booted, "{client_alive_interval: 38}") == (
        f"ClientAliveCountMax is 9 where 3 is expected{whom if is_group else ''}, {place} overrides it: "
        f"remove that line and restart sshd{names if is_group else ''}"
    )


def test_a_keyword_by_its_other_name_is_named(booted: Machine, main_file: str) -> None:
    booted.run("tee", "/etc/ssh/sshd_config", input="KeepAlive no\n" + main_file)
    restart(booted)
    # 10.6 has another word for no.
    assert refusal(booted, "{client_alive_interval: 38, tcp_keep_alive: true}").replace("false", "no") == (
        "TCPKeepAlive is no where yes is expected, /etc/ssh/sshd_config:1 overrides it: "
        "remove that line and restart sshd"
    )


INCLUDE = "Include /etc/ssh/sshd_config.d/*.conf"


@pytest.mark.parametrize("ending", ["", "\nMatch User somebody\n" + INCLUDE], ids=["no-include", "include-after-match"])
def test_a_main_file_that_does_not_read_the_folder_gets_a_block(booted: Machine, main_file: str, ending: str) -> None:
    text = main_file.replace(INCLUDE, "") + ending
    booted.run("tee", "/etc/ssh/sshd_config", input=text)
    restart(booted)
    attributes = booted.run("stat", "-c", "%a %u %g", "/etc/ssh/sshd_config").stdout
    before = starts(booted)
    section = "{client_alive_interval: 39, match: [{group: root, client_alive_interval: 38}]}"
    apply(booted, section)
    block = f"# BEGIN ssh-keepalive\nInclude {DROP_IN}\n# END ssh-keepalive\n"
    assert booted.run("cat", "/etc/ssh/sshd_config").stdout == block + text
    assert interval(booted) == "38"
    assert booted.run("sshd", "-T", "-C", SOMEBODY).stdout.lower().count("clientaliveinterval 39\n") == 1
    assert booted.run("stat", "-c", "%a %u %g", "/etc/ssh/sshd_config").stdout == attributes
    assert booted.run("ssh", "localhost", "whoami").stdout == "root\n"
    apply(booted, section)
    assert starts(booted) == before + 1
    apply(booted, "false")
    assert booted.run("cat", "/etc/ssh/sshd_config").stdout == text
    assert interval(booted) == "0"


def test_somebody_elses_mistake_is_named(booted: Machine) -> None:
    apply(booted, "{client_alive_interval: 39}")
    booted.sh("echo 'NoSuchKeyword yes' >/etc/ssh/sshd_config.d/50-b.conf")
    try:
        said = refusal(booted, "{client_alive_interval: 40}")
    finally:
        booted.sh("rm /etc/ssh/sshd_config.d/50-b.conf")
    assert said.startswith("sshd refuses its configuration: ")
    assert "/etc/ssh/sshd_config.d/50-b.conf" in said
    assert "NoSuchKeyword" in said


# sshd itself starts with every policy that the proof lets through, so something beside it has to refuse.
REFUSES_TO_START = "[Service]\nExecStartPre=/bin/sh -c '! grep -qx \"ClientAliveInterval 51\" {}'\n".format(DROP_IN)


@pytest.fixture
def unstartable(booted: Machine) -> Iterator[None]:
    """An sshd.service that does not start with an interval of 51 s."""
    folder = "/etc/systemd/system/ssh.service.d"
    script = f"mkdir -p {folder}; cat >{folder}/refuse.conf; systemctl daemon-reload; systemctl restart ssh"
    booted.sh(script, input=REFUSES_TO_START)
    yield
    booted.sh(f"rm -r {folder}; systemctl daemon-reload")


def test_an_sshd_that_does_not_come_back_gets_its_old_policy(booted: Machine, unstartable: None) -> None:
    apply(booted, "{client_alive_interval: 50}")
    with Client(booted) as client:
        said = refusal(booted, "{client_alive_interval: 51}")
        state = "(failed|activating): (exit-code|auto-restart|start|start-pre)"
        assert re.match(f"after its restart ssh.service is {state};", said)
        assert said.endswith("; the old configuration is restored, sshd is active")
        assert client.answers()
    assert booted.run("systemctl", "is-active", "ssh").stdout == "active\n"


def network_stage(machine: Machine) -> tuple[str, ...]:
    """Name the units that run the network stage when they are started by hand."""
    if float(machine.release.cloud_init) >= 24.3:
        return ("cloud-init-main", "cloud-init-local", "cloud-init-network")
    return ("cloud-init",)


def run_stage_by_hand(machine: Machine, section: str) -> None:
    """Restart the network stage, with the module not yet run for this instance."""
    set_default(machine, section)
    machine.sh("rm -f /var/lib/cloud/instance/sem/config_ssh_keepalive")
    machine.run("systemctl", "restart", *network_stage(machine), check=False, timeout=30)


def test_the_stage_run_by_hand_does_not_wait_for_itself(booted: Machine) -> None:
    apply(booted, "{client_alive_interval: 50}")
    before = starts(booted)
    with Client(booted) as client:
        run_stage_by_hand(booted, "{client_alive_interval: 48}")
        assert interval(booted) == "48"
        assert starts(booted) == before + 1
        assert client.answers()


def test_the_way_back_in_the_stage_run_by_hand_does_not_wait_either(booted: Machine, unstartable: None) -> None:
    apply(booted, "{client_alive_interval: 50}")
    run_stage_by_hand(booted, "{client_alive_interval: 51}")
    assert booted.run("systemctl", "is-active", "ssh").stdout == "active\n"
    assert interval(booted) == "50"
    assert "the old configuration is restored, sshd is active" in booted.run("cat", "/var/log/cloud-init.log").stdout


def test_false_takes_the_policy_off(booted: Machine) -> None:
    apply(booted, "{client_alive_interval: 49}")
    before = starts(booted)
    apply(booted, "false")
    booted.sh(f"! test -e {DROP_IN}")
    assert interval(booted) == "0"
    assert starts(booted) == before + 1
    apply(booted, "false")
    assert starts(booted) == before + 1


def test_uninstall_from_the_machine_itself_takes_the_policy_off(booted: Machine) -> None:
    apply(booted, "{client_alive_interval: 52}")
    before = starts(booted)
    booted.run("ssh-keepalive", "uninstall")
    assert starts(booted) == before + 1
    assert interval(booted) == "0"
    booted.sh("! command -v ssh-keepalive")
    booted.run("rm", "/etc/cloud/cloud.cfg.d/95_ssh_keepalive.cfg")
    bake(booted)
    # What it has read is not known any more.
    restart(booted)


def test_times_for_some(booted: Machine) -> None:
    entries = "{user: [backup, 'x*'], unresponsive_timeout: 1h}, {group: root, client_alive_interval: 53}"
    entries += ", {address: [10.0.0.0/8, '2001:db8::/32'], client_alive_interval: 54}, {group: adm, idle_timeout: 1h}"
    kept = entries.rpartition(", {")[0]
    apply(booted, "{{client_alive_interval: 55, match: [{}]}}".format(kept))
    assert interval(booted) == "53"
    asked = {
        "user=x,addr=127.0.0.1": "5",
        "user=y,addr=127.0.0.1": "55",
        "user=y,addr=2001:db8::7": "54",
        "user=x,addr=10.1.1.1": "5",
    }
    if booted.release.openssh == "9.2":
        asked["user=x,addr=127.0.0.1"] = asked["user=x,addr=10.1.1.1"] = "3"
    for who, wanted in asked.items():
        said = booted.run("sshd", "-T", "-C", who + ",host=h,laddr=127.0.0.1,lport=22").stdout.lower()
        assert f"clientaliveinterval {wanted}\n" in said
    answer = apply(booted, "{{client_alive_interval: 55, match: [{}]}}".format(entries), check=False)
    works = booted.release.openssh == "10.6"  # 10.5 and later
    assert answer.returncode == (0 if works else 1)
    assert interval(booted) == "53"


def test_an_idle_timeout_comes_and_goes(booted: Machine) -> None:
    apply(booted, "{idle_timeout: 15m, idle_fallback: tmout}")
    profile = booted.run("ls", "/etc/profile.d").stdout
    values = effective(booted)
    if booted.release.openssh == "8.4":
        assert "zz-ssh-keepalive.sh" in profile
        shell = "echo $TMOUT; exit\n"
        assert "\n900" in booted.run("ssh", "-tt", "localhost", input=shell).stdout
    else:
        assert values["channeltimeout"] == "session:*=900 global=900"
        assert values["unusedconnectiontimeout"] == "900"
        assert "zz-ssh-keepalive.sh" not in profile
    apply(booted, "{idle_timeout: none}")
    assert effective(booted).get("unusedconnectiontimeout", "none") == "none"
    assert "zz-ssh-keepalive.sh" not in booted.run("ls", "/etc/profile.d").stdout
