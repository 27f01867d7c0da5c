"""Roots with which the host shares nothing but its kernel: another Python, another architecture."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from boots import interval
from machine import Machine
from releases import FOREIGN
from roots import chroot, restored, tree

COMMAND = Path(sys.executable).with_name("ssh-keepalive")
# Where the host has what is meant of the image
HOSTS = re.compile(
    r"/(etc/(cloud|ssh|profile|default|systemd)|run|var|usr/s?bin/[^/]*ssh[^/]*)(/|$)|.*/cloud-?init(/|$)"
)


def run(root: Path, *words: str) -> str:
    """Run the command on a root, of which nothing is run, while no file of the host is asked for; return its words."""
    trace = root.parent / "trace"
    strace = ("strace", "--follow-forks", "--trace=%file", "--string-limit=4096", f"--output={trace}")
    done = subprocess.run((*strace, COMMAND, *words, "--root", root), stdout=subprocess.PIPE, text=True, check=True)
    paths = set(re.findall(r'^\d+ +\w+\((?:\w+, )?"(/[^"]*)"', trace.read_text(), re.MULTILINE))
    assert any(path.startswith(f"{root}/etc/cloud/") for path in paths)
    above = [str(folder) for folder in (root, *root.parents)]
    outside = [path for path in paths if not path.startswith(f"{root}/") and path not in above]
    assert [path for path in outside if HOSTS.match(path)] == []
    assert trace.read_text().count(" execve(") == 1
    return done.stdout


def installed(root: Path) -> dict[str, tuple[object, ...]]:
    """Install the module; return what is new but what is compiled, and see that nothing names the host."""
    before = tree(root)
    run(root, "install")
    found = {path: what for path, what in tree(root).items() if what != before.get(path)}
    for path in found:
        text = b"" if (root / path).is_symlink() or (root / path).is_dir() else (root / path).read_bytes()
        for name in (str(root), sys.prefix, str(Path(__file__).parents[2])):
            assert name.encode() not in text, path
    return {path: what for path, what in found.items() if "__pycache__" not in path}


def test_a_root_of_another_python(oldest_or_newest: str, machines: Callable[..., Machine]) -> None:
    machine = machines(oldest_or_newest)
    root, python = machine.root, machine.release.python
    before = tree(root)
    installed(root)
    compiled = root.glob("usr/lib/python3/dist-packages/ssh_keepalive/**/*.pyc")
    assert {file.suffixes[0] for file in compiled} <= {f".cpython-{python.replace('.', '')}"}
    assert run(root, "status") == "registered\n"
    # With the image's own Python, and nothing else
    said = chroot(root, "PYTHONDONTWRITEBYTECODE=x ssh-keepalive status")
    assert said == "not configured\nregistered: cloud-init runs the module\n"
    run(root, "uninstall")
    restored(root, before)


@pytest.mark.slow
def test_a_root_of_another_architecture_boots(machines: Callable[..., Machine]) -> None:
    (suite,) = FOREIGN
    machine = machines(suite, "#cloud-config\nssh_keepalive: {unresponsive_timeout: 3m}\n")
    assert installed(machine.root) == installed(machines(suite.partition("-")[0]).root)
    machine.boot("--personality=x86")
    machine.wait()
    assert machine.run("dpkg", "--print-architecture").stdout == "i386\n"
    assert interval(machine) == "3"
    assert machine.run("ssh-keepalive", "status").stdout.startswith("enforced: ")


@pytest.mark.slow
def test_a_root_whose_programs_cannot_run_here(machines: Callable[..., Machine], tmp_path: Path) -> None:
    root = tmp_path / "root"
    build = (
        "mmdebstrap",
        "--quiet",
        "--variant=extract",
        "--include=cloud-init,openssh-server",
        "--architectures=arm64",
    )
    subprocess.run((*build, "trixie", root, "deb http://deb.debian.org/debian trixie main"), check=True)
    here = machines("trixie").root
    assert (root / "usr/bin/python3").read_bytes()[18:20] != (here / "usr/bin/python3").read_bytes()[18:20]
    assert installed(root) == installed(here)
    assert run(root, "status") == "registered\n"
