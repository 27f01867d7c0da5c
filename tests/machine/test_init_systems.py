"""Machines without systemd: Debian with sysvinit, and with OpenRC."""

from __future__ import annotations

import re
from typing import Iterator, NamedTuple

import pytest
from baking import DROP_IN, apply, bake, effective
from clients import Client
from machine import Machine

# Each takes a root of its own.
pytestmark = pytest.mark.slow

USER_DATA = "#cloud-config\nssh_keepalive:\n  unresponsive_timeout: 3m\n"
PAIR = {"bookworm": ("3", "29"), "trixie": ("5", "35")}  # interval and count for 3 minutes

# Nothing else keeps what sshd says, and from which moment on it listens.
LOG = "/var/log/sshd.log"
# It passes the proof, and cannot be listened on.
DEFAULTS = f"""\
SSHD_OPTS="-E {LOG}"
! grep -qsx 'ClientAliveInterval 51' {DROP_IN} || SSHD_OPTS="$SSHD_OPTS -o ListenAddress=203.0.113.1"
"""

# As Gentoo has it, by its name and with words of its own. Debian's own is sysvinit's.
OPENRC_SCRIPT = """\
#!/sbin/openrc-run
command=/usr/sbin/sshd
pidfile=/run/sshd.pid
command_args="$SSHD_OPTS -o PidFile=$pidfile -f /etc/ssh/sshd_config"
start_pre() {
    checkpath --directory --mode 0755 /run/sshd
}
"""


class Kind(NamedTuple):
    """A machine's release, its init system, and the name of sshd's service."""

    suite: str
    init: str
    service: str


@pytest.fixture(
    scope="module",
    params=[
        Kind("bookworm", "sysvinit", "ssh"),
        Kind("trixie", "sysvinit", "ssh"),
        Kind("bookworm", "openrc", "ssh"),
        Kind("bookworm", "openrc", "sshd"),
    ],
    ids="-".join,
)
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param


@pytest.fixture(scope="module")
def booted(kind: Kind) -> Iterator[Machine]:
    with Machine(kind.suite, USER_DATA, init=kind.init) as machine:
        etc = machine.root / "etc"
        if kind.service == "ssh":
            (etc / "default/ssh").write_text(DEFAULTS)
        else:
            (etc / "conf.d").mkdir()
            (etc / "conf.d/sshd").write_text(DEFAULTS)
            (etc / "init.d/sshd").write_text(OPENRC_SCRIPT)
            (etc / "init.d/sshd").chmod(0o755)
            (etc / "init.d/ssh").unlink()
            (etc / "runlevels/default/ssh").unlink()
            (etc / "runlevels/default/sshd").symlink_to("/etc/init.d/sshd")
            (etc / "cloud/cloud.cfg.d/90_name.cfg").write_text("system_info: {ssh_svcname: sshd}\n")
        if kind.suite == "trixie":
            # Debian's scripts for cloud-init 24.3 and later run no network stage, which is for all other datasources.
            with (machine.root / "var/lib/cloud/seed/nocloud/meta-data").open("a") as stream:
                stream.write("dsmode: local\n")
        bake(machine)
        machine.boot()
        machine.wait()
        # What it has made of user-data, and makes anew at each boot: it would go before the defaults of the tests.
        machine.run("tee", "/var/lib/cloud/instance/cloud-config.txt", input="#cloud-config\n{}\n")
        yield machine


def starts(machine: Machine) -> int:
    """Count how often sshd has begun to listen."""
    return machine.run("cat", LOG).stdout.count("Server listening on 0.0.0.0 port 22.")


def pair(machine: Machine) -> tuple[str, str]:
    values = effective(machine)
    return values["clientaliveinterval"], values["clientalivecountmax"]


def listener(machine: Machine) -> str:
    """Return the number of the process that listens, after making sure that it serves."""
    assert machine.run("ssh", "localhost", "whoami").stdout == "root\n"
    return machine.run("cat", "/run/sshd.pid").stdout


def refusal(machine: Machine, section: str) -> str:
    """Apply a section that cannot be kept; return what cloud-init says, after making sure that nothing changed."""
    before = machine.sh(f"stat -c '%a %i %Y' {DROP_IN}; cat {DROP_IN}; sshd -T | sort").stdout
    assert apply(machine, section, check=False).returncode == 1
    assert machine.sh(f"stat -c '%a %i %Y' {DROP_IN}; cat {DROP_IN}; sshd -T | sort").stdout == before
    log = machine.run("cat", "/var/log/cloud-init.log").stdout
    return re.findall(r"^ssh_keepalive\.machine\.problem\.SshdError: (.*)$", log, re.MULTILINE)[-1]


def test_systemd_is_not_here(booted: Machine, kind: Kind) -> None:
    assert booted.run("cat", "/proc/1/comm").stdout == "init\n"
    booted.sh("! test -e /run/systemd/system")
    assert booted.sh("test -d /run/openrc", check=False).returncode == (0 if kind.init == "openrc" else 1)


def test_the_policy_is_in_effect_at_the_end_of_the_boot(booted: Machine, kind: Kind) -> None:
    assert pair(booted) == PAIR[kind.suite]
    assert listener(booted)
    log = booted.run("cat", "/var/log/cloud-init.log").stdout
    (said,) = re.findall(r"\[INFO\]: (ssh_keepalive: .*)", log)
    # Only Debian 12's cloud-init and its ssh have an order.
    if said.endswith(f"; {DROP_IN} changed, sshd reads it when it starts"):
        assert starts(booted) == 1
    else:
        assert said.endswith(f"; {DROP_IN} changed, sshd restarted")
        assert (kind.suite, kind.service) != ("bookworm", "ssh")
        assert starts(booted) == 2


def test_a_changed_policy_restarts_sshd_once_and_sessions_survive(booted: Machine) -> None:
    with Client(booted) as client:
        before = starts(booted)
        apply(booted, "{client_alive_interval: 31}")
        assert starts(booted) == before + 1
        assert pair(booted) == ("31", "3")
        assert client.answers()
        apply(booted, "{client_alive_interval: 31}")
        assert starts(booted) == before + 1
        assert client.answers()
    assert listener(booted)


def test_a_file_that_wins_is_named_and_nothing_changes(booted: Machine) -> None:
    before = starts(booted), listener(booted)
    booted.sh("echo 'ClientAliveInterval 7' >/etc/ssh/sshd_config.d/00-a.conf")
    try:
        assert refusal(booted, "{client_alive_interval: 35}") == (
            "ClientAliveInterval is 7 where 35 is expected, "
            "/etc/ssh/sshd_config.d/00-a.conf:1 overrides it: remove that line and restart sshd"
        )
    finally:
        booted.sh("rm /etc/ssh/sshd_config.d/00-a.conf")
    assert (starts(booted), listener(booted)) == before


def test_an_sshd_that_does_not_come_back_gets_its_old_policy(booted: Machine) -> None:
    with Client(booted) as client:
        said = refusal(booted, "{client_alive_interval: 51}")
        assert re.match("after its restart sshd is down: ", said)
        assert said.endswith("; the old configuration is restored, sshd is active")
        assert client.answers()
    assert listener(booted)
    assert "Cannot bind any address." in booted.run("cat", LOG).stdout


def test_an_sshd_that_does_not_run_is_left_to_start_by_itself(booted: Machine, kind: Kind) -> None:
    # Debian's service(8) does not stop what a script of OpenRC's own has started.
    manager = "rc-service" if kind.init == "openrc" else "service"
    booted.run(manager, kind.service, "stop")
    before = starts(booted)
    apply(booted, "{client_alive_interval: 32}")
    assert starts(booted) == before
    booted.run(manager, kind.service, "start")
    booted.wait()
    assert listener(booted)
    assert pair(booted) == ("32", "3")


def test_false_takes_the_policy_off(booted: Machine) -> None:
    before = starts(booted)
    apply(booted, "false")
    booted.sh(f"! test -e {DROP_IN}")
    assert pair(booted) == ("0", "3")
    assert starts(booted) == before + 1
    assert listener(booted)


def test_the_next_boot_keeps_the_policy_and_restarts_nothing(booted: Machine) -> None:
    apply(booted, "{client_alive_interval: 33}")
    before = starts(booted)
    booted.reboot()
    booted.wait()
    assert listener(booted)
    assert starts(booted) == before + 1
    assert pair(booted) == ("33", "3")


def test_what_others_change_counts_at_the_next_boot(booted: Machine) -> None:
    lists = booted.root / "etc/cloud/cloud.cfg.d"
    for name in ("50_other.cfg", "99_zzz_other.cfg", "50_other.cfg"):
        (lists / name).write_text("cloud_init_modules: [users-groups, ssh]\n")
        apply(booted, "null")
        # While it runs: sysvinit leaves the root read-only.
        booted.reseed("#cloud-config\nssh_keepalive: {client_alive_interval: 47}\n")
        with (booted.root / "var/lib/cloud/seed/nocloud/meta-data").open("a") as stream:
            stream.write("dsmode: local\n")
        booted.reboot()
        booted.wait()
        assert pair(booted) == ("47", "3")
        runtime = booted.sh("cat /run/cloud-init/cloud.cfg", check=False).stdout
        assert ("- [ssh_keepalive]" in runtime) == name.startswith("99")
        assert "config-growpart)" not in booted.run("cloud-init", "analyze", "blame").stdout.split("-- Boot")[-1]
        (lists / name).unlink()
