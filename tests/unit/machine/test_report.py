"""A state in words and as JSON."""

import datetime
import json
from pathlib import Path

import pytest
from jsonschema import Draft4Validator
from ssh_keepalive.machine import processes
from ssh_keepalive.machine.instance import Request
from ssh_keepalive.machine.problem import Problem
from ssh_keepalive.machine.report import as_json, as_text
from ssh_keepalive.machine.sessions import Session
from ssh_keepalive.machine.state import ServerState, State
from ssh_keepalive.machine.verification import Deviation
from ssh_keepalive.openssh import translate
from ssh_keepalive.policy import Entry, Policy

SCHEMA = json.loads((Path(__file__).resolve().parents[3] / "schema/status.schema.json").read_text())
ENTRY = Entry("user", ("root", "b*"), client_alive_interval=0, client_alive_count_max=3)
POLICY = Policy(unresponsive_timeout=180, match=(ENTRY,))
SERVER = ServerState(
    "ssh.service (process 7, port 22)",
    "/usr/sbin/sshd",
    "/etc/ssh/sshd_config",
    "ssh.service",
    7,
    ("0.0.0.0:22",),
    True,
)
FULL = State(
    "enforced",
    policy=POLICY,
    request=Request({"unresponsive_timeout": "3m"}, ("user-data", "/etc/x.cfg")),
    is_as_requested=True,
    version=(10, 0),
    settings=translate(POLICY, (10, 0)),
    promise="a client is disconnected",
    servers=(SERVER,),
    older_sessions=(Session("root", 8, 7, "192.0.2.7", 0), Session("anna", 9, 7, None, 8640000)),
    unregistered=(),
    notes=("a fact",),
)


@pytest.fixture(autouse=True)
def epoch(monkeypatch):
    """Have the machine have booted at the epoch, with 100 ticks a second."""
    monkeypatch.setattr(processes, "on_the_clock", lambda ticks: ticks / 100)


def test_every_fact_is_a_line():
    assert as_text(FULL).splitlines() == [
        "enforced: a client is disconnected",
        'policy: {"match": [{"client_alive_count_max": 3, "client_alive_interval": 0, "user": ["root", "b*"]}], '
        '"unresponsive_timeout": 180}',
        "asked by: user-data, /etc/x.cfg",
        "openssh: 10.0",
        "expected: ClientAliveInterval 5, ClientAliveCountMax 35",
        "expected for User root,b*: ClientAliveInterval 0, ClientAliveCountMax 3",
        "sshd: ssh.service (process 7, port 22) has read the configuration as it is now",
        "older settings: root, process 8 from 192.0.2.7, since 1970-01-01T00:00:00Z",
        "older settings: anna, process 9, since 1970-01-02T00:00:00Z",
        "registered: cloud-init runs the module",
        "note: a fact",
    ]


def test_problems_come_first_each_with_its_remedy():
    problems = (Problem("a is so", "do b"), Problem("c is so", "do d"))
    found = FULL._replace(verdict="not-enforced", problems=problems, is_as_requested=False)
    lines = as_text(found).splitlines()
    assert lines[:4] == ["not enforced: a is so", "remedy: do b", "problem: c is so", "remedy: do d"]
    assert "asked by: ssh-keepalive apply, or earlier user-data" in lines
    assert 'cloud-init\'s configuration: {"unresponsive_timeout": "3m"} by user-data, /etc/x.cfg' in lines


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"pid": None}, "{} does not run, it reads the configuration as it is when it starts"),
        ({"has_read": False, "changed": ("/a", "/b")}, "{} has read the configuration before /a, /b changed"),
        ({"has_read": None, "changed": ("/a", "/b")}, "what {} has read is not known, /a, /b may have changed since"),
        ({"has_read": None}, "what {} has read is not known"),
    ],
)
def test_what_a_server_has_read(changes, line):
    lines = as_text(FULL._replace(servers=(SERVER._replace(**changes),))).splitlines()
    assert "sshd: " + line.format(SERVER.name) in lines


@pytest.mark.parametrize(
    ("verdict", "code"),
    [
        ("enforced", 0),
        ("not-configured", 0),
        ("registered", 0),
        ("not-enforced", 1),
        ("not-registered", 1),
        ("unknown", 2),
    ],
)
def test_exit_codes(verdict, code):
    assert State(verdict).exit_code == code
    assert as_text(State(verdict)) == verdict.replace("-", " ")
    Draft4Validator(SCHEMA).validate(as_json(State(verdict)))


def test_a_state_as_json():
    deviation = Deviation("ClientAliveInterval", "5", "7", " for Match all", "/etc/x:3", ("all",))
    found = as_json(FULL._replace(verdict="not-enforced", problems=(Problem("a", "b"),), deviations=(deviation,)))
    Draft4Validator(SCHEMA).validate(json.loads(json.dumps(found)))
    alive = {"ClientAliveInterval": "5", "ClientAliveCountMax": "35"}
    assert found == {
        "verdict": "not-enforced",
        "problems": [{"message": "a", "remedy": "b"}],
        "notes": ["a fact"],
        "policy": POLICY.section(),
        "request": {
            "section": {"unresponsive_timeout": "3m"},
            "sources": ["user-data", "/etc/x.cfg"],
            "is_policy": True,
            "runs_module": True,
        },
        "openssh": "10.0",
        "expected": alive,
        "expected_in_match": [
            {"match": "User root,b*", "expected": {"ClientAliveInterval": "0", "ClientAliveCountMax": "3"}}
        ],
        "deviations": [
            {
                "keyword": "ClientAliveInterval",
                "expected": "5",
                "reported": "7",
                "connections": " for Match all",
                "set_by": "/etc/x:3",
            }
        ],
        "servers": [
            {
                "name": "ssh.service (process 7, port 22)",
                "program": "/usr/sbin/sshd",
                "main": "/etc/ssh/sshd_config",
                "unit": "ssh.service",
                "pid": 7,
                "addresses": ["0.0.0.0:22"],
                "has_read": True,
                "changed": [],
            }
        ],
        "older_sessions": [
            {"user": "root", "pid": 8, "address": "192.0.2.7", "since": "1970-01-01T00:00:00Z"},
            {"user": "anna", "pid": 9, "address": None, "since": "1970-01-02T00:00:00Z"},
        ],
        "unregistered": [],
    }


def test_the_schema_is_one():
    Draft4Validator.check_schema(SCHEMA)


def test_a_section_that_is_no_json():
    asked = Request({"since": datetime.date(2026, 1, 2), 7: True, "a": None}, ("user-data",))
    found = State("not-enforced", request=asked)
    line = 'cloud-init\'s configuration: {"7": true, "a": null, "since": "2026-01-02"} by user-data'
    assert as_text(found).splitlines()[1] == line
    assert as_json(found)["request"]["section"] == {"7": True, "a": None, "since": "2026-01-02"}


def test_a_section_of_aliases_takes_no_memory():
    section = ["x"] * 10
    for _ in range(20):
        section = [section] * 10
    found = as_json(State("not-enforced", request=Request(section, ("user-data",))))
    assert len(json.dumps(found)) < 100000
