"""What comes of a restart that fails: sshd runs with its old file again, or it is told how it is."""

import time

import pytest
from ssh_keepalive.machine import host, service
from ssh_keepalive.machine.apply import apply
from ssh_keepalive.machine.problem import SshdError
from ssh_keepalive.policy import Policy

POLICY = Policy(unresponsive_timeout=180)
OTHER = Policy(unresponsive_timeout=240)


def test_an_sshd_that_does_not_come_back_gets_its_old_file(running, refused):
    old = running.file.read_text()
    running.set("systemctl", dies_of="Interval 5")
    assert refused() == (
        "after its restart ssh.service is failed: exit-code; the old configuration is restored, sshd is active"
    )
    assert running.unit()["ActiveState"] == "active"
    assert running.sshd_has_read() == old
    assert running.verbs() == ["try-restart ssh.service", "reset-failed ssh.service", "restart ssh.service"]


def test_an_sshd_that_does_not_come_back_with_its_old_file_either_is_told(running, refused):
    running.set("systemctl", dies_of="Interval")
    assert refused() == (
        "after its restart ssh.service is failed: exit-code; the old configuration is restored, sshd is failed"
    )
    assert running.unit()["ActiveState"] == "failed"
    assert running.verbs() == ["try-restart ssh.service", "reset-failed ssh.service", "restart ssh.service"]


def test_an_sshd_that_systemd_would_try_again_later_is_started_with_its_old_file_at_once(running, refused):
    old = running.file.read_text()
    running.set("systemctl", dies_of="Interval 5", tries_again_after=99)
    assert refused() == (
        "after its restart ssh.service is activating: exit-code; the old configuration is restored, sshd is active"
    )
    assert running.sshd_has_read() == old
    assert running.verbs() == ["try-restart ssh.service", "reset-failed ssh.service", "restart ssh.service"]


def test_a_restart_that_is_refused_leaves_the_old_file(running, refused):
    running.set("systemctl", answers={"try-restart": (1, "", "Access denied\n")})
    assert refused() == (
        "ssh.service was not restarted: Access denied; the old configuration is restored, sshd is active"
    )


def test_whoever_interrupts_a_restart_finds_sshd_with_the_old_policy(running, monkeypatch):
    old = running.file.read_text()
    restart = service.restart

    def interrupted(unit, machine):
        restart(unit, machine)
        raise KeyboardInterrupt

    monkeypatch.setattr(service, "restart", interrupted)
    with pytest.raises(KeyboardInterrupt):
        apply(OTHER, running.host())
    assert running.file.read_text() == running.sshd_has_read() == old


def test_a_listener_that_dies_of_its_signal_is_told(machine, signals, monkeypatch):
    monkeypatch.setattr("ssh_keepalive.machine.restarts._SIGNAL_SECONDS", 0.1)
    machine.set_unit(LoadState="not-found")
    machine.start_by_hand(5000900)
    with pytest.raises(SshdError) as caught:
        apply(POLICY, machine.host(attended=True))
    assert machine.shown(caught.value) == (
        "sshd (process 5000900, port 22) does not listen again after kill -HUP: start it by hand; "
        "the old configuration is restored, sshd is in an unknown state"
    )
    assert not machine.file.exists()
    assert [pid for pid, _ in signals] == [5000900, 5000900]


def test_a_way_back_on_which_all_hangs_tries_all_and_says_how_it_ended(running, refused, monkeypatch):
    monkeypatch.setitem(host.Host.run.__kwdefaults__, "seconds", 1)
    running.set("systemctl", hangs={"try-restart": 60})
    began = time.monotonic()
    machine = running.host()
    machine.patience = 1
    said = refused(host=machine)
    assert said == (
        "systemctl --job-mode=ignore-dependencies --no-block try-restart ssh.service did not answer within 1.0 s; "
        "the old configuration is restored, sshd is active"
    )
    assert running.verbs() == ["try-restart ssh.service"] * 2
    assert time.monotonic() - began < 20


def test_a_way_back_that_meets_a_try_of_systemds_own_waits_until_sshd_runs(running, refused):
    running.set("systemctl", dies_of="Interval 5", starting=3, retries=1)
    assert (
        refused()
        == "after its restart ssh.service is failed: exit-code; the old configuration is restored, sshd is active"
    )
    assert running.verbs() == ["try-restart ssh.service", "reset-failed ssh.service", "restart ssh.service"]


def test_the_way_back_has_time_of_its_own(running, monkeypatch):
    running.set("systemctl", dies_of="Interval 5")
    left = []
    restart, recover = service.restart, service.recover

    def in_no_time(unit, machine):
        try:
            restart(unit, machine)
        finally:
            machine.extend(-machine.seconds_left)

    def counted(unit, machine):
        left.append(machine.seconds_left)
        state = recover(unit, machine)
        left.append(machine.seconds_left)
        return state

    monkeypatch.setattr(service, "restart", in_no_time)
    monkeypatch.setattr(service, "recover", counted)
    with pytest.raises(SshdError) as caught:
        apply(POLICY, running.host())
    assert str(caught.value).endswith("; the old configuration is restored, sshd is active")
    assert left[0] <= 0 < left[1]
