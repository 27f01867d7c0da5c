"""An image's root before, with and after the module."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Callable

from baking import DROP_IN
from bases import base
from images import ORIGINAL, SCHEMA
from machine import Machine
from roots import OURS, tree


def command(*argv: str) -> None:
    """Run the command as its users do, from the environment that it is installed in."""
    subprocess.run((str(Path(sys.executable).with_name("ssh-keepalive")), *argv), check=True)


def test_install_twice_and_uninstall_leave_the_tree_as_it_was(
    oldest_or_newest: str, machines: Callable[..., Machine]
) -> None:
    root = machines(oldest_or_newest).root
    before = tree(root)
    command("install", "--root", str(root))
    once = tree(root)
    assert len(once) > len(before)
    command("install", "--root", str(root))
    assert tree(root) == once
    command("uninstall", "--root", str(root))
    assert tree(root) == before


def test_uninstall_after_a_boot_leaves_nothing(newest_of_all: str, machines: Callable[..., Machine]) -> None:
    user_data = "#cloud-config\nssh_keepalive: true\n"
    # What boots compile and write for themselves is there before and after.
    machine = machines(newest_of_all)
    machine.boot()
    machine.wait()
    machine.poweroff()
    before = tree(machine.root, OURS)
    command("install", "--root", str(machine.root))
    machine.reseed(user_data)
    machine.boot()
    machine.wait()
    machine.poweroff()
    assert (machine.root / DROP_IN[1:]).exists()
    compiled = [path for path in tree(machine.root, OURS) if "__pycache__" in path and "ssh_keepalive" in path]
    assert compiled
    command("uninstall", "--root", str(machine.root))
    assert tree(machine.root, OURS) == before


def test_a_schema_that_was_upgraded_in_between_stays(machines: Callable[..., Machine]) -> None:
    root, newer = machines("bookworm").root, (base("trixie") / SCHEMA).read_bytes()
    command("install", "--root", str(root))
    (root / SCHEMA).unlink()
    (root / SCHEMA).write_bytes(newer)
    before = tree(root, (SCHEMA,))
    command("install", "--root", str(root))
    assert (root / ORIGINAL).read_bytes() == newer
    with_key = json.loads((root / SCHEMA).read_text())
    assert {"ssh_keepalive", "ssh_pwauth"} < set(with_key["properties"])
    command("uninstall", "--root", str(root))
    assert tree(root, (SCHEMA,)) == before
    assert not (root / ORIGINAL).exists()


def test_registration_of_a_module_that_a_package_brought(
    oldest_or_newest: str, machines: Callable[..., Machine]
) -> None:
    root = machines(oldest_or_newest).root
    command("install", "--root", str(root))
    installed = tree(root)
    command("unregister", "--root", str(root))
    module = "usr/lib/python3/dist-packages/cc_ssh_keepalive.py"
    listed = "etc/cloud/cloud.cfg.d/99_zz_ssh_keepalive.cfg"
    unregistered = tree(root)
    assert {module} < set(unregistered) <= set(installed) - {listed, ORIGINAL}
    command("register", "--root", str(root))
    assert tree(root) == installed
