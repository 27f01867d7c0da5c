"""What examples/ansible says of a fleet: machines that Ansible logs in to with ssh, as it does anywhere."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from baking import bake
from machine import Machine

PLAYBOOK = Path(__file__).resolve().parents[2] / "examples/ansible/report.yaml"
POLICY = "#cloud-config\nssh_keepalive:\n  unresponsive_timeout: 3m\n"
NOTHING = "#cloud-config\n{}\n"

# Each machine has a network of its own, in which this is the way to its sshd.
CONNECT = "exec nsenter --target=$1 --net bash -c 'exec 3<>/dev/tcp/127.0.0.1/22; cat <&3 & exec cat >&3'\n"


@pytest.fixture(scope="module")
def fleet() -> Iterator[dict[str, Machine]]:
    with contextlib.ExitStack() as stack:
        machines = {
            "kept": stack.enter_context(Machine("trixie", POLICY)),
            "shadowed": stack.enter_context(Machine("bookworm", POLICY)),
            "unconfigured": stack.enter_context(Machine("bullseye", NOTHING)),
        }
        for machine in machines.values():
            bake(machine)
            machine.boot()
        for machine in machines.values():
            machine.wait()
        machines["shadowed"].sh("echo ClientAliveInterval 7 >/etc/ssh/sshd_config.d/00-a.conf; systemctl restart ssh")
        # What sudo says where the machine does not know its own name
        machines["kept"].sh("echo echo sudo: unable to resolve host machine >>~/.bashrc")
        yield machines


def report(fleet: dict[str, Machine], folder: Path) -> tuple[int, dict[str, tuple[str, str]]]:
    """Run the playbook; return its exit code, and the last result of each machine with what it says."""
    connect = folder / "connect"
    connect.write_text(CONNECT)
    hosts = {
        name: {
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(machine.root / "root/.ssh/id_ed25519"),
            "ansible_ssh_common_args": f"-o ProxyCommand='sh {connect} {machine.pid}' -o UserKnownHostsFile=/dev/null",
        }
        for name, machine in fleet.items()
    }
    inventory = folder / "inventory.json"
    inventory.write_text(json.dumps({"all": {"hosts": hosts}}))
    settings = {
        "ANSIBLE_HOME": str(folder),
        "ANSIBLE_HOST_KEY_CHECKING": "no",
        "ANSIBLE_SSH_ARGS": "-F none",
        "ANSIBLE_NOCOLOR": "yes",
    }
    done = subprocess.run(
        (Path(sys.executable).parent / "ansible-playbook", "--inventory", inventory, PLAYBOOK),
        env={**os.environ, **settings},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    print(done.stdout)
    results = re.findall(r"^(\w+): \[(\w+)\](?:: FAILED!)? => (\{.*?\})$", done.stdout, re.MULTILINE | re.DOTALL)
    said = [(name, result, json.loads(text)) for result, name, text in results]
    return done.returncode, {name: (result, text.get("stdout", text["msg"])) for name, result, text in said}


def test_the_machine_that_does_not_keep_its_policy_is_named(fleet: dict[str, Machine], tmp_path: Path) -> None:
    assert report(fleet, tmp_path) == (
        2,
        {
            "kept": ("ok", "enforced"),
            "shadowed": (
                "fatal",
                "not enforced: ClientAliveInterval is 7 where 3 is expected, "
                "/etc/ssh/sshd_config.d/00-a.conf:1 overrides it; remedy: remove that line and restart sshd",
            ),
            "unconfigured": ("ok", "not configured"),
        },
    )


def test_nobody_is_named_where_all_is_well(fleet: dict[str, Machine], tmp_path: Path) -> None:
    well = {name: fleet[name] for name in ("kept", "unconfigured")}
    assert report(well, tmp_path) == (0, {"kept": ("ok", "enforced"), "unconfigured": ("ok", "not configured")})
    well["unconfigured"].run("ssh-keepalive", "uninstall")
    lost = "bash: line 1: ssh-keepalive: command not found\r\n"
    assert report(well, tmp_path) == (2, {"kept": ("ok", "enforced"), "unconfigured": ("fatal", lost)})
