"""The restart of a unit, and what brings it back."""

import pytest
from ssh_keepalive.machine import service, units
from ssh_keepalive.machine.problem import SshdError


def test_a_unit_that_is_gone_meanwhile(machine):
    machine.start()
    (found,) = units.of_sshd(machine.host())
    machine.set_unit(LoadState="not-found")
    with pytest.raises(SshdError, match=r"^ssh.service is gone$"):
        service.restart(found, machine.host())
    assert service.recover(found, machine.host()) == "in an unknown state"
