import datetime

import pytest
from ssh_keepalive.instance import Request
from ssh_keepalive.openssh import express
from ssh_keepalive.policy import Entry, Policy
from ssh_keepalive.processes import Listener, Session
from ssh_keepalive.state import Problem, State, has_older_settings

ENTRY = Entry("user", ("root", "b*"), client_alive_interval=0, client_alive_count_max=3)
POLICY = Policy(unresponsive_timeout=180, match=(ENTRY,))
FULL = State(
    "kept",
    policy=POLICY,
    request=Request({"unresponsive_timeout": "3m"}, ("user-data", "/etc/x.cfg")),
    is_as_requested=True,
    version=(10, 0),
    expression=express(POLICY, (10, 0)),
    promise="a client is dropped",
    listener=Listener(7, 1000.9, 1000.9),
    older_sessions=(
        Session("root", 8, 7, "192.0.2.7", 0.0),
        Session("anna", 9, 7, None, 86400.0),
    ),
    unregistered=(),
    notes=("a fact",),
)


def test_every_fact_is_a_line():
    assert str(FULL).splitlines() == [
        "kept: a client is dropped",
        'asked: {"match": [{"client_alive_count_max": 3, "client_alive_interval": 0, "user": ["root", "b*"]}], '
        '"unresponsive_timeout": 180}',
        "asked by: user-data, /etc/x.cfg",
        "openssh: 10.0",
        "wanted: ClientAliveInterval 45, ClientAliveCountMax 3",
        "wanted for User root,b*: ClientAliveInterval 0, ClientAliveCountMax 3",
        "sshd: process 7 has read its configuration at 1970-01-01T00:16:40Z, as it is now",
        "older settings: root, process 8 from 192.0.2.7, since 1970-01-01T00:00:00Z",
        "older settings: anna, process 9, since 1970-01-02T00:00:00Z",
        "registered: cloud-init runs the module",
        "note: a fact",
    ]


def test_problems_come_first_each_with_its_remedy():
    problems = (Problem("a is so", "do b"), Problem("c is so", "do d"))
    found = FULL._replace(verdict="not-kept", problems=problems, unread="/etc/x", is_as_requested=False)
    lines = str(found).splitlines()
    assert lines[:4] == ["not kept: a is so", "remedy: do b", "problem: c is so", "remedy: do d"]
    assert "asked by: ssh-keepalive apply, or an earlier instance" in lines
    assert 'cloud-init\'s configuration: {"unresponsive_timeout": "3m"} by user-data, /etc/x.cfg' in lines
    assert "sshd: process 7 has read its configuration at 1970-01-01T00:16:40Z, before /etc/x changed" in lines


@pytest.mark.parametrize(
    ("verdict", "code"),
    [("kept", 0), ("nothing-asked", 0), ("registered", 0), ("not-kept", 1), ("not-registered", 1), ("cannot-tell", 2)],
)
def test_exit_codes(verdict, code):
    assert State(verdict).exit_code == code
    assert str(State(verdict)) == verdict.replace("-", " ")


@pytest.mark.parametrize(
    ("began", "parent", "listener", "unread", "is_older"),
    [
        (50, 7, (7, 110, 110), False, True),
        (150, 7, (7, 110, 110), False, False),
        (150, 7, (7, 110, 110), True, True),
        # The file changed at 100; this sshd was reloaded at 120.
        (110, 7, (7, 10, 120), False, True),
        (130, 7, (7, 10, 120), False, False),
        # Restarted at 200, for another reason.
        (150, 1, (7, 200, 200), False, False),
        (50, 1, (7, 200, 200), False, True),
        # One sshd for each connection
        (50, 1, None, False, True),
        (150, 1, None, False, False),
    ],
)
def test_which_sessions_have_older_settings(began, parent, listener, unread, is_older):
    session = Session("root", 8, parent, None, began)
    assert has_older_settings(session, Listener(*listener) if listener else None, 100, unread) is is_older


def test_a_section_that_is_no_json():
    asked = Request({"since": datetime.date(2026, 1, 2), 7: True, "a": None}, ("user-data",))
    found = State("not-kept", request=asked)
    line = 'cloud-init\'s configuration: {"7": true, "a": null, "since": "2026-01-02"} by user-data'
    assert str(found).splitlines()[1] == line
    assert found.as_json()["request"]["section"] == {"7": True, "a": None, "since": "2026-01-02"}
