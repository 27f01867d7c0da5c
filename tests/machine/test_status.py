"""What ssh-keepalive status says of real machines, and what ssh-keepalive apply does to them."""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any, Callable, Iterator

import jsonschema
import pytest
from baking import DROP_IN, bake, effective
from clients import Client
from machine import Machine

SCHEMA = json.loads((Path(__file__).resolve().parents[2] / "schema/status.schema.json").read_text())
PROMISE = "a client that stopped answering is disconnected 20 s after its last sign of life"
ASKED = ['policy: {"unresponsive_timeout": 20}', "asked by: user-data"]
RUN_AGAIN = "cloud-init single --name ssh_keepalive --frequency always"
REGISTERED = "registered: cloud-init runs the module"
SERVER = "ssh.service (process PID, port 22)"
READ = f"sshd: {SERVER} has read the configuration "
CONFIGURATION = "/etc/ssh/sshd_config /etc/ssh/sshd_config.d /etc/profile.d /etc/cloud /run/sshd /run/sshd.pid"


@pytest.fixture(scope="module")
def booted(oldest_or_newest: str) -> Iterator[Machine]:
    """One machine of each release, which keeps what its user-data asks for."""
    with Machine(oldest_or_newest, "#cloud-config\nssh_keepalive:\n  unresponsive_timeout: 20s\n") as machine:
        bake(machine)
        machine.boot()
        machine.wait()
        machine.run("cp", "-p", "/etc/ssh/sshd_config", "/main")
        yield machine


@pytest.fixture
def kept(booted: Machine) -> Iterator[Machine]:
    """The machine as it was after its boot, and again after the test."""
    yield booted
    booted.sh("rm -f /etc/ssh/sshd_config.d/00-a.conf; cp -p /main /etc/ssh/sshd_config")
    booted.sh("systemctl reset-failed ssh; systemctl restart ssh")
    apply(booted, "{unresponsive_timeout: 20s}")


def apply(machine: Machine, section: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    text = f"#cloud-config\nssh_keepalive: {section}\n"
    return machine.run("ssh-keepalive", "apply", "-", input=text, check=check)


def pair(machine: Machine) -> tuple[str, str]:
    """Return interval and count for 20 s."""
    return ("2", "4") if machine.release.openssh == "9.2" else ("5", "3")


def expected(machine: Machine) -> list[str]:
    version = re.search(r"OpenSSH_(\d+\.\d+)", machine.sh("sshd -V 2>&1 || true").stdout).group(1)
    return [f"openssh: {version}", "expected: ClientAliveInterval {}, ClientAliveCountMax {}".format(*pair(machine))]


def status(machine: Machine, code: int) -> list[str]:
    """Return the lines that status prints, without what is another at each run, if exit code and JSON go with them."""
    answer = machine.run("ssh-keepalive", "status", check=False)
    assert (answer.returncode, answer.stderr) == (code, ""), answer
    found = status_json(machine, code)
    assert answer.stdout.split(":")[0].splitlines()[0] == found["verdict"].replace("-", " ")
    # What sshd itself says is as long as that is.
    assert [line for line in answer.stdout.splitlines() if len(line) > 200 and " / " not in line] == []
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME", answer.stdout)
    return re.sub(r"process \d+", "process PID", text).splitlines()


def status_json(machine: Machine, code: int) -> dict[str, Any]:
    answer = machine.run("ssh-keepalive", "status", "--json", check=False)
    assert (answer.returncode, answer.stderr) == (code, "")
    found: dict[str, Any] = json.loads(answer.stdout)
    jsonschema.Draft4Validator(SCHEMA).validate(found)
    assert bool(found["problems"]) == (code > 0)
    return found


def test_kept(kept: Machine) -> None:
    assert status(kept, 0) == [f"enforced: {PROMISE}", *ASKED, *expected(kept), READ + "as it is now", REGISTERED]
    found = status_json(kept, 0)
    (server,) = found["servers"]
    assert server["pid"] == int(kept.run("systemctl", "show", "--property=MainPID", "ssh").stdout.split("=")[1])
    assert (server["unit"], server["program"]) == ("ssh.service", "/usr/sbin/sshd")
    assert server["addresses"] == ["0.0.0.0:22", "[::]:22"]
    assert server["has_read"] is True
    assert found["request"] == {
        "section": {"unresponsive_timeout": "20s"},
        "sources": ["user-data"],
        "is_policy": True,
        "runs_module": True,
    }


def test_shadowed_by_another_file(kept: Machine) -> None:
    kept.sh("echo 'ClientAliveInterval 7' >/etc/ssh/sshd_config.d/00-a.conf; systemctl restart ssh")
    interval = pair(kept)[0]
    place = "/etc/ssh/sshd_config.d/00-a.conf:1"
    assert status(kept, 1) == [
        f"not enforced: ClientAliveInterval is 7 where {interval} is expected, {place} overrides it",
        "remedy: remove that line and restart sshd",
        *ASKED,
        *expected(kept),
        READ + "as it is now",
        REGISTERED,
    ]
    assert status_json(kept, 1)["deviations"] == [
        {"keyword": "ClientAliveInterval", "expected": interval, "reported": "7", "connections": "", "set_by": place}
    ]


def test_what_a_file_that_is_gone_has_set_stays_with_sshd(kept: Machine) -> None:
    kept.sh("echo 'ClientAliveInterval 7' >/etc/ssh/sshd_config.d/00-a.conf; systemctl restart ssh")
    kept.sh("rm /etc/ssh/sshd_config.d/00-a.conf; touch -d '+1 minute' /etc/ssh/sshd_config.d")
    assert status(kept, 2)[:2] == [
        f"unknown: whether {SERVER} has read /etc/ssh/sshd_config.d, {DROP_IN} as it is now is not known",
        "remedy: systemctl restart ssh.service, open sessions survive",
    ]
    kept.sh("touch /etc/ssh/sshd_config.d; systemctl restart ssh")
    assert status(kept, 0)[0] == f"enforced: {PROMISE}"


def test_a_match_of_somebody_elses(kept: Machine) -> None:
    text = (
        "\nMatch User alice,bob Address 10.0.0.0/8\n  ClientAliveInterval 9\n"
        "Match LocalPort 22\n  ClientAliveCountMax 1\n"
        "Match User carol\n  X11Forwarding no\n"
    )
    lines = len(kept.run("cat", "/main").stdout.splitlines())
    kept.run("tee", "-a", "/etc/ssh/sshd_config", input=text)
    kept.run("systemctl", "restart", "ssh")
    interval, count = pair(kept)
    remedy = "remedy: remove that line and restart sshd"
    assert status(kept, 1) == [
        f"not enforced: ClientAliveCountMax is 1 where {count} is expected, "
        f"/etc/ssh/sshd_config:{lines + 5} overrides it",
        remedy,
        f"problem: ClientAliveInterval is 9 where {interval} is expected for Match User alice,bob Address 10.0.0.0/8, "
        f"/etc/ssh/sshd_config:{lines + 3} overrides it",
        f"{remedy}, or name whom it is for in ssh_keepalive.match",
        *ASKED,
        *expected(kept),
        READ + "as it is now",
        REGISTERED,
    ]


def test_a_match_of_which_nobody_is_known(kept: Machine) -> None:
    text = "\nMatch Group no-such-group\n  ClientAliveInterval 8\nMatch Group no-such\n  X11Forwarding no\n"
    kept.run("tee", "-a", "/etc/ssh/sshd_config", input=text)
    kept.run("systemctl", "restart", "ssh")
    assert status(kept, 2) == [
        "unknown: what Match Group no-such-group changes is not known, since not everybody whom it may fit is known",
        "remedy: look at what that Match sets",
        *ASKED,
        *expected(kept),
        READ + "as it is now",
        REGISTERED,
    ]


def test_a_match_of_the_policys_own(kept: Machine) -> None:
    apply(kept, "{client_alive_interval: 30, match: [{user: [root, backup], client_alive_interval: 50}]}")
    values = "ClientAliveInterval {}, ClientAliveCountMax 3"
    found = status(kept, 0)
    assert "expected: " + values.format(30) in found
    assert "expected for User root,backup: " + values.format(50) in found


def test_changed_by_hand(kept: Machine) -> None:
    kept.sh(f"sed -i 's/Interval .*/Interval 99/' {DROP_IN}")
    interval = pair(kept)[0]
    flaw = f"ClientAliveInterval is 99 where {interval} is expected: {DROP_IN} was changed by hand"
    assert status(kept, 1) == [
        f"not enforced: {flaw}",
        "remedy: ssh-keepalive reapply",
        *ASKED,
        *expected(kept),
        READ + f"before {DROP_IN} changed",
        REGISTERED,
        f"note: {SERVER} has not read {DROP_IN} since it changed, its next start reads it",
    ]
    kept.run("ssh-keepalive", "reapply")
    assert status(kept, 0)[0] == f"enforced: {PROMISE}"
    kept.sh(f"sed -i '/Interval/d' {DROP_IN}")
    assert status(kept, 1)[:2] == [f"not enforced: {flaw.replace('99', '0')}", "remedy: ssh-keepalive reapply"]
    kept.sh(f"sed -i '/policy/d' {DROP_IN}")
    assert status(kept, 1)[:2] == [
        f"not enforced: {DROP_IN} has no policy line that can be read",
        f"remedy: {RUN_AGAIN}",
    ]
    kept.sh(RUN_AGAIN)
    assert status(kept, 0)[0] == f"enforced: {PROMISE}"


def test_a_comment_by_hand_breaks_no_promise(kept: Machine) -> None:
    kept.sh(f"echo '# mine' >>{DROP_IN}; systemctl restart ssh")
    found = status(kept, 0)
    assert (found[0], found[-1]) == (
        f"enforced: {PROMISE}",
        f"note: {DROP_IN} was changed by hand, but sshd has the expected values",
    )


def test_written_for_another_openssh(kept: Machine) -> None:
    interval, count = pair(kept)
    other = {"2": ("5", "3"), "5": ("2", "4")}[interval]
    change = f"s/Interval {interval}/Interval {other[0]}/; s/CountMax {count}/CountMax {other[1]}/"
    kept.sh(f"sed -i '{change}' {DROP_IN}; systemctl restart ssh")
    flaw = f"{DROP_IN} is written for another OpenSSH"
    assert status(kept, 1)[:4] == [
        f"not enforced: ClientAliveInterval is {other[0]} where {interval} is expected: {flaw}",
        "remedy: ssh-keepalive reapply",
        f"problem: ClientAliveCountMax is {other[1]} where {count} is expected: {flaw}",
        "remedy: ssh-keepalive reapply",
    ]


def test_not_yet_restarted(kept: Machine) -> None:
    kept.sh("sleep 0.1; echo '# more' >>/etc/ssh/sshd_config")
    with Client(kept) as client:
        assert status(kept, 0) == [
            f"enforced: {PROMISE}",
            *ASKED,
            *expected(kept),
            READ + "before /etc/ssh/sshd_config changed",
            f"older settings: root, process PID from {client.address}, since TIME",
            REGISTERED,
            f"note: {SERVER} has not read /etc/ssh/sshd_config since it changed, its next start reads it",
        ]
        # A reload is as good, and its session was begun by the sshd that had not read it.
        kept.sh("systemctl reload ssh; sleep 0.5")
        assert f"older settings: root, process PID from {client.address}, since TIME" in status(kept, 0)
        assert client.answers()
    with Client(kept):
        assert status_json(kept, 0)["older_sessions"] == []


def test_open_sessions_keep_what_they_had(kept: Machine) -> None:
    user = "mkdir -p ~debian/.ssh; cp ~root/.ssh/authorized_keys ~debian/.ssh; chown -R debian ~debian/.ssh"
    kept.sh(user)
    forward = kept.popen("ssh", "-N", "debian@127.0.0.1")
    with Client(kept) as client:
        until(lambda: len(kept.sh("pgrep -u debian sshd || true").stdout.split()) == 1)
        assert status_json(kept, 0)["older_sessions"] == []
        before = time.time()
        apply(kept, "{unresponsive_timeout: 30s}")
        older = status_json(kept, 0)["older_sessions"]
        assert sorted((one["user"], one["address"]) for one in older) == [
            ("debian", "127.0.0.1"),
            ("root", client.address),
        ]
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(before))
        assert all(one["since"] <= now for one in older)
        for one in older:
            kept.run("kill", str(one["pid"]))
        forward.wait(10)
        until(lambda: not client.answers())
        assert status_json(kept, 0)["older_sessions"] == []
    forward.communicate()


def until(condition: Callable[[], bool], timeout: float = 20) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_one_who_is_not_root_is_told_nothing(kept: Machine) -> None:
    answer = kept.run("su", "debian", "-s", "/bin/sh", "-c", "ssh-keepalive status", check=False)
    assert (answer.returncode, answer.stdout, answer.stderr) == (
        2,
        "unknown: not root\nremedy: run as root\n",
        "",
    )
    answer = kept.run("su", "debian", "-s", "/bin/sh", "-c", "ssh-keepalive status --json", check=False)
    found = json.loads(answer.stdout)
    jsonschema.Draft4Validator(SCHEMA).validate(found)
    assert answer.returncode == 2
    assert {key for key, value in found.items() if value} == {"verdict", "problems"}


def test_asking_changes_nothing(kept: Machine) -> None:
    show = (
        f"find {CONFIGURATION} -printf '%p %i %M %T@ %C@\\n' 2>/dev/null | sort; systemctl show --property=MainPID ssh"
    )
    kept.run("ssh-keepalive", "status")
    before = kept.sh(show).stdout
    kept.run("ssh-keepalive", "status")
    assert kept.sh(show).stdout == before
    kept.run("systemctl", "stop", "ssh")
    before = kept.sh(show).stdout
    if kept.release.openssh in ("8.4", "9.2"):
        # These answer nothing without /run/sshd, which only a start makes.
        assert status(kept, 2)[:2] == [
            "unknown: sshd -T answers once sshd has started: Missing privilege separation directory: /run/sshd",
            "remedy: start sshd",
        ]
    else:
        assert "sshd: ssh.service does not run, it reads the configuration as it is when it starts" in status(kept, 0)
    assert kept.sh(show).stdout == before


def test_a_configuration_that_sshd_refuses(kept: Machine) -> None:
    kept.sh("echo 'NoSuchKeyword yes' >/etc/ssh/sshd_config.d/00-a.conf")
    found = status(kept, 1)
    assert found[0].startswith(
        "not enforced: sshd refuses its configuration: /etc/ssh/sshd_config.d/00-a.conf: line 1: "
    )
    assert found[1] == "remedy: correct that until /usr/sbin/sshd -t is silent"


def test_what_has_not_been_registered(kept: Machine) -> None:
    file = "/etc/cloud/cloud.cfg.d/99_zz_ssh_keepalive.cfg"
    kept.run("rm", file)
    found = status(kept, 1)
    assert found[:2] == [f"not registered: {file} is not as it was registered", "remedy: ssh-keepalive register"]
    assert found[2].startswith("enforced: a client that stopped answering is disconnected 20 s after")
    assert found[3:-1] == [*ASKED, *expected(kept)]
    kept.run("ssh-keepalive", "register")
    assert status(kept, 0)[-1] == REGISTERED


def test_tmout(kept: Machine) -> None:
    file = "/etc/profile.d/zz-ssh-keepalive.sh"
    apply(kept, "{idle_timeout: 15m, idle_fallback: tmout}")
    assert status(kept, 0)[0].startswith("enforced: ")
    # A file where none is wanted ends shells, too.
    kept.sh(f"if [ -e {file} ]; then rm {file}; else echo TMOUT=60 >{file}; fi")
    assert status(kept, 1)[:2] == [f"not enforced: {file} is not as it was written", "remedy: ssh-keepalive reapply"]
    kept.run("ssh-keepalive", "reapply")
    assert status(kept, 0)[0].startswith("enforced: ")


def test_apply_does_as_a_first_boot(kept: Machine) -> None:
    kept.run("tee", "/policy.yaml", input="#cloud-config\nssh_keepalive:\n  client_alive_interval: 45\n")
    answer = kept.run("ssh-keepalive", "apply", "/policy.yaml")
    version, promise, done = answer.stdout.splitlines()
    assert version.startswith(f"enforced on OpenSSH {'' if kept.release.rolling else kept.release.openssh}")
    assert promise.startswith("  a client that stopped answering is disconnected ")
    assert done == f"{DROP_IN} changed, sshd restarted"
    assert effective(kept)["clientaliveinterval"] == "45"
    again = kept.run("ssh-keepalive", "apply", "/policy.yaml")
    assert again.stdout.endswith(f"\n{DROP_IN} unchanged\n")
    found = status(kept, 0)
    assert found[2:4] == [
        "asked by: ssh-keepalive apply, or earlier user-data",
        'cloud-init\'s configuration: {"unresponsive_timeout": "20s"} by user-data',
    ]
    refused = apply(kept, "{unresponsive_timeout: 1s}", check=False)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert effective(kept)["clientaliveinterval"] == "45"


def test_nothing_asked(booted: Machine) -> None:
    apply(booted, "false")
    assert status(booted, 1)[:2] == [
        f"not enforced: user-data asks for a policy, and there is no {DROP_IN}",
        f"remedy: {RUN_AGAIN}",
    ]
    booted.reseed("#cloud-config\n{}\n")
    booted.reboot()
    booted.wait()
    assert status(booted, 0) == ["not configured", REGISTERED]
    apply(booted, "true")
    assert "asked by: ssh-keepalive apply, or earlier user-data" in status(booted, 0)
