"""An image's root before, with and after the module."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Callable

from baking import DROP_IN
from machine import Machine

# What a boot may write for itself: state, logs, host keys, users.
OURS = ("usr", "etc/cloud", "etc/ssh/sshd_config", "etc/ssh/sshd_config.d")


def tree(root: Path, folders: tuple[str, ...] = ("",)) -> dict[str, tuple[object, ...]]:
    """Return kind, mode, owner and content of all that is in some folders of a root."""
    found = {}
    for top in folders:
        paths = [root / top]
        for folder, names, files in os.walk(root / top):
            paths += [Path(folder, name) for name in names + files]
        for path in paths:
            status = path.lstat()
            content = None
            if stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(status.st_mode):
                content = hashlib.sha256(path.read_bytes()).hexdigest()
            found[str(path.relative_to(root))] = (stat.filemode(status.st_mode), status.st_uid, status.st_gid, content)
    return found


def command(*argv: str) -> None:
    """Run the command as its users do, from the environment that it is installed in."""
    subprocess.run((str(Path(sys.executable).with_name("ssh-keepalive")), *argv), check=True)


def test_install_twice_and_uninstall_leave_the_tree_as_it_was(suite: str, machines: Callable[..., Machine]) -> None:
    root = machines(suite).root
    before = tree(root)
    command("install", "--root", str(root))
    once = tree(root)
    assert len(once) > len(before)
    command("install", "--root", str(root))
    assert tree(root) == once
    command("uninstall", "--root", str(root))
    assert tree(root) == before


def test_uninstall_after_a_boot_leaves_nothing(suite: str, machines: Callable[..., Machine]) -> None:
    user_data = "#cloud-config\nssh_keepalive: true\n"
    # What boots compile and write for themselves is there before and after.
    machine = machines(suite)
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
