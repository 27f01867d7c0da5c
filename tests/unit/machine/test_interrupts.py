"""Ctrl-C at each command that a run starts: all is as it was and said to be, or the policy is in effect."""

import _thread
import signal

import pytest
from ssh_keepalive.machine import command
from ssh_keepalive.machine.apply import apply
from ssh_keepalive.machine.interrupts import Interrupts
from ssh_keepalive.policy import Policy

OLD, NEW = Policy(unresponsive_timeout=180), Policy(unresponsive_timeout=240)


@pytest.fixture
def press(monkeypatch):
    """Have Ctrl-C pressed before the so manieth command from now on, and then before each."""
    run = command.run

    def press(number):
        left = [number]

        def pressed(*arguments):
            left[0] -= 1
            if left[0] <= 0:
                _thread.interrupt_main()
            return run(*arguments)

        monkeypatch.setattr(command, "run", pressed)
        return left

    return press


def test_an_interrupted_run_changes_nothing_or_restores_all(machine, press):
    machine.start()
    apply(OLD, machine.host())
    before, had_read = machine.files(), machine.sshd_has_read()
    snapshot = machine.snapshot()
    handler = signal.getsignal(signal.SIGINT)
    said = []
    for number in range(1, 100):
        left = press(number)
        try:
            apply(NEW, machine.host())
        except KeyboardInterrupt as error:
            said += error.args
            assert machine.files() == before
            assert machine.sshd_has_read() == had_read
        else:
            said.append("done")
            assert machine.sshd_has_read() not in (None, had_read)
        assert signal.getsignal(signal.SIGINT) is handler
        if left[0] > 0:
            break
        machine.restore(snapshot)
    assert list(dict.fromkeys(said)) == [
        "nothing was changed",
        "the old configuration is restored, sshd is active",
        "done",
    ]


def test_what_is_held_is_dropped_and_not_passed_on_as_ignored():
    with Interrupts() as interrupts:
        interrupts.hold()
        _thread.interrupt_main()
        assert callable(signal.getsignal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        _thread.interrupt_main()
