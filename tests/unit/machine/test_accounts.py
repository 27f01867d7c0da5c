"""Users and groups are looked up in a process of its own."""

import time

import pytest
from ssh_keepalive.machine import accounts
from ssh_keepalive.machine.accounts import Account, fitting, several

ROOT = Account("root", ("root",))


@pytest.mark.parametrize(
    ("users", "groups", "found"),
    [
        (["root"], [], ROOT),
        ([], ["root"], ROOT),
        ([], ["ro?t"], ROOT),
        (["r*t", "!toor"], [], ROOT),
        (["root"], ["root"], ROOT),
        (["nobody"], ["root"], None),
        ([], ["!root", "*"], "another"),
        ([], ["no-such-group"], None),
        (["no-such-user"], [], None),
    ],
)
def test_somebody_whom_patterns_fit(machine, users, groups, found):
    (account,) = fitting([(users, groups)], machine.host())
    if found == "another":
        assert account.user != "root"
        assert "root" not in account.groups
    else:
        assert account == found


def test_nothing_is_started_for_nothing(machine):
    assert fitting([], machine.host(path="/nowhere")) == []


def test_each_pair_has_an_answer_of_its_own(machine):
    assert fitting([(["root"], []), (["no-such-user"], []), ([], ["root"])], machine.host()) == [ROOT, None, ROOT]


def test_several_members_each_once(machine):
    (found,) = several([([], ["*"])], machine.host(), 3)
    assert len({account.user for account in found}) == 3
    assert several([(["root"], ["root", "r*"]), (["no-such-user"], [])], machine.host(), 3) == [[ROOT], []]


def test_a_name_service_that_does_not_answer_is_waited_for_once(machine, monkeypatch):
    monkeypatch.setattr(accounts, "_SECONDS", 0.5)
    monkeypatch.setattr(accounts.sys, "executable", str(machine.bin / "bash"))
    machine.set("bash", hangs={"-ISc": 60})
    host = machine.host()
    began = time.monotonic()
    assert fitting([(["root"], [])], host) is None
    assert not host.names_answer
    assert fitting([(["root"], [])], host) is None
    assert time.monotonic() - began < 20
    assert len(machine.calls("bash")) == 1


def test_what_makes_no_sense_is_no_answer(machine, monkeypatch):
    monkeypatch.setattr(accounts.sys, "executable", str(machine.bin / "bash"))
    assert fitting([(["root"], [])], machine.host()) is None
