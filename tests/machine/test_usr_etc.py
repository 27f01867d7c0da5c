"""A machine whose sshd has its main file in /usr/etc, as on SUSE."""

from __future__ import annotations

import re
from typing import Iterator

import pytest
from baking import DROP_IN, apply, bake, effective
from clients import Client
from machine import Machine

MAIN = "/usr/etc/ssh/sshd_config"
# SUSE's sshd is patched to take that file where there is none in /etc; Debian's has to be told.
SSHD = f"""\
#!/bin/sh
[ -e /etc/ssh/sshd_config ] || set -- -f {MAIN} "$@"
exec /usr/lib/debian/sshd "$@"
"""


@pytest.fixture(scope="module")
def booted() -> Iterator[Machine]:
    with Machine("trixie") as machine:
        root = machine.root
        (root / "usr/etc/ssh").mkdir(parents=True)
        text = (root / "etc/ssh/sshd_config").read_text()
        assert "\nInclude /etc/ssh/sshd_config.d/*.conf\n" in text
        (root / MAIN[1:]).write_text(text)
        (root / "etc/ssh/sshd_config").unlink()
        (root / "etc/ssh/sshd_config.d").rmdir()
        (root / "usr/lib/debian").mkdir()
        (root / "usr/sbin/sshd").rename(root / "usr/lib/debian/sshd")
        (root / "usr/sbin/sshd").write_text(SSHD)
        (root / "usr/sbin/sshd").chmod(0o755)
        bake(machine, "{unresponsive_timeout: 3m}")
        machine.boot()
        machine.wait()
        yield machine


@pytest.fixture(autouse=True)
def no_main_file_appears_in_etc(booted: Machine) -> Iterator[None]:
    before = booted.run("cat", MAIN).stdout
    yield
    booted.sh("! test -e /etc/ssh/sshd_config")
    assert booted.run("cat", MAIN).stdout == before
    assert booted.run("ssh", "localhost", "whoami").stdout == "root\n"


def listener(machine: Machine) -> str:
    return machine.run("systemctl", "show", "-p", "MainPID", "ssh").stdout


def test_the_policy_is_in_effect_from_the_start(booted: Machine) -> None:
    assert f"/usr/lib/debian/sshd -f {MAIN} -D" in booted.run("ps", "ax", "-o", "args").stdout
    assert "ClientAliveInterval 5\n" in booted.run("cat", DROP_IN).stdout
    assert effective(booted)["clientaliveinterval"] == "5"
    log = booted.run("cat", "/var/log/cloud-init.log").stdout
    (said,) = re.findall(r"\[INFO\]: (ssh_keepalive: .*)", log)
    assert said.endswith(f"; {DROP_IN} changed, sshd reads it when it starts")


def test_a_changed_policy_reaches_it_and_sessions_survive(booted: Machine) -> None:
    with Client(booted) as client:
        before = listener(booted)
        apply(booted, "{client_alive_interval: 31}")
        assert listener(booted) != before
        assert effective(booted)["clientaliveinterval"] == "31"
        assert client.answers()


def test_the_line_that_wins_is_named(booted: Machine) -> None:
    text = booted.run("cat", MAIN).stdout
    booted.run("tee", "-a", MAIN, input="Match User *,!root\nClientAliveCountMax 9\n")
    before = booted.run("cat", DROP_IN).stdout, listener(booted)
    try:
        assert apply(booted, "{client_alive_interval: 38}", check=False).returncode == 1
    finally:
        booted.run("tee", MAIN, input=text)
    assert (
        "ssh_keepalive.machine.problem.SshdError: ClientAliveCountMax is 9 where 3 is expected, "
        f"{MAIN}:{len(text.splitlines()) + 2} overrides it: remove that line and restart sshd\n"
    ) in booted.run("cat", "/var/log/cloud-init.log").stdout
    assert (booted.run("cat", DROP_IN).stdout, listener(booted)) == before


def test_false_takes_the_policy_off(booted: Machine) -> None:
    apply(booted, "false")
    booted.sh(f"! test -e {DROP_IN}")
    assert effective(booted)["clientaliveinterval"] == "0"
