"""Images as builders have made them: what must be in them, what must not, and that they boot as new instances."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from baking import DEFAULT, DROP_IN, effective
from boots import interval
from images import CLEAN, LIST, SCHEMA
from machine import Machine

TOP = Path(__file__).resolve().parents[1]
RECIPES = TOP / "examples/images"
SUITE = "trixie"  # that of the recipes

# What a machine makes for itself, and what a build may have left: globs below the root.
OF_A_MACHINE = (
    "etc/ssh/ssh_host_*",
    "var/lib/cloud/*/*",
    "var/log/cloud-init*",
    DROP_IN[1:],
    "run/ssh-keepalive.json",
    "root/.ssh/*",
    "home/*/.ssh/*",
)
USER_DATA = "#cloud-config\nssh_keepalive: {tcp_keep_alive: false}\n"

# Without a machine-id systemd enables what waits two minutes for a network, and these machines have none.
NO_NETWORK = "--bind-ro=/dev/null:/etc/systemd/system/systemd-networkd-wait-online.service"


def run(*argv: str | Path, **environment: str) -> str:
    """Run a recipe or its tool with ssh-keepalive on PATH; return what it prints, for pytest to show if it fails."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    options: Any = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run(argv, env={**os.environ, "PATH": path, **environment}, **options)
    text = done.stdout.decode(errors="replace")
    assert done.returncode == 0, text[-8000:]
    return text


def is_baked(root: Path) -> bool:
    """Tell whether the module is in a root, in its list and in its schema, and the default too."""
    return (
        (root / "usr/lib/python3/dist-packages/cc_ssh_keepalive.py").is_file()
        and "[ssh_keepalive]" in (root / LIST).read_text()
        and '"ssh_keepalive"' in (root / SCHEMA).read_text()
        and (root / CLEAN).is_file()
        and (root / DEFAULT).read_bytes() == (RECIPES / "95_ssh_keepalive.cfg").read_bytes()
    )


def is_of_no_machine(root: Path) -> None:
    """Assert that nothing in an image belongs to the machine that built it."""
    left = [path for pattern in OF_A_MACHINE for path in root.glob(pattern)]
    assert not left, left
    for name in ("etc/machine-id", "var/lib/dbus/machine-id"):
        file = root / name
        # A link is to the other one.
        assert file.is_symlink() or not file.exists() or file.read_text() in ("", "uninitialized\n"), name
    hostname = root / "etc/hostname"
    assert not hostname.exists() or hostname.read_text().strip() != socket.gethostname()


def without_keys(root: Path) -> None:
    """Take away what a release's root has for tests alone, and what its packages have made there."""
    for path in (*root.glob("etc/ssh/ssh_host_*"), *root.glob("root/.ssh/*")):
        path.unlink()


def boots_as_a_new_instance(root: Path, *options: str) -> None:
    """Assert that an image has module and default, nothing of its build, and enforces a policy at its first boot.

    Options are nspawn's.
    """
    assert is_baked(root)
    is_of_no_machine(root)
    with Machine(SUITE, USER_DATA, instance_id="i-new", image=root) as machine:
        machine.boot(NO_NETWORK, *options)
        machine.wait()
        # The image's default, and what user-data adds to it
        assert interval(machine) == "5"
        values = effective(machine)
        assert (values["clientalivecountmax"], values["tcpkeepalive"]) == ("59", "no")
        assert machine.run("ssh-keepalive", "status").stdout.startswith("enforced: ")
        assert machine.run("cloud-init", "query", "instance_id").stdout == "i-new\n"
        assert re.fullmatch("[0-9a-f]{32}\n", (machine.root / "etc/machine-id").read_text())
        assert list(machine.root.glob("etc/ssh/ssh_host_*_key"))
