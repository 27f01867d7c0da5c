"""The key as cloud-init sees it: at a first boot, and in what its schema command says."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from baking import bake
from machine import Machine

USER_DATA = "#cloud-config\nssh_keepalive:\n  unresponsive_timeout: 3m\n"
WRONG = "#cloud-config\nssh_pwauth: false\nssh_keepalive:\n  tcp_keep_alive: true\n  unresponsive_timeout: 10\n"
ANNOTATED = """\
#cloud-config
ssh_pwauth: false
ssh_keepalive:
  tcp_keep_alive: true
  unresponsive_timeout: 10		# E1

# Errors: -------------
# E1: 10 is less than the minimum of 15
"""

# Releases of cloud-init that no Debian has, and the Debian whose units fit: since 24.3 they talk to one process, since
# 25.3 by another kind of socket.
UPSTREAM = {"23.4": "bookworm", "24.1": "bookworm", "24.4": "trixie", "25.3": "forky"}


@pytest.fixture(
    scope="module",
    params=[
        "bullseye",
        "forky",
        *(pytest.param(release, marks=pytest.mark.slow) for release in ("bookworm", "trixie", *UPSTREAM)),
    ],
)
def booted(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """A machine of each release, and one of each release of cloud-init itself, with the module."""
    version = request.param if request.param in UPSTREAM else None
    with Machine(UPSTREAM.get(request.param, request.param), USER_DATA) as machine:
        if version:
            lay_over(machine, upstream_tree(version))
        bake(machine)
        machine.boot()
        machine.wait()
        if version:
            assert machine.run("cloud-init", "--version").stdout == f"/usr/bin/cloud-init {version}\n"
        yield machine


def upstream_tree(version: str) -> Path:
    """Return cloud-init's own source of a version, or skip."""
    trees = os.environ.get("CLOUD_INIT_TREES")
    if not trees:
        pytest.skip(f"CLOUD_INIT_TREES names no folder with cloud-init's source in folders {', '.join(UPSTREAM)}")
    return Path(trees, version)


def lay_over(machine: Machine, tree: Path) -> None:
    """Put another cloud-init, with its own cloud.cfg, in the place of the one in a machine's root."""
    package = machine.root / "usr/lib/python3/dist-packages/cloudinit"
    shutil.rmtree(package)
    shutil.copytree(tree / "cloudinit", package)
    shutil.copytree(tree, machine.root / "srv/tree")
    render = ("python3", "/srv/tree/tools/render-template", "--variant", "debian")
    files = ("/srv/tree/config/cloud.cfg.tmpl", "/etc/cloud/cloud.cfg")
    subprocess.run(("chroot", machine.root, *render, *files), check=True)


@functools.lru_cache
def version(machine: Machine) -> tuple[int, ...]:
    """Return the first two numbers of a machine's cloud-init."""
    printed = machine.sh("cloud-init --version 2>&1").stdout
    return tuple(int(part) for part in re.findall(r"\d+", printed)[:2])


def schema(machine: Machine, text: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Have cloud-init check a text."""
    (machine.root / "root/checked").write_text(text)
    command = ("devel", "schema") if version(machine) < (22, 2) else ("schema",)
    return machine.run("cloud-init", *command, *options, "-c", "/root/checked", check=False)


def test_the_boot_is_done_and_no_line_of_the_log_complains(booted: Machine) -> None:
    status = booted.run("cloud-init", "status", "--long")
    assert "status: done\n" in status.stdout
    if version(booted) >= (23, 4):
        assert "extended_status: done\n" in status.stdout
        assert "\nrecoverable_errors: {}\n" in status.stdout
    log = booted.run("cat", "/var/log/cloud-init.log").stdout
    assert [line for line in log.splitlines() if re.search("WARN|ERROR|DEPRECATED|Traceback|Invalid", line)] == []
    assert "/config-ssh_keepalive)" in booted.run("cloud-init", "analyze", "blame").stdout


def test_the_machines_user_data_is_valid(booted: Machine) -> None:
    if version(booted) >= (22, 2):
        said = booted.run("cloud-init", "schema", "--system").stdout
        assert re.search("^ *Valid (schema user-data|cloud-config: system userdata)$", said, re.MULTILINE)
    assert schema(booted, USER_DATA).returncode == 0


@pytest.mark.parametrize("section", ["null", "{client_alive_interval: 60, client_alive_count_max: 3}"])
def test_what_the_module_takes_is_valid(booted: Machine, section: str) -> None:
    assert schema(booted, f"#cloud-config\nssh_keepalive: {section}\n").returncode == 0


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ("{unresponsive_timeout: 10}", "ssh_keepalive.unresponsive_timeout: 10 is less than the minimum of 15"),
        ("{unresponsive_timeout: 3x}", "ssh_keepalive.unresponsive_timeout: '3x' does not match "),
        ("{client_alive_interval: 3}", "ssh_keepalive.client_alive_interval: 3 is "),
        ("{idle_timeout: ever}", "ssh_keepalive.idle_timeout: 'ever' does not match"),
        (
            "{match: [{user: a, idle_timeout: 1}]}",
            "ssh_keepalive.match.0.idle_timeout: 1 is less than the minimum of 60",
        ),
        ("{idel_timeout: 15m}", "ssh_keepalive: Additional properties are not allowed ('idel_timeout' was unexpected)"),
    ],
)
def test_a_wrong_value_is_named_with_its_key(booted: Machine, section: str, problem: str) -> None:
    checked = schema(booted, f"#cloud-config\nssh_keepalive: {section}\n")
    if version(booted) < (22, 2):  # nothing knows the key there, and every unknown one is taken
        assert checked.returncode == 0
    else:
        assert checked.returncode == 1
        assert f"Cloud config schema errors: {problem}" in checked.stderr


def test_a_wrong_value_is_marked_in_its_line(booted: Machine) -> None:
    if version(booted) >= (22, 2):
        assert schema(booted, WRONG, "--annotate").stdout.strip() == ANNOTATED.strip()


def test_another_unknown_key_is_refused_where_it_was(booted: Machine) -> None:
    checked = schema(booted, "#cloud-config\nssh_keepalivee: true\n")
    if version(booted) < (23, 4):
        assert checked.returncode == 0
    else:
        assert checked.returncode == 1
        assert "Additional properties are not allowed ('ssh_keepalivee' was unexpected)" in checked.stderr


def test_a_list_of_modules_may_name_the_module(booted: Machine) -> None:
    entries = "ssh_keepalive, ssh-keepalive, [ssh_keepalive], [ssh_keepalive, always]"
    assert schema(booted, f"#cloud-config\ncloud_init_modules: [ssh, {entries}]\n").returncode == 0
