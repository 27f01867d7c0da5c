"""The recipes for images: each is run as far as its tools are to be had here."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable

import hcl2
import pytest
from baking import DEFAULT, DROP_IN, bake, effective
from boots import READ_ONLY_USR, interval
from machine import Machine

TOP = Path(__file__).resolve().parents[2]
RECIPES = TOP / "examples/images"
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", ".*cache*", "build", "dist", "*.egg-info", "__pycache__")
SUITE = "trixie"  # that of the recipes
FIVE_MINUTES = ("5", "59")  # interval and count there


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
    package = root / "usr/lib/python3/dist-packages"
    schema = (package / "cloudinit/config/schemas/schema-cloud-config-v1.json").read_text()
    return (
        (package / "cc_ssh_keepalive.py").is_file()
        and "[ssh_keepalive]" in (root / "etc/cloud/cloud.cfg.d/99_zz_ssh_keepalive.cfg").read_text()
        and '"ssh_keepalive"' in schema
        and (root / "etc/cloud/clean.d/50-ssh-keepalive").is_file()
        and (root / DEFAULT).read_bytes() == (RECIPES / "95_ssh_keepalive.cfg").read_bytes()
    )


def pair(machine: Machine) -> tuple[str, str]:
    values = effective(machine)
    return values["clientaliveinterval"], values["clientalivecountmax"]


@pytest.mark.parametrize("recipe", sorted(RECIPES.iterdir()), ids=lambda recipe: recipe.name)
def test_every_recipe_says_what_it_makes_and_how_it_is_run(recipe: Path) -> None:
    lines = [line for line in recipe.read_text().splitlines() if not line.startswith("#!")]
    assert lines[0].startswith("# ")
    if recipe.read_text().startswith("#!/bin/sh\n"):
        assert os.access(recipe, os.X_OK)
        run("sh", "-n", recipe)


def test_the_script_for_mkosi_bakes(machines: Callable[..., Machine]) -> None:
    root = machines(SUITE).root
    run("env", f"--chdir={RECIPES}", "./mkosi.finalize", "final", BUILDROOT=str(root))
    assert is_baked(root)


@pytest.mark.slow
def test_mkosi_makes_an_image(tmp_path: Path) -> None:
    folder = tmp_path / "recipe"
    shutil.copytree(RECIPES, folder)
    # Its machines run without systemd's D-Bus on the host, as those of the other tests.
    keep_unit = {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}
    run("mkosi", "--directory", folder, "--nspawn-keep-unit", "build", **keep_unit)
    assert is_baked(folder / "image")


# What cloud-init makes of three kinds of user-data, and whether an image shall be built on a machine that got it.
BOOTS = {
    "#cloud-config\nssh_keepalive: true\n": (0, True),
    "#cloud-config\nno_such_key: true\n": (2, True),
    "#cloud-config\nssh_keepalive: {unresponsive_timeout: 10s}\n": (1, False),
}


def provisioners() -> list[tuple[str, dict[str, Any]]]:
    """Return kind and settings of each step of the recipe for Packer, in their order."""
    options = hcl2.SerializationOptions(strip_string_quotes=True)
    (build,) = hcl2.loads((RECIPES / "packer.pkr.hcl").read_text(), serialization_options=options)["build"]
    return [(kind, settings) for step in build["provisioner"] for kind, settings in step.items()]


@pytest.mark.parametrize("user_data", BOOTS, ids=["done", "degraded", "error"])
def test_packer_goes_on_after_a_boot_that_is_good_enough(machines: Callable[..., Machine], user_data: str) -> None:
    (kind, wait), *_ = provisioners()
    assert kind == "shell"
    machine = machines(SUITE, user_data)
    bake(machine)
    machine.boot()
    code = machine.sh("\n".join(wait["inline"]), check=False).returncode
    assert (code, code in wait["valid_exit_codes"]) == BOOTS[user_data]


def test_packer_leaves_an_image_with_a_default_and_no_instance(machines: Callable[..., Machine]) -> None:
    _, (_, package), (_, default), (_, last) = provisioners()
    assert package["source"] == "${var.package}"
    assert default["source"] == "${path.root}/95_ssh_keepalive.cfg"

    machine = machines(SUITE)
    bake(machine)  # in the package's place
    (machine.root / "usr/local/bin/sudo").symlink_to("/usr/bin/env")
    (machine.root / "usr/local/bin/apt-get").symlink_to("/bin/true")
    machine.boot()
    machine.wait()
    machine.run("tee", default["destination"], input=(RECIPES / "95_ssh_keepalive.cfg").read_text())
    assert last["inline"][0].endswith(f" {package['destination']}")
    machine.sh("\n".join(last["inline"]))
    assert is_baked(machine.root)
    machine.sh(f"! test -e {DROP_IN} && ! test -e /var/log/cloud-init.log && grep -qx uninitialized /etc/machine-id")
    machine.poweroff()

    # On its own first boot systemd would wait two minutes for a network, which these machines do not have.
    (machine.root / "etc/machine-id").write_text("")
    machine.reseed("#cloud-config\n{}\n")
    machine.boot()
    machine.wait()
    assert pair(machine) == FIVE_MINUTES


def stages(text: str) -> list[list[tuple[str, list[str]]]]:
    """Return instructions and their words of a Containerfile, by stage; options are words, too."""
    found: list[list[tuple[str, list[str]]]] = []
    for line in re.sub(r"\\\n", "", re.sub("^#.*\n", "", text, flags=re.MULTILINE)).splitlines():
        if line:
            instruction, *words = shlex.split(line, posix=False)
            if instruction == "FROM":
                found.append([])
            found[-1].append((instruction, words))
    return found


def test_the_containerfile_makes_a_system_with_a_read_only_usr(
    tmp_path: Path, machines: Callable[..., Machine]
) -> None:
    (_, copy, pip), (_, dnf, default, install, lint) = stages((RECIPES / "Containerfile").read_text())

    assert copy == ("COPY", [".", "/src"])
    shutil.copytree(TOP, tmp_path / "src", ignore=LEFT_OUT)
    assert pip[0] == "RUN"
    assert pip[1][0] == "pip"
    run(*(re.sub("^/", f"{tmp_path}/", word) for word in pip[1]))

    machine = machines(SUITE, "#cloud-config\n{}\n")
    # What only the real system has: packages, and its own checks.
    assert (dnf[1][:4], lint) == (["dnf", "-y", "install", "cloud-init"], ("RUN", ["bootc", "container", "lint"]))
    (source, target) = default[1]
    shutil.copy(TOP / source, f"{machine.root}{target}")
    mount, *command = install[1]
    options = dict(option.split("=") for option in mount.partition("=")[2].split(","))
    assert options["from"] == "build"
    shutil.copytree(f"{tmp_path}{options['source']}", f"{machine.root}{options['target']}", dirs_exist_ok=True)
    run("chroot", machine.root, "sh", "-ec", " ".join(command))
    shutil.rmtree(f"{machine.root}{options['target']}")

    assert is_baked(machine.root)
    machine.boot(READ_ONLY_USR)
    machine.wait()
    assert interval(machine) == FIVE_MINUTES[0]


# Run in the virtual machine when it has booted: cloud-init counts a boot as running until all that it started is done.
FACTS = f"""\
#cloud-config
ssh_keepalive:
  unresponsive_timeout: 3m
write_files:
- path: /run/tell
  content: |
    # What others write there must not stand in our lines: systemd (see its SIGNALS), the kernel, the login prompt.
    kill -s RTMIN+21 1
    dmesg --console-off
    systemctl stop serial-getty@ttyS0
    exec >/dev/ttyS0 2>&1
    tell() {{ sed "s/^/\\nFACT $1 /"; }}
    cloud-init status --wait --long | tell status
    cloud-init status >/dev/null; echo $? | tell code
    cloud-init schema --system | tell schema
    uname -r | tell kernel
    systemd-detect-virt | tell virt
    sshd -T | grep ^clientalive | tell sshd
    cat {DROP_IN} | tell drop-in
    stat -c %.9Z {DROP_IN} | tell landed
    journalctl -b -o short-unix --no-pager | sed -n 's/ .*Server listening on 0.0.0.0 port 22.*//p' | tell listening
    systemctl --failed --no-legend --plain | tell failed
    poweroff
runcmd: [systemd-run --no-block bash /run/tell]
"""


@pytest.mark.slow
def test_mmdebstrap_and_qemu_make_a_virtual_machine(tmp_path: Path) -> None:
    run(RECIPES / "mmdebstrap.sh", SUITE, tmp_path / "root")
    assert is_baked(tmp_path / "root")
    (tmp_path / "user-data").write_text(FACTS)

    began = time.monotonic()
    console = run(RECIPES / "qemu.sh", tmp_path / "root", tmp_path / "user-data", "-accel", "tcg")
    print(f"\nthe virtual machine has run for {time.monotonic() - began:.0f} s")
    facts: dict[str, list[str]] = {}
    for name, fact in re.findall(r"^FACT (\S+) (.*?)\r*$", console, re.MULTILINE):
        facts.setdefault(name, []).append(fact)

    assert (facts["code"], facts["status"][0]) == (["0"], "status: done"), facts["status"]
    assert "detail: DataSourceNoCloud [seed=/dev/vdb]" in facts["status"]
    assert "Valid schema user-data" in "".join(facts["schema"])
    assert facts["kernel"][0].endswith("-cloud-amd64")
    assert facts["virt"] == ["qemu"]
    assert facts["sshd"] == ["clientaliveinterval 5", "clientalivecountmax 35"]
    assert facts["drop-in"] == [
        "# Managed by cloud-init's cc_ssh_keepalive; change ssh_keepalive in user-data instead.",
        '# policy: {"unresponsive_timeout": 180}',
        "ClientAliveInterval 5",
        "ClientAliveCountMax 35",
    ]
    assert len(facts["listening"]) == 1
    assert float(facts["landed"][0]) < float(facts["listening"][0])
    assert "failed" not in facts
