"""Every policy after every other one: what was there before does not stand in the way of what comes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from baking import DROP_IN, bake
from machine import Machine
from serving import MAIN, has_read, status
from ssh_keepalive import sshd_config

CASES = Path(__file__).resolve().parents[1] / "cases"
# Beside the cases: matches that fit everybody, all of whose values then come before any global of the next policy.
MORE = {
    "nothing": "false",
    "networks-of-everybody": "{unresponsive_timeout: 2m, match: [{address: [0.0.0.0/0, '::/0'], "
    "unresponsive_timeout: 1h}]}",
    "all-users": "{client_alive_interval: 50, match: [{user: '*', client_alive_interval: 55}]}",
    "all-users-none": "{unresponsive_timeout: 2m, match: [{user: '*', unresponsive_timeout: 1d}]}",
    "group-of-root": "{unresponsive_timeout: 2m, match: [{group: root, unresponsive_timeout: 1h}]}",
    "idle": "{idle_timeout: 2m, idle_command_timeout: 1h, idle_fallback: tmout}",
}

# In one process: what the module does at each boot, but for the 0.2 s that its start takes.
WALK = """\
import json, os, sys, types
import cc_ssh_keepalive
cloud = types.SimpleNamespace(distro=types.SimpleNamespace(get_option=lambda name, default: default))
policies, walk, files = json.load(sys.stdin)
found = []
for name in walk:
    try:
        cc_ssh_keepalive.handle("ssh_keepalive", {"ssh_keepalive": policies[name]}, cloud)
        said = ""
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
    texts = [open(file).read() if os.path.exists(file) else None for file in files]
    found.append((said, texts))
json.dump(found, sys.stdout)
"""
FILES = (DROP_IN, "/etc/profile.d/zz-ssh-keepalive.sh", MAIN)


def policies() -> dict[str, object]:
    cases = {
        file.parent.name: yaml.safe_load(file.read_text())["ssh_keepalive"] for file in CASES.glob("*/user-data.yaml")
    }
    return {**cases, **{name: yaml.safe_load(text) for name, text in MORE.items()}}


def all_pairs(names: list[str]) -> list[str]:
    """Return a walk in which every name follows every other one, once (Hierholzer)."""
    left = {name: [other for other in names if other != name] for name in names}
    walk: list[str] = []
    stack = [names[0]]
    while stack:
        if left[stack[-1]]:
            stack.append(left[stack[-1]].pop())
        else:
            walk.append(stack.pop())
    return walk


def walked(machine: Machine, walk: list[str]) -> list[tuple[str, list[str | None]]]:
    text = json.dumps([policies(), walk, FILES])
    answer = machine.run("python3", "-c", WALK, input=text, timeout=600)
    return json.loads(answer.stdout)


def problems(machine: Machine, names: list[str]) -> list[str]:
    """Return what is another after some policy than after none."""
    fresh = dict(zip(names, walked(machine, [one for name in names for one in ("nothing", name)])[1::2]))
    walk = all_pairs(names)
    assert len(walk) == len(names) * (len(names) - 1) + 1
    found = []
    before, *after = walked(machine, ["nothing", *walk])
    for previous, name, (said, texts) in zip(["nothing", *walk], walk, after):
        wanted = fresh[name][1] if not fresh[name][0] else before[1]
        # What sshd does by default needs no block in the main file, and does not take one away.
        without_block = [*texts[:2], sshd_config.without_block(texts[2] or "")]
        if said != fresh[name][0] or wanted not in (texts, without_block):
            found.append(f"{name} after {previous}: {said or texts}, wanted {fresh[name]}")
        before = (said, texts)
    return found


@pytest.fixture(scope="module", params=[False, True], ids=["drop-in", "include-in-block"])
def has_include(request: pytest.FixtureRequest) -> bool:
    return not request.param


@pytest.fixture
def machine(suite: str, has_include: bool) -> Iterator[Machine]:
    with Machine(suite) as machine:
        bake(machine)
        machine.boot()
        machine.wait()
        machine.run("systemctl", "stop", "ssh")
        if not has_include:
            machine.sh(f"sed -i /^Include/d {MAIN}")
        yield machine


@pytest.mark.slow
def test_all_after_all(machine: Machine) -> None:
    names = sorted(policies())
    assert problems(machine, names) == []
    # With sshd running again, the last one of them is in effect.
    walked(machine, ["networks-of-everybody", "three-minutes"])
    machine.run("systemctl", "start", "ssh")
    assert status(machine).code == 0


@pytest.mark.parametrize("end", ["forky", pytest.param("bullseye", marks=pytest.mark.slow)])
def test_some_after_some(end: str) -> None:
    names = ["nothing", "networks-of-everybody", "all-users", "three-minutes", "idle", "match"]
    with Machine(end) as machine:
        bake(machine)
        machine.boot()
        machine.wait()
        machine.run("systemctl", "stop", "ssh")
        assert problems(machine, names) == []
        cases = [file for file in CASES.glob("*/openssh-*.conf") if file.parent.name in names]
        version = machine.release.openssh if end == "bullseye" else "10.6"
        golden = {file.parent.name: file.read_text() for file in cases if file.stem == f"openssh-{version}"}
        assert golden
        for name, (said, texts) in zip(golden, walked(machine, list(golden))):
            assert (said, texts[0]) == ("", golden[name])


@pytest.mark.parametrize("end", ["bullseye", "forky"])
@pytest.mark.slow
def test_an_image_whose_instance_had_another_policy(end: str) -> None:
    with Machine(end, f"#cloud-config\nssh_keepalive: {MORE['networks-of-everybody']}\n") as machine:
        bake(machine)
        machine.boot()
        machine.wait()
        assert status(machine).code == 0
        # As an image of it would be started
        machine.reseed("#cloud-config\nssh_keepalive:\n  unresponsive_timeout: 3m\n")
        machine.reboot()
        machine.wait()
        assert json.loads(machine.run("cat", "/run/cloud-init/result.json").stdout)["v1"]["errors"] == []
        assert "# policy" in machine.run("cat", DROP_IN).stdout
        assert has_read(machine, re.findall("ClientAliveInterval .*", machine.run("cat", DROP_IN).stdout)[0])
        found = status(machine)
        assert (found.code, found.found["policy"]) == (0, {"unresponsive_timeout": 180})
