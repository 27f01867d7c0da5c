"""What a first boot with the module leaves behind."""

from __future__ import annotations

import json
import re
from typing import Callable, Iterator

import pytest
from baking import DROP_IN, bake, effective
from machine import Machine

USER_DATA = "#cloud-config\nssh_keepalive:\n  unresponsive_timeout: 20s\n"
PAIR = {"9.2": ("2", "4")}  # interval and count for 20 s; elsewhere 5 and 3


@pytest.fixture(scope="module")
def booted(suite: str) -> Iterator[Machine]:
    with Machine(suite, USER_DATA) as machine:
        bake(machine)
        machine.boot()
        machine.wait()
        yield machine


def test_the_policy_is_in_effect(booted: Machine) -> None:
    interval, count = PAIR.get(booted.release.openssh, ("5", "3"))
    assert booted.run("cat", DROP_IN).stdout == (
        "# Managed by cloud-init's cc_ssh_keepalive; change ssh_keepalive in user-data instead.\n"
        '# policy: {"unresponsive_timeout": 20}\n'
        f"ClientAliveInterval {interval}\n"
        f"ClientAliveCountMax {count}\n"
    )
    assert booted.run("stat", "-c", "%a %u:%g %F", DROP_IN).stdout == "600 0:0 regular file\n"
    assert booted.run("ls", "-A", "/etc/ssh/sshd_config.d").stdout == "00-ssh-keepalive.conf\n"
    values = effective(booted)
    assert (values["clientaliveinterval"], values["clientalivecountmax"]) == (interval, count)


def test_sshd_listens_once_and_with_the_policy(booted: Machine) -> None:
    log = booted.run("journalctl", "-b", "-o", "short-unix", "--no-pager").stdout
    listening = re.findall(r"^([0-9.]+) .*Server listening on 0.0.0.0 port 22", log, re.MULTILINE)
    assert len(listening) == 1
    landed = float(booted.run("stat", "-c", "%.9Z", DROP_IN).stdout)
    assert landed < float(listening[0])


def test_the_rest_of_the_boot_is_whole(booted: Machine) -> None:
    assert booted.run("id", "-un", "debian").stdout == "debian\n"
    keys = booted.sh("ls /etc/ssh/ssh_host_*_key").stdout
    assert "ssh_host_ed25519_key" in keys
    base = booted.release
    analyzed = booted.run("cloud-init", "analyze", "blame").stdout
    assert "config-ssh_keepalive" in analyzed, base
    assert "config-ssh)" in analyzed


def test_cloud_init_complains_about_nothing(booted: Machine) -> None:
    log = booted.run("cat", "/var/log/cloud-init.log").stdout
    assert [line for line in log.splitlines() if re.search("WARN|ERROR|DEPRECATED|Traceback|Invalid", line)] == []
    assert booted.run("cloud-init", "status").stdout == "status: done\n"


def test_one_line_of_the_log_says_what_is_in_effect(booted: Machine) -> None:
    log = booted.run("cat", "/var/log/cloud-init.log").stdout
    interval, count = PAIR.get(booted.release.openssh, ("5", "3"))
    openssh = booted.release.openssh
    said = re.findall(r"\[INFO\]: (ssh_keepalive: .*)", log)
    assert len(said) == 1
    assert said[0].startswith(
        "ssh_keepalive: a client that stopped answering is disconnected 20 s after its last sign of life "
        f"(ClientAliveInterval {interval}, ClientAliveCountMax {count} on OpenSSH "
    )
    assert said[0].endswith(f"); {DROP_IN} changed, sshd reads it when it starts")
    assert booted.release.rolling or f"OpenSSH {openssh})" in said[0]


BAD = """#cloud-config
ssh_keepalive:
  unresponsive_timeout: 10s
  idel_timeout: 15m
"""
PROBLEMS = (
    "ssh_keepalive.idel_timeout: unknown key, did you mean idle_timeout?; "
    "ssh_keepalive.unresponsive_timeout: '10s': expected a time from 15s to 1d, for example 3m"
)


def test_bad_input_changes_nothing_and_shows_in_the_status(
    oldest_or_newest: str, machines: Callable[..., Machine]
) -> None:
    machine = machines(oldest_or_newest, BAD)
    bake(machine)
    machine.boot()
    machine.wait()
    assert machine.run("ls", "-A", "/etc/ssh/sshd_config.d").stdout == ""
    assert effective(machine)["clientaliveinterval"] == "0"
    assert machine.run("ssh", "localhost", "whoami").stdout == "root\n"
    result = json.loads(machine.run("cat", "/run/cloud-init/result.json").stdout)
    assert any(PROBLEMS in error for error in result["v1"]["errors"]), result
    status = machine.run("cloud-init", "status", "--long", check=False)
    assert status.returncode == 1
    assert PROBLEMS in " ".join(status.stdout.split())
    if oldest_or_newest != "bullseye":  # whose cloud-init has no schema that could know the key
        checked = machine.run("cloud-init", "schema", "--system", check=False)
        assert checked.returncode == 1
        assert "ssh_keepalive: Additional properties are not allowed ('idel_timeout' was unexpected)" in checked.stderr
    assert machine.run("id", "-un", "debian").stdout == "debian\n"


@pytest.mark.parametrize(
    ("section", "in_effect"),
    [
        ("{}", {"9.2": ("3", "49", "no"), "": ("5", "59", "no")}),
        ("{unresponsive_timeout: 20s}", {"9.2": ("2", "4", "no"), "": ("5", "3", "no")}),
        ("{tcp_keep_alive: true}", {"9.2": ("3", "49", "yes"), "": ("5", "59", "yes")}),
        ("{unresponsive_timeout: null, client_alive_interval: 30}", {"": ("30", "3", "no")}),
        ("false", {"": ("0", "3", "yes")}),
        ("null", {"": ("0", "3", "yes")}),
    ],
    ids=["empty", "one-key", "other-key", "lifted-key", "false", "null"],
)
def test_user_data_over_an_images_default(
    newest_of_all: str, machines: Callable[..., Machine], section: str, in_effect: dict[str, tuple[str, str, str]]
) -> None:
    machine = machines(newest_of_all, f"#cloud-config\nssh_keepalive: {section}\n")
    bake(machine, "{unresponsive_timeout: 5m, tcp_keep_alive: false}")
    machine.boot()
    machine.wait()
    values = effective(machine)
    wanted = in_effect.get(machine.release.openssh, in_effect[""])
    tcp_keep_alive = {"true": "yes", "false": "no"}.get(values["tcpkeepalive"], values["tcpkeepalive"])  # 10.6
    assert (values["clientaliveinterval"], values["clientalivecountmax"], tcp_keep_alive) == wanted
