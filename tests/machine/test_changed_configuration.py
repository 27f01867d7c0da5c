"""What others change in cloud-init's configuration after the installation: it counts at the next boot."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import pytest
import yaml
from baking import bake
from bases import base
from boots import READ_ONLY_USR, interval
from images import LIST, ORIGINAL, SCHEMA
from machine import Machine
from roots import OURS, apt, fetch, tree
from ssh_keepalive.image.installation import uninstall
from ssh_keepalive.image.root import Root

UNIT = "ssh-keepalive-register.service"
CLOUD_CFG = "etc/cloud/cloud.cfg"
LATE = "etc/cloud/cloud.cfg.d/99_zzz_other.cfg"
RUNTIME = "/run/cloud-init/cloud.cfg"
READ_ONLY_ETC = "--bind-ro=+/etc/cloud:/etc/cloud"
USER_DATA = "#cloud-config\nssh_keepalive: {client_alive_interval: 40}\n"

# Another tool's module, which has no place in any list of cloud-init's own
OTHER = """\
meta = {"id": "cc_other", "name": "x", "title": "x", "description": "x", "distros": ["all"], "examples": [],
        "frequency": "always", "activate_by_schema_keys": []}
distros, frequency = ["all"], "always"
def handle(name, cfg, cloud=None, log=None, args=None, _compat=None):
    open("/run/other-has-run", "w").close()
"""


def modules(text: str) -> list[object]:
    """Return the list of modules in a configuration."""
    found: list[object] = yaml.safe_load(text)["cloud_init_modules"]
    return found


def take_out(root: Path, *names: str) -> None:
    """Take modules out of the lists in cloud.cfg, as people do."""
    lines = (root / CLOUD_CFG).read_text().splitlines(keepends=True)
    left = [line for line in lines if line.strip() not in [f"- {name}" for name in names]]
    assert len(left) == len(lines) - len(names)
    (root / CLOUD_CFG).write_text("".join(left))


def start(machine: Machine, *options: str) -> None:
    """Boot, for a new instance."""
    if machine.running:
        machine.poweroff()
    machine.reseed(USER_DATA)
    machine.boot(*options)
    machine.wait()


def boots(machine: Machine, *options: str) -> str:
    """Boot, for a new instance; return how the unit ended, after making sure that the policy is in effect."""
    start(machine, *options)
    assert interval(machine) == "40"
    return ended(machine)


def ended(machine: Machine) -> str:
    return machine.run("systemctl", "show", "--property=Result", "--value", UNIT).stdout.strip()


def began(machine: Machine, unit: str, what: str = "Start") -> int:
    """Return when a unit's process has begun or ended at this boot, in microseconds."""
    shown = machine.run("systemctl", "show", f"--property=ExecMain{what}TimestampMonotonic", "--value", unit).stdout
    return int(shown)


def test_what_others_take_out_stays_out_and_a_baked_host_key_lives(
    oldest_or_newest: str, machines: Callable[..., Machine]
) -> None:
    machine = machines(oldest_or_newest)
    bake(machine)
    take_out(machine.root, "ssh", "growpart")
    keys = {file: file.read_bytes() for file in machine.root.glob("etc/ssh/ssh_host_*")}
    assert keys
    assert boots(machine) == "success"
    assert {file: file.read_bytes() for file in machine.root.glob("etc/ssh/ssh_host_*")} == keys
    # Nothing makes host keys before the module here, which comes last.
    assert modules((machine.root / LIST).read_text())[-1:] == [["ssh_keepalive"]]
    blamed = machine.run("cloud-init", "analyze", "blame").stdout
    assert "config-growpart)" not in blamed
    assert "config-ssh)" not in blamed
    first = "cloud-init-local" if oldest_or_newest in ("bullseye", "bookworm") else "cloud-init-main"
    assert 0 < began(machine, UNIT, "Exit") < began(machine, f"{first}.service")
    assert "ordering cycle" not in machine.run("journalctl", "-b", "--no-pager").stdout
    assert "\nregistered: " in machine.run("ssh-keepalive", "status").stdout


@pytest.mark.slow
def test_every_change_counts_at_the_next_boot_and_uninstall_leaves_nothing(
    suite: str, machines: Callable[..., Machine]
) -> None:
    machine = machines(suite)
    machine.boot()
    machine.wait()
    machine.poweroff()
    root = machine.root
    (root / "usr/lib/python3/dist-packages/cc_other.py").write_text(OTHER)
    (root / LATE).write_text("cloud_init_modules: [users-groups, ssh, [other]]\n")
    machine.boot()
    machine.wait()
    machine.poweroff()
    (root / LATE).write_text("manage_etc_hosts: false\n")
    before = tree(root, OURS)
    original = (root / CLOUD_CFG).read_text()
    bake(machine)

    # Nothing: no Python, nothing is written.
    once = (root / LIST).stat().st_ino
    assert boots(machine) == "success"
    assert boots(machine) == "success"
    assert (root / LIST).stat().st_ino == once

    # A list that sorts after ours counts, with our module in it, at this boot and at the next.
    (root / LATE).write_text("cloud_init_modules: [users-groups, ssh, [other]]\n")
    for _ in range(2):
        assert boots(machine) == "success"
        machine.run("test", "-e", "/run/other-has-run")
        text = machine.run("cat", RUNTIME).stdout
        assert "datasource_list" in yaml.safe_load(text)
        assert modules(text) == ["users-groups", "ssh", ["ssh_keepalive"], ["other"]]
    assert f"\nnote: /{LATE}: its cloud_init_modules replaces ours, " in machine.run("ssh-keepalive", "status").stdout

    # So does one that sorts before it, and what jinja makes of a file is for cloud-init to say.
    (root / LATE).rename(root / LATE.replace("99_zzz", "50"))
    (root / LATE).write_text("## template: jinja\n# {{ v1.local_hostname }}\nmanage_etc_hosts: false\n")
    assert boots(machine) == "success"
    machine.run("test", "-e", "/run/other-has-run")
    assert "cloud_init_modules" not in machine.run("cat", RUNTIME).stdout
    assert modules((root / LIST).read_text()) == ["users-groups", "ssh", ["ssh_keepalive"], ["other"]]
    (root / LATE.replace("99_zzz", "50")).unlink()
    (root / LATE).write_text("manage_etc_hosts: false\n")

    # Where /etc is read-only this boot's list is in /run.
    take_out(root, "growpart")
    assert boots(machine, READ_ONLY_ETC) == "success"
    assert "growpart" not in modules(machine.run("cat", RUNTIME).stdout)
    assert "[other]" in (root / LIST).read_text()
    assert "config-growpart)" not in machine.run("cloud-init", "analyze", "blame").stdout.split("-- Boot")[-1]

    # Where /usr is, the schema of another cloud-init waits until it can be written, and nothing fails.
    (root / CLOUD_CFG).write_text(original)
    if suite != "bullseye":
        content = (root / ORIGINAL).read_bytes()
        (root / SCHEMA).unlink()
        (root / SCHEMA).write_bytes(content)
    for options in ([READ_ONLY_USR], [READ_ONLY_USR], []):
        start(machine, *options)
        assert ended(machine) == "success"
        assert machine.run("systemctl", "--failed", "--plain", "--no-legend").stdout == ""
        if suite != "bullseye":
            assert (b"cc_ssh_keepalive" in (root / SCHEMA).read_bytes()) == (not options)
        waits = f"/{SCHEMA} stays as it is, its file system is read-only"
        assert (waits in machine.run("ssh-keepalive", "status").stdout) == bool(options and suite != "bullseye")
    listed = modules((root / LIST).read_text())
    assert [entry for entry in listed if entry != ["ssh_keepalive"]] == modules(original)

    machine.poweroff()
    uninstall(Root(str(root)))
    assert tree(root, OURS) == before


@pytest.mark.slow
def test_a_unit_that_fails_hangs_or_is_not_there_holds_up_no_boot(suite: str, machines: Callable[..., Machine]) -> None:
    machine = machines(suite)
    root = machine.root
    bake(machine)
    take_out(root, "growpart")
    command = root / "usr/bin/ssh-keepalive"
    whole = command.read_text()
    for program, result in (("exit 1", "exit-code"), ("sleep 60", "timeout")):
        command.write_text(f"#!/bin/sh\n{program}\n")
        drop_in = root / f"etc/systemd/system/{UNIT}.d/soon.conf"
        drop_in.parent.mkdir(parents=True, exist_ok=True)
        drop_in.write_text("[Service]\nTimeoutStartSec=1\n")
        assert boots(machine) == result
    command.write_text(whole)
    machine.run("systemctl", "mask", UNIT)
    assert boots(machine) == "success"
    assert "growpart" in (root / LIST).read_text()
    machine.run("systemctl", "unmask", UNIT)
    assert boots(machine) == "success"
    assert "growpart" not in (root / LIST).read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "sources"),
    [("bookworm", "trixie", ("bookworm", "trixie")), ("trixie", "forky", ("forky",))],
    ids=["12-to-13", "13-to-testing"],
)
def test_an_upgrade_of_cloud_init_after_install_needs_no_hand(
    old: str, new: str, sources: tuple[str, ...], machines: Callable[..., Machine]
) -> None:
    machine = machines(old)
    root = machine.root
    fetch(root, sources, f"cloud-init/{new}")
    bake(machine)
    assert boots(machine) == "success"
    upgrade = f"DEBIAN_FRONTEND=noninteractive {apt(sources, '--no-download install', f'cloud-init/{new}')} 2>&1"
    machine.sh(upgrade, timeout=120)
    assert b"cc_ssh_keepalive" not in (root / SCHEMA).read_bytes()
    assert boots(machine) == "success"
    assert b"cc_ssh_keepalive" in (root / SCHEMA).read_bytes()
    listed = modules((root / LIST).read_text())
    assert [entry for entry in listed if entry != ["ssh_keepalive"]] == modules((base(new) / CLOUD_CFG).read_text())
    assert "\nextended_status: done\n" in machine.run("cloud-init", "status", "--long").stdout
    machine.run("cloud-init", "schema", "--system")
    machine.run("ssh-keepalive", "uninstall")
    assert (root / SCHEMA).read_bytes() == (base(new) / SCHEMA).read_bytes()
    assert [file for file in (LIST, ORIGINAL) if (root / file).exists()] == []
