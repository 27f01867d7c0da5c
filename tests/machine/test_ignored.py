"""What cloud-init ignores, or never runs: status and the boot say so, and what they advise works as it is printed."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jsonschema
import pytest
from baking import DROP_IN, bake, effective
from machine import SEED, Machine

SCHEMA = json.loads((Path(__file__).resolve().parents[2] / "schema/status.schema.json").read_text())
RAW = "/var/lib/cloud/instance/user-data.txt"
SINGLE = "cloud-init single --name ssh_keepalive --frequency always"
COPY = f"cp {RAW} FILE, correct that in FILE, then ssh-keepalive apply FILE"
NOT_THERE = f"asks for a policy, and there is no {DROP_IN}"
POLICY = "#cloud-config\nssh_keepalive: {unresponsive_timeout: 20s}\n"
NOTE = "ssh-keepalive-note.service"


def mime(text: str) -> str:
    body = base64.encodebytes(text.encode()).decode()
    return (
        "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=X\n\n--X\n"
        f"Content-Type: text/cloud-config\nContent-Transfer-Encoding: base64\n\n{body}\n--X--\n"
    )


class Case(NamedTuple):
    """User-data, the reason that is told, the remedy, the script that corrects FILE, and what else is there.

    `image` is a line for cloud.cfg.d, and one that sshd reads before the policy; `kernel` is from its command line.
    """

    user_data: str | bytes
    reason: str
    remedy: str = COPY
    correction: str = ""
    image: str = ""
    vendor: str = ""
    kernel: str = ""


TAB = "not YAML: a tab, indent with spaces"
IGNORED = "cloud-init has ignored ssh_keepalive in user-data: " + RAW
OTHER = "ClientAliveInterval 7"
OVERRIDDEN = (
    "ClientAliveInterval is 7 where INTERVAL is expected, /etc/ssh/sshd_config.d/00-a.conf:1 overrides it: "
    "remove that line and restart sshd"
)
REPAIRED = "rm /etc/ssh/sshd_config.d/00-a.conf; systemctl restart ssh"
CASES = {
    "dashes": Case(
        "---\n" + POLICY,
        f"{IGNORED}:1:1: the first line is not #cloud-config: cloud-init would ignore all of it",
        correction="sed -i 1d FILE",
    ),
    "a-space-in-the-header": Case(
        POLICY.replace("#cloud", "# cloud"),
        f"{IGNORED}:1:1: the first line is not #cloud-config: cloud-init would ignore all of it",
        correction="sed -i '1s/ //' FILE",
    ),
    "a-tab-elsewhere": Case(
        POLICY + "runcmd:\n\t- echo\n", f"{IGNORED}:4:1: {TAB}", correction="sed -i 's/\t/  /' FILE"
    ),
    "gzip-with-a-tab": Case(
        gzip.compress((POLICY + "runcmd:\n\t- echo\n").encode()),
        f"{IGNORED}:4:1: {TAB}",
        correction="zcat FILE | sed 's/\t/  /' >/x; mv /x FILE",
    ),
    "mime-with-a-tab": Case(
        mime(POLICY + "runcmd:\n\t- echo\n"),
        f"{IGNORED} (part 1):4:1: {TAB}",
        correction=f"printf '{POLICY}' >FILE".replace("\n", "\\n"),
    ),
    "base64": Case(
        base64.b64encode(POLICY.encode()),
        f"{IGNORED}:2:1: base64 around all of it, which cloud-init does not take off here",
        f"ssh-keepalive apply {RAW}",
    ),
    "a-template": Case(
        "## template: jinja\n" + POLICY.replace("20s", "{{ nonsuch }}") + "\tx: 1\n",
        f"{IGNORED}:3:1: a template that cloud-init could not render",
        correction="sed -i '1d; $d; s/{{ nonsuch }}/20s/' FILE",
    ),
    "allow_userdata": Case(
        POLICY,
        f"{IGNORED}:2:1: /etc/cloud/cloud.cfg.d/91_image.cfg has allow_userdata: false",
        f"ssh-keepalive apply {RAW}",
        image="allow_userdata: false",
    ),
    "a-list-in-user-data": Case(
        POLICY + "cloud_init_modules: [users_groups, ssh]\n",
        f"user-data {NOT_THERE}: user-data, {RAW}:3:1, names cloud_init_modules without ssh_keepalive",
        SINGLE,
    ),
    "a-list-in-vendor-data": Case(
        POLICY,
        f"user-data {NOT_THERE}: vendor-data, {RAW.replace('user', 'vendor')}:2:1, "
        "names cloud_init_modules without ssh_keepalive",
        SINGLE,
        vendor="#cloud-config\ncloud_init_modules: [users_groups, ssh]\n",
    ),
    "vendor-data-with-a-tab": Case(
        "#cloud-config\n{}\n",
        f"{IGNORED.replace('user', 'vendor')}:4:1: {TAB}",
        COPY.replace("user", "vendor"),
        "sed -i 's/\t/  /' FILE",
        vendor=POLICY + "runcmd:\n\t- echo\n",
    ),
    "what-nobody-can-enforce": Case(
        POLICY.replace("20s", "1s"),
        "user-data asks for what is refused: ssh_keepalive.unresponsive_timeout: '1s': "
        "expected a time from 15s to 1d, for example 3m",
        "ssh-keepalive apply FILE, with a policy that it can enforce",
        f"sed s/1s/20s/ {RAW} >FILE",
    ),
    "what-sshd-refuses": Case(
        POLICY, f"user-data {NOT_THERE}: {OVERRIDDEN}", f"correct that, then {SINGLE}", REPAIRED, f"{{}}\n{OTHER}"
    ),
    "what-sshd-refuses-of-the-images": Case(
        "#cloud-config\n{}\n",
        f"/etc/cloud/cloud.cfg.d/91_image.cfg {NOT_THERE}: {OVERRIDDEN}",
        f"correct that, then {SINGLE}",
        REPAIRED,
        f"ssh_keepalive: 20s\n{OTHER}".replace("20s", "{unresponsive_timeout: 20s}"),
    ),
    "what-sshd-refuses-of-vendor-data": Case(
        "#cloud-config\n{}\n",
        f"vendor-data {NOT_THERE}: {OVERRIDDEN}",
        f"correct that, then {SINGLE}",
        REPAIRED,
        f"{{}}\n{OTHER}",
        vendor=POLICY,
    ),
    "what-sshd-refuses-of-the-kernels": Case(
        "#cloud-config\n{}\n",
        f"the kernel's command line {NOT_THERE}: {OVERRIDDEN}",
        f"correct that, then {SINGLE}",
        REPAIRED,
        f"{{}}\n{OTHER}",
        kernel="cc: ssh_keepalive: {unresponsive_timeout: 20s} end_cc",
    ),
}
ORDINARY = {"a-tab-elsewhere": "bullseye", "a-list-in-user-data": "forky"}


@pytest.fixture(scope="module")
def image(suite: str) -> Iterator[Machine]:
    """A machine of each release with the module, switched off."""
    with Machine(suite) as machine:
        bake(machine)
        yield machine


def boot(machine: Machine, case: Case) -> None:
    """Boot a machine as a new instance, with nothing of an earlier one."""
    machine.reseed("")
    seed = machine.root / SEED
    user_data = case.user_data
    (seed / "user-data").write_bytes(user_data.encode() if isinstance(user_data, str) else user_data)
    if case.vendor:
        (seed / "vendor-data").write_text(case.vendor)
    (machine.root / "etc/cloud/cloud.cfg.d/91_image.cfg").write_text(case.image.split("\n")[0] + "\n")
    (machine.root / DROP_IN[1:]).unlink(missing_ok=True)
    (machine.root / "etc/ssh/sshd_config.d/00-a.conf").unlink(missing_ok=True)
    for line in case.image.splitlines()[1:]:
        (machine.root / "etc/ssh/sshd_config.d/00-a.conf").write_text(line + "\n")
    # nspawn hands what follows its own --boot to process 1, where cloud-init looks for it in a container.
    machine.boot(*(("--boot", case.kernel) if case.kernel else ()))
    machine.wait()


def status(machine: Machine, code: int) -> list[str]:
    answer = machine.run("ssh-keepalive", "status", check=False)
    found = json.loads(machine.run("ssh-keepalive", "status", "--json", check=False).stdout)
    jsonschema.Draft4Validator(SCHEMA).validate(found)
    assert answer.returncode == code, answer.stdout
    assert found["request"]["runs_module"] == ("registered: cloud-init runs the module" in answer.stdout)
    return answer.stdout.splitlines()


def failed(machine: Machine) -> list[str]:
    return machine.sh("systemctl --failed --plain --no-legend | cut -d' ' -f1").stdout.split()


def follow(machine: Machine, remedy: str, correction: str) -> None:
    """Do as a remedy says: what is a command is run as it is printed."""
    steps = re.split(", then |, ", remedy)
    if steps[-1].startswith("with "):
        steps.reverse()
    for step in steps:
        script = correction if step.startswith(("correct that", "with ")) else step
        assert re.match("cp|sed|zcat|printf|rm|ssh-keepalive|cloud-init", script), script
        machine.sh(script.replace("FILE", "/FILE"))


def interval(machine: Machine) -> str:
    return "2" if machine.release.openssh == "9.2" else "5"


def told_and_remedied(machine: Machine, name: str) -> None:
    case = CASES[name]
    boot(machine, case)
    try:
        reason = case.reason.replace("INTERVAL", interval(machine))
        assert status(machine, 1)[:2] == [f"not enforced: {reason}", f"remedy: {case.remedy}"]
        assert NOTE in failed(machine)
        said = machine.run("journalctl", "-b", "-o", "cat", "-u", NOTE).stdout
        assert f"ssh-keepalive: not enforced: {reason}: {case.remedy}\n" in said
        follow(machine, case.remedy, case.correction)
        assert effective(machine)["clientaliveinterval"] == interval(machine)
        found = status(machine, 0)
        assert found[0].startswith("enforced: ")
        if case.remedy.endswith(SINGLE):
            # The way that it came
            assert f"asked by: {reason.partition(' asks')[0]}" in found
        assert NOTE not in failed(machine)
    finally:
        machine.poweroff()


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) for n in CASES])
def test_what_is_ignored_is_told_and_the_remedy_works(image: Machine, name: str) -> None:
    told_and_remedied(image, name)


@pytest.mark.parametrize("name", ORDINARY)
def test_it_is_told_on_one_release(name: str, machines: Callable[..., Machine]) -> None:
    machine = machines(ORDINARY[name])
    bake(machine)
    told_and_remedied(machine, name)


@pytest.fixture
def switched_off(image: Machine) -> Iterator[Machine]:
    """The machine, which the end of the test switches off."""
    yield image
    image.poweroff()


@pytest.mark.slow
def test_a_boot_that_asks_for_nothing_runs_nothing(switched_off: Machine) -> None:
    boot(switched_off, Case("#cloud-config\n{}\n", ""))
    assert switched_off.run("systemctl", "show", "-P", "Result", NOTE).stdout == "exec-condition\n"
    assert NOTE not in failed(switched_off)


@pytest.mark.slow
def test_what_is_in_effect_fails_nothing_until_it_is_not(switched_off: Machine) -> None:
    machine = switched_off
    boot(machine, Case(POLICY, ""))
    assert machine.run("systemctl", "show", "-P", "Result", NOTE).stdout == "success\n"
    machine.reboot()
    machine.wait()
    assert machine.run("systemctl", "show", "-P", "Result", NOTE).stdout == "success\n"
    machine.sh(f"echo '{OTHER}' >/etc/ssh/sshd_config.d/00-a.conf")
    machine.reboot()
    machine.wait()
    assert NOTE in failed(machine)
    assert machine.run("systemctl", "is-active", "ssh").stdout == "active\n"
    machine.sh("rm /etc/ssh/sshd_config.d/00-a.conf; systemctl restart ssh")
    machine.sh(f"for i in $(seq 100); do systemctl -q is-failed {NOTE} || exit 0; sleep 0.1; done; exit 1")


@pytest.mark.slow
def test_a_systemd_that_does_not_answer_fails_nothing_and_holds_up_no_boot(switched_off: Machine) -> None:
    machine = switched_off
    boot(machine, Case(POLICY, ""))
    wrapper = '#!/bin/sh\ncase " $* " in *" show -p "*) sleep 60 ;; esac\nexec "$0.real" "$@"\n'
    machine.run("tee", "/systemctl", input=wrapper)
    machine.sh("place=$(command -v systemctl); mv $place $place.real; chmod 755 /systemctl; mv /systemctl $place")
    try:
        machine.reboot()
        machine.wait()
        assert NOTE not in failed(machine)
        # Not known
        assert machine.run("systemctl", "show", "-P", "ExecMainStatus", NOTE).stdout == "2\n"
        assert "ssh-keepalive: unknown: " in machine.run("journalctl", "-b", "-o", "cat", "-u", NOTE).stdout
    finally:
        machine.sh("place=$(command -v systemctl); mv $place.real $place")


@pytest.mark.slow
def test_an_sshd_that_waits_for_the_end_of_cloud_init_makes_no_cycle() -> None:
    with Machine("trixie", POLICY) as machine:
        bake(machine)
        units = machine.root / "etc/systemd/system"
        (units / "ssh.service.d").mkdir()
        (units / "ssh.service.d/wait.conf").write_text("[Unit]\nAfter=cloud-final.service\n")
        # As where cloud-init is not ordered after the end of the boot: not Debian's, whose own would make the cycle.
        final = (machine.root / "usr/lib/systemd/system/cloud-final.service").read_text()
        (units / "cloud-final.service").write_text(final.replace("After=multi-user.target\n", ""))
        machine.boot()
        machine.wait()
        assert machine.run("systemctl", "is-active", "ssh", "cloud-final").stdout == "active\nactive\n"
        assert "ordering cycle" not in machine.run("journalctl", "-b", "--no-pager").stdout
        assert status(machine, 0)
