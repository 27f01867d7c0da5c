import os

import pytest
from ssh_keepalive.machine.apply import apply
from ssh_keepalive.machine.problem import SshdError
from ssh_keepalive.policy import Policy
from states import POLICY


@pytest.fixture(autouse=True)
def signals(monkeypatch):
    """Keep signals from real processes; what should come of one, a test has happen itself."""
    sent = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    return sent


@pytest.fixture
def refused(machine):
    """Apply a policy that is not enforced; return the message after making sure that no file changed."""

    def refuse(policy=Policy(unresponsive_timeout=180), host=None, error=SshdError):  # noqa: B008
        before = machine.files()
        with pytest.raises(error) as caught:
            apply(policy, host or machine.host())
        assert machine.files() == before
        assert len(caught.value.args) == 1
        return machine.shown(caught.value)

    return refuse


@pytest.fixture
def enforced(machine):
    """A machine with a policy, and an sshd that has read it."""
    apply(POLICY, machine.host())
    machine.start()
    machine.forget_calls()
    return machine


@pytest.fixture
def running(machine):
    """Return a machine with an older policy, and an sshd that has read it."""
    apply(Policy(client_alive_interval=99, client_alive_count_max=2), machine.host())
    machine.start()
    machine.forget_calls()
    return machine
