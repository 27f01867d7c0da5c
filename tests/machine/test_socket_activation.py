"""Machines on which systemd starts sshd for a connection, or knows its service by another name."""

from __future__ import annotations

import re
import subprocess
from typing import Iterator, NamedTuple

import pytest
from baking import DROP_IN, apply, bake, effective
from clients import Client
from machine import Machine


class Layout(NamedTuple):
    """A machine's release, the unit that listens, that which serves, and whether sshd.service is an alias of that."""

    suite: str
    listens: str
    serves: str
    alias: bool = False

    def __str__(self) -> str:
        return "-".join((self.suite, self.listens, "with-alias" if self.alias else "alone"))


@pytest.fixture(
    scope="module",
    params=[
        Layout("bullseye", "ssh.socket", "ssh@.service"),
        Layout("trixie", "ssh.socket", "ssh.service"),
        Layout("trixie", "ssh.socket", "ssh.service", alias=True),
        *(
            pytest.param(layout, marks=pytest.mark.slow)
            for layout in (
                Layout("bookworm", "ssh.socket", "ssh.service"),
                Layout("forky", "ssh.socket", "ssh.service"),
                Layout("bookworm", "ssh.socket", "ssh.service", alias=True),
                Layout("forky", "ssh.socket", "ssh.service", alias=True),
                Layout("trixie", "sshd.socket", "sshd.service"),
                Layout("trixie", "sshd.service", "sshd.service"),
            )
        ),
    ],
    ids=str,
)
def layout(request: pytest.FixtureRequest) -> Layout:
    return request.param


def systemctl(machine: Machine, *words: str) -> None:
    """Change which units a machine starts."""
    subprocess.run(("systemctl", "--quiet", f"--root={machine.root}", *words), check=True)


@pytest.fixture(scope="module")
def booted(layout: Layout) -> Iterator[Machine]:
    with Machine(layout.suite) as machine:
        units, own = machine.root / "lib/systemd/system", machine.root / "etc/systemd/system"
        systemctl(machine, "disable", "ssh.service")
        assert not (own / "sshd.service").is_symlink()
        if layout.alias:
            (own / "sshd.service").symlink_to("/lib/systemd/system/ssh.service")
        if layout.serves == "sshd.service":
            for kind in ("socket", "service"):
                text = (units / f"ssh.{kind}").read_text().replace("Alias=sshd.service\n", "")
                (own / f"sshd.{kind}").write_text(text)
                (units / f"ssh.{kind}").unlink()
            (machine.root / "etc/cloud/cloud.cfg.d/90_name.cfg").write_text("system_info: {ssh_svcname: sshd}\n")
        systemctl(machine, "enable", layout.listens)
        bake(machine, "{unresponsive_timeout: 3m}")
        machine.boot()
        machine.wait(sshd=False)
        machine.sh(f"until systemctl --quiet is-active {layout.listens}; do sleep 0.1; done", timeout=30)
        yield machine


@pytest.fixture(autouse=True)
def sshd_is_reachable_at_the_end(booted: Machine, layout: Layout) -> Iterator[None]:
    # Tests restart it more often than systemd's start limit allows people to.
    booted.run("systemctl", "reset-failed")
    yield
    assert booted.run("ssh", "localhost", "whoami").stdout == "root\n"
    assert booted.run("systemctl", "is-active", layout.listens).stdout == "active\n"
    assert booted.run("ls", "-A", "/etc/ssh/sshd_config.d").stdout in ("", "00-ssh-keepalive.conf\n")


def times(machine: Machine, word: str, unit: str) -> int:
    """Count the lines of a unit's log that begin with a word of systemd's."""
    # What systemd says of a start comes a moment after that.
    machine.run("journalctl", "--sync")
    log = machine.run("journalctl", "-b", "--no-pager", "-o", "cat", "-u", unit, "_PID=1").stdout
    return len(re.findall(f"^{word} ", log, re.MULTILINE))


def starts(machine: Machine, layout: Layout) -> int:
    """Count how often systemd has started an sshd that serves more than one connection."""
    return times(machine, "Started", layout.serves) if "@" not in layout.serves else 0


def interval(machine: Machine) -> str:
    return effective(machine)["clientaliveinterval"]


def test_the_policy_is_in_effect_for_the_first_connection(booted: Machine, layout: Layout) -> None:
    # cloud-init's own unit wants sshd.service, whatever listens.
    assert starts(booted, layout) == (1 if layout.alias or layout.serves == "sshd.service" else 0)
    log = booted.run("cat", "/var/log/cloud-init.log").stdout
    (said,) = re.findall(r"\[INFO\]: (ssh_keepalive: .*)", log)
    assert said.endswith(f"; {DROP_IN} changed, sshd reads it when it starts")
    wanted = "3" if layout.suite == "bookworm" else "5"
    with Client(booted) as client:
        assert starts(booted, layout) == (0 if "@" in layout.serves else 1)
        started = booted.run("stat", "-c", "%.9Z", f"/proc/{client.server}").stdout
        assert booted.run("stat", "-c", "%.9Z", DROP_IN).stdout < started
        assert client.answers()
    assert interval(booted) == wanted
    assert times(booted, "Stopped", layout.listens) == 0


def test_a_changed_policy_restarts_what_runs_once_and_sessions_survive(booted: Machine, layout: Layout) -> None:
    with Client(booted) as client:
        before = starts(booted, layout)
        for _ in "first", "the same again":
            apply(booted, "{client_alive_interval: 5, client_alive_count_max: 1}")
            assert starts(booted, layout) == before + (0 if "@" in layout.serves else 1)
        assert client.answers()


@pytest.mark.slow
def test_a_changed_policy_is_in_effect_for_new_connections(booted: Machine, layout: Layout) -> None:
    with Client(booted) as old:
        apply(booted, "{client_alive_interval: 6, client_alive_count_max: 1}")
        with Client(booted) as new:
            new.freeze()
            least = 24 if layout.suite == "bookworm" else 12
            assert least - 0.5 < new.seconds_until_dropped(least + 10) < least + 5
        assert old.answers()


def test_an_sshd_that_does_not_run_is_left_to_the_next_connection(booted: Machine, layout: Layout) -> None:
    if layout.listens.endswith(".service"):
        booted.run("systemctl", "stop", layout.listens)
    elif "@" not in layout.serves:
        booted.run("systemctl", "stop", layout.serves)
    before = starts(booted, layout)
    apply(booted, "{client_alive_interval: 32}")
    assert starts(booted, layout) == before
    if layout.listens.endswith(".service"):
        booted.run("systemctl", "start", layout.listens)
    assert interval(booted) == "32"


def test_a_file_that_wins_is_named_and_nothing_is_restarted(booted: Machine, layout: Layout) -> None:
    booted.sh("echo 'ClientAliveInterval 7' >/etc/ssh/sshd_config.d/00-a.conf")
    before = booted.run("cat", DROP_IN).stdout
    try:
        assert apply(booted, "{client_alive_interval: 35}", check=False).returncode == 1
    finally:
        booted.sh("rm /etc/ssh/sshd_config.d/00-a.conf")
        if "@" not in layout.serves:
            # Who has mended it; it may have been started for a connection in between.
            booted.run("systemctl", "try-restart", layout.serves)
    log = booted.run("cat", "/var/log/cloud-init.log").stdout
    assert (
        "ssh_keepalive.machine.problem.SshdError: ClientAliveInterval is 7 where 35 is expected, "
        "/etc/ssh/sshd_config.d/00-a.conf:1 overrides it: remove that line and restart sshd\n"
    ) in log
    assert booted.run("cat", DROP_IN).stdout == before


# sshd itself starts with every policy that the proof lets through, so something beside it has to refuse.
REFUSES_TO_START = f"[Service]\nExecStartPre=/bin/sh -c '! grep -qx \"ClientAliveInterval 51\" {DROP_IN}'\n"


def test_an_sshd_that_does_not_come_back_gets_its_old_policy(booted: Machine, layout: Layout) -> None:
    if "@" in layout.serves:
        return  # nothing is restarted
    folder = f"/etc/systemd/system/{layout.serves}.d"
    script = f"mkdir -p {folder}; cat >{folder}/refuse.conf; systemctl daemon-reload; systemctl restart {layout.serves}"
    booted.sh(script, input=REFUSES_TO_START)
    before = interval(booted)
    with Client(booted) as client:
        assert apply(booted, "{client_alive_interval: 51}", check=False).returncode == 1
        assert client.answers()
    assert interval(booted) == before
    assert booted.run("systemctl", "is-active", layout.serves).stdout == "active\n"
    log = booted.run("cat", "/var/log/cloud-init.log").stdout
    said = re.findall(r"SshdError: (.*)", log)[-1]
    assert said.endswith("; the old configuration is restored, sshd is active")
    booted.sh(f"rm -r {folder}; systemctl daemon-reload")


def test_false_takes_the_policy_off(booted: Machine, layout: Layout) -> None:
    before = starts(booted, layout)
    apply(booted, "false")
    booted.sh(f"! test -e {DROP_IN}")
    assert interval(booted) == "0"
    assert starts(booted, layout) == before + (0 if "@" in layout.serves else 1)
