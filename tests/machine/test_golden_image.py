"""What becomes of an image that is captured from a configured machine, and of one whose /usr is read-only."""

from __future__ import annotations

from typing import Callable

import pytest
from baking import DROP_IN, bake
from boots import READ_ONLY_USR, interval
from machine import Machine
from serving import status


def sshd_process(machine: Machine) -> str:
    return machine.run("systemctl", "show", "--property=MainPID", "ssh").stdout


def test_a_captured_image_carries_no_policy_and_its_machines_get_their_own_with_a_read_only_usr(
    oldest_or_newest: str, machines: Callable[..., Machine]
) -> None:
    machine = machines(oldest_or_newest, "#cloud-config\nssh_keepalive: {client_alive_interval: 40}\n")
    bake(machine)
    machine.boot()
    machine.wait()
    assert interval(machine) == "40"
    process = sshd_process(machine)
    assert process != "MainPID=0\n"
    # 24.1 and later take files of their own away with --configs; the drop-in is none of those.
    configs = ("--configs", "all") if float(machine.release.cloud_init) >= 24.1 else ()
    machine.run("cloud-init", "clean", "--logs", *configs)
    left = machine.run("ls", "-A", "/etc/ssh/sshd_config.d").stdout
    # Debian 11's cloud-init has no clean.d: the way there is uninstall, or enabled: false.
    assert left == ("00-ssh-keepalive.conf\n" if oldest_or_newest == "bullseye" else "")
    assert sshd_process(machine) == process
    machine.poweroff()

    machine.reseed("#cloud-config\nssh_keepalive: {client_alive_interval: 41}\n")
    machine.boot(READ_ONLY_USR)
    machine.wait()
    assert "Read-only file system" in machine.run("touch", "/usr/bin/x", check=False).stderr
    assert interval(machine) == "41"
    assert "ClientAliveInterval 41\n" in machine.run("cat", DROP_IN).stdout


@pytest.mark.slow
def test_a_policy_of_the_machine_that_was_cloned_is_not_what_the_clone_has_asked_for(
    suite: str, machines: Callable[..., Machine]
) -> None:
    machine = machines(suite, "#cloud-config\nssh_keepalive: {client_alive_interval: 40}\n")
    bake(machine)
    machine.boot()
    machine.wait()
    assert status(machine).code == 0
    machine.poweroff()

    # Nobody has cleaned it, and what it asks for is refused.
    (machine.root / "etc/ssh/sshd_config.d/00-a.conf").write_text("TCPKeepAlive yes\n")
    machine.reseed("#cloud-config\nssh_keepalive: {client_alive_interval: 41, tcp_keep_alive: false}\n")
    for said in ("was refused, this is an older policy", "this one is from before this instance"):
        machine.boot()
        machine.wait()
        assert "ClientAliveInterval 40\n" in machine.run("cat", DROP_IN).stdout
        found = status(machine)
        assert (found.code, said in found.problems) == (1, True), found.problems
        machine.poweroff()
