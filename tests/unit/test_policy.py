import json

import pytest
from ssh_keepalive.policy import Entry, Policy, PolicyError, closest, dotted, parse

PAIR = Policy(client_alive_interval=60, client_alive_count_max=3)


@pytest.mark.parametrize(
    ("section", "policy"),
    [
        (None, None),
        (True, Policy(unresponsive_timeout=180)),
        ({}, Policy(unresponsive_timeout=180)),
        ({"enabled": True}, Policy(unresponsive_timeout=180)),
        ({"unresponsive_timeout": None}, Policy(unresponsive_timeout=180)),
        ({"idle_timeout": None}, Policy(unresponsive_timeout=180)),
        ({"match": []}, Policy(unresponsive_timeout=180)),
        ({"enabled": True, "idle_fallback": "none"}, Policy(unresponsive_timeout=180)),
        (False, Policy(enabled=False)),
        ({"enabled": False, "unresponsive_timeout": "3m"}, Policy(enabled=False)),
        ({"unresponsive_timeout": 15}, Policy(unresponsive_timeout=15)),
        ({"unresponsive_timeout": "15"}, Policy(unresponsive_timeout=15)),
        ({"unresponsive_timeout": "90s"}, Policy(unresponsive_timeout=90)),
        ({"unresponsive_timeout": "1h30m"}, Policy(unresponsive_timeout=5400)),
        ({"unresponsive_timeout": "1H30"}, Policy(unresponsive_timeout=3630)),
        ({"unresponsive_timeout": "1d"}, Policy(unresponsive_timeout=86400)),
        ({"client_alive_interval": 60}, PAIR),
        ({"client_alive_interval": "1m", "client_alive_count_max": 3}, PAIR),
        ({"client_alive_interval": 60, "client_alive_count_max": None}, PAIR),
        ({"client_alive_interval": 0}, Policy(client_alive_interval=0, client_alive_count_max=3)),
        (
            {"client_alive_interval": 5, "client_alive_count_max": 100},
            Policy(client_alive_interval=5, client_alive_count_max=100),
        ),
        ({"client_alive_interval": 60, "unresponsive_timeout": None}, PAIR),
        ({"client_alive_interval": 60, "idle_timeout": None, "match": None}, PAIR),
        ({"tcp_keep_alive": False}, Policy(tcp_keep_alive=False)),
        ({"idle_timeout": 60}, Policy(idle_timeout=60)),
        ({"idle_timeout": "1d"}, Policy(idle_timeout=86400)),
        ({"idle_timeout": "none"}, Policy(idle_timeout=0)),
        (
            {"idle_timeout": "15m", "idle_command_timeout": "7d"},
            Policy(idle_timeout=900, idle_command_timeout=604800),
        ),
        ({"idle_timeout": "2m", "idle_command_timeout": 120}, Policy(idle_timeout=120, idle_command_timeout=120)),
        ({"idle_timeout": "15m", "idle_fallback": "tmout"}, Policy(idle_timeout=900, idle_fallback="tmout")),
        ({"idle_timeout": "15m", "idle_fallback": "none"}, Policy(idle_timeout=900)),
        ({"client_alive_interval": 60, "match": []}, PAIR),
        (
            {"match": [{"user": "backup", "unresponsive_timeout": "1h", "idle_timeout": "none"}]},
            Policy(match=(Entry("user", ("backup",), unresponsive_timeout=3600, idle_timeout=0),)),
        ),
        (
            {"match": [{"group": ["adm*", "w?eel"], "user": None, "client_alive_interval": "1m"}]},
            Policy(match=(Entry("group", ("adm*", "w?eel"), None, 60, 3),)),
        ),
        (
            {"match": [{"address": "10.0.0.0/8", "idle_timeout": 60}, {"address": ["::1"], "idle_timeout": 60}]},
            Policy(
                match=(Entry("address", ("10.0.0.0/8",), idle_timeout=60), Entry("address", ("::1",), idle_timeout=60))
            ),
        ),
        (
            {"match": [{"user": "@dom$+-._*?a0", "idle_timeout": 60}]},
            Policy(match=(Entry("user", ("@dom$+-._*?a0",), idle_timeout=60),)),
        ),
    ],
)
def test_sections_that_are_accepted(section, policy):
    assert parse(section) == policy
    if policy is not None:
        assert parse(json.loads(json.dumps(policy.section()))) == policy


TIME = "expected a time from 15s to 1d, for example 3m"
INTERVAL = "expected a time from 5s to 1h, or 0 for off, for example 60"
COUNT = "expected a whole number from 1 to 100, for example 3"
SECTION = "expected true, false or a mapping of keys, for example {unresponsive_timeout: 3m}"
OR_NULL = ", or set it to null where an image sets it"
IDLE = "expected a time from 1m to 1d, or none, for example 15m"
ENTRY = "user: backup, unresponsive_timeout: 1h"
NO_TIME = (
    "sets no time: add one of unresponsive_timeout, client_alive_interval, client_alive_count_max, idle_timeout, "
    "idle_command_timeout, or remove the match entry"
)
NAMES = (
    "a pattern or a list of them (letters, digits, . _ - @ + $, ? for one character, at most two * for any text), "
    "for example "
)
LISTS = "[['{0}...{1}', '{0}...{1}".format("x" * 27, "x" * 28)[:97] + "..."
PROBLEMS = [
    ("3m", ["ssh_keepalive: '3m': " + SECTION]),
    (5, ["ssh_keepalive: 5: " + SECTION]),
    ([], ["ssh_keepalive: []: " + SECTION]),
    ({"unresponsive_timeout": 14}, ["ssh_keepalive.unresponsive_timeout: 14: " + TIME]),
    ({"unresponsive_timeout": 86401}, ["ssh_keepalive.unresponsive_timeout: 86401: " + TIME]),
    ({"unresponsive_timeout": "14s"}, ["ssh_keepalive.unresponsive_timeout: '14s': " + TIME]),
    ({"unresponsive_timeout": "2d"}, ["ssh_keepalive.unresponsive_timeout: '2d': " + TIME]),
    ({"unresponsive_timeout": "soon"}, ["ssh_keepalive.unresponsive_timeout: 'soon': " + TIME]),
    ({"unresponsive_timeout": ""}, ["ssh_keepalive.unresponsive_timeout: '': " + TIME]),
    ({"unresponsive_timeout": "3m\n"}, ["ssh_keepalive.unresponsive_timeout: '3m\\n': " + TIME]),
    ({"unresponsive_timeout": "-3m"}, ["ssh_keepalive.unresponsive_timeout: '-3m': " + TIME]),
    ({"unresponsive_timeout": "\u0663m"}, ["ssh_keepalive.unresponsive_timeout: '\u0663m': " + TIME]),
    ({"unresponsive_timeout": 180.0}, ["ssh_keepalive.unresponsive_timeout: 180.0: " + TIME]),
    ({"unresponsive_timeout": True}, ["ssh_keepalive.unresponsive_timeout: True: " + TIME]),
    ({"unresponsive_timeout": [60]}, ["ssh_keepalive.unresponsive_timeout: [60]: " + TIME]),
    (
        {"unresponsive_timeout": "9" * 99},
        ["ssh_keepalive.unresponsive_timeout: '{0}...{0}9': {1}".format("9" * 27, TIME)],
    ),
    ({"client_alive_interval": 4}, ["ssh_keepalive.client_alive_interval: 4: " + INTERVAL]),
    ({"client_alive_interval": "4s"}, ["ssh_keepalive.client_alive_interval: '4s': " + INTERVAL]),
    ({"client_alive_interval": -1}, ["ssh_keepalive.client_alive_interval: -1: " + INTERVAL]),
    ({"client_alive_interval": 3601}, ["ssh_keepalive.client_alive_interval: 3601: " + INTERVAL]),
    (
        {"client_alive_interval": 60, "client_alive_count_max": 0},
        [
            "ssh_keepalive.client_alive_count_max: 0: " + COUNT + " (with 0 OpenSSH up to 8.1 ends a session "
            "at its first silent interval, and since 8.2 never drops any)"
        ],
    ),
    (
        {"client_alive_interval": 60, "client_alive_count_max": "3"},
        ["ssh_keepalive.client_alive_count_max: '3': " + COUNT],
    ),
    (
        {"client_alive_interval": 60, "client_alive_count_max": 101},
        ["ssh_keepalive.client_alive_count_max: 101: " + COUNT],
    ),
    (
        {"client_alive_count_max": 3},
        [
            "ssh_keepalive.client_alive_count_max: 3: has no effect without client_alive_interval: "
            "add it, or use unresponsive_timeout instead"
        ],
    ),
    (
        {"unresponsive_timeout": "3m", "client_alive_interval": 60, "client_alive_count_max": 3},
        [
            "ssh_keepalive.unresponsive_timeout: '3m': not together with client_alive_interval and "
            "client_alive_count_max, which it chooses itself: remove one side, or set it to null where an image sets it"
        ],
    ),
    (
        {"unresponsive_timeout": "3m", "client_alive_interval": 60},
        [
            "ssh_keepalive.unresponsive_timeout: '3m': not together with client_alive_interval, "
            "which it chooses itself: remove one side, or set it to null where an image sets it"
        ],
    ),
    ({"tcp_keep_alive": "yes"}, ["ssh_keepalive.tcp_keep_alive: 'yes': expected true or false, for example true"]),
    ({"enabled": "no"}, ["ssh_keepalive.enabled: 'no': expected true or false, for example true"]),
    ({"idel_timeout": "15m"}, ["ssh_keepalive.idel_timeout: unknown key, did you mean idle_timeout?"]),
    (
        {"client_alive_interval": 60, "client_alive_count_max": False},
        ["ssh_keepalive.client_alive_count_max: False: " + COUNT],
    ),
    (
        {"line\nline": 1},
        [
            "ssh_keepalive.'line\\nline': unknown key, remove it or use one of client_alive_count_max, "
            "client_alive_interval, enabled, idle_command_timeout, idle_fallback, idle_timeout, match, tcp_keep_alive, "
            "unresponsive_timeout"
        ],
    ),
    ({"idel_timeout": None}, ["ssh_keepalive.idel_timeout: unknown key, did you mean idle_timeout?"]),
    (
        {"ClientAliveInterval": 60},
        ["ssh_keepalive.ClientAliveInterval: unknown key, did you mean client_alive_interval?"],
    ),
    (
        {"client-alive-interval": 60},
        ["ssh_keepalive.client-alive-interval: unknown key, did you mean client_alive_interval?"],
    ),
    (
        {"server_alive_interval": 60},
        [
            "ssh_keepalive.server_alive_interval: unknown key, ServerAlive* belongs to the client (ssh_config), "
            "the server's side is client_alive_interval and client_alive_count_max"
        ],
    ),
    (
        {7: 7},
        [
            "ssh_keepalive.7: unknown key, remove it or use one of client_alive_count_max, client_alive_interval, "
            "enabled, idle_command_timeout, idle_fallback, idle_timeout, match, tcp_keep_alive, "
            "unresponsive_timeout"
        ],
    ),
    ({"idle_timeout": 0}, ["ssh_keepalive.idle_timeout: 0: " + IDLE]),
    ({"idle_timeout": "59s"}, ["ssh_keepalive.idle_timeout: '59s': " + IDLE]),
    ({"idle_timeout": "none\n"}, ["ssh_keepalive.idle_timeout: 'none\\n': " + IDLE]),
    ({"idle_timeout": False}, ["ssh_keepalive.idle_timeout: False: " + IDLE]),
    ({"unresponsive_timeout": "none"}, ["ssh_keepalive.unresponsive_timeout: 'none': " + TIME]),
    (
        {"idle_timeout": "15m", "idle_fallback": "logind"},
        ["ssh_keepalive.idle_fallback: 'logind': expected none or tmout, for example tmout"],
    ),
    (
        {"idle_command_timeout": "2h"},
        ["ssh_keepalive.idle_command_timeout: '2h': requires idle_timeout beside it: add that" + OR_NULL],
    ),
    (
        {"idle_timeout": "4h", "idle_command_timeout": "2h"},
        ["ssh_keepalive.idle_command_timeout: '2h': is shorter than idle_timeout, '4h': raise it" + OR_NULL],
    ),
    (
        {"idle_timeout": "none", "idle_command_timeout": 7200},
        [
            "ssh_keepalive.idle_command_timeout: 7200: has no effect where idle_timeout is none: remove it" + OR_NULL,
        ],
    ),
    (
        {"idle_timeout": "15m", "match": [{"user": "a", "idle_command_timeout": "2h"}]},
        ["ssh_keepalive.match[0].idle_command_timeout: '2h': requires idle_timeout beside it: add that" + OR_NULL],
    ),
    *(
        (
            {"idle_timeout": "15m", "idle_command_timeout": value},
            [f"ssh_keepalive.idle_command_timeout: {value!r}: expected a time from 1m to 7d, for example 2h"],
        )
        for value in ("none", 0, 59, "7d1s")
    ),
    ({"idle_timeout": "1s", "idle_command_timeout": "1m"}, ["ssh_keepalive.idle_timeout: '1s': " + IDLE]),
    (
        {"idle_fallback": "tmout"},
        ["ssh_keepalive.idle_fallback: 'tmout': has no effect without idle_timeout: add it, or remove this"],
    ),
    ({"match": {}}, ["ssh_keepalive.match: {}: expected a list of match entries, for example [{" + ENTRY + "}]"]),
    (
        {"match": ["backup"]},
        [
            "ssh_keepalive.match[0]: 'backup': expected a mapping of user, group or address, and times, "
            "for example {" + ENTRY + "}"
        ],
    ),
    ({"match": [{"user": "backup"}]}, ["ssh_keepalive.match[0]: " + NO_TIME]),
    (
        {"match": [{"unresponsive_timeout": "1h"}]},
        ["ssh_keepalive.match[0]: expected one of user, group, address, found none"],
    ),
    (
        {"match": [{"user": "a", "group": "b", "unresponsive_timeout": "1h"}]},
        ["ssh_keepalive.match[0]: expected one of user, group, address, found user and group"],
    ),
    (
        {"match": [{"user": "a", "tcp_keep_alive": True, "usr": "b", "idle_timeout": "1h"}]},
        [
            "ssh_keepalive.match[0].tcp_keep_alive: not in match, it holds for the whole machine: put it beside match",
            "ssh_keepalive.match[0].usr: unknown key, did you mean user?",
        ],
    ),
    (
        {
            "match": [{"user": "a", "idle_timeout": 60}] * 10
            + [{"user": "a", "idle_timeout": 1, "unresponsive_timeout": 1}]
        },
        [
            "ssh_keepalive.match[10].idle_timeout: 1: " + IDLE,
            "ssh_keepalive.match[10].unresponsive_timeout: 1: " + TIME,
        ],
    ),
    (
        {"match": [{"user": "a", "client_alive_count_max": 0}]},
        [
            "ssh_keepalive.match[0].client_alive_count_max: 0: " + COUNT + " (with 0 OpenSSH up to 8.1 ends a session "
            "at its first silent interval, and since 8.2 never drops any)",
            "ssh_keepalive.match[0].client_alive_count_max: 0: has no effect without client_alive_interval: "
            "add it, or use unresponsive_timeout instead",
        ],
    ),
    (
        {"match": [{"group": [], "idle_timeout": 60}]},
        ["ssh_keepalive.match[0].group: []: expected " + NAMES + "admins"],
    ),
    (
        {"match": [{"address": ["10.0.0.1/8", "10.0.0.0/8", "300.0.0.1", "10.*"], "idle_timeout": 60}]},
        [
            "ssh_keepalive.match[0].address[0]: '10.0.0.1/8': has bits beyond its mask, did you mean 10.0.0.0/8?",
            "ssh_keepalive.match[0].address[2]: '300.0.0.1': is no address and no network, correct it",
            "ssh_keepalive.match[0].address[3]: '10.*': expected an address or a network, for example 10.0.0.0/8",
        ],
    ),
    (
        {"match": [{"user": ["root@127.0.0.1", "anna@corp.example", "anna@10.?.*"], "idle_timeout": 60}]},
        [
            f"ssh_keepalive.match[0].user[{position}]: '{user}': "
            "Match User compares names without hosts, use a match entry of address instead"
            for position, user in ((0, "root@127.0.0.1"), (2, "anna@10.?.*"))
        ],
    ),
    (
        {"match": [{"address": ["::ffff:127.0.0.0/104", "::ffff:192.0.2.1", "::/0", "::/95"], "idle_timeout": 60}]},
        [
            "ssh_keepalive.match[0].address[0]: '::ffff:127.0.0.0/104': sshd sees such clients as IPv4, "
            "did you mean 127.0.0.0/8?",
            "ssh_keepalive.match[0].address[1]: '::ffff:192.0.2.1': sshd sees such clients as IPv4, "
            "did you mean 192.0.2.1/32?",
        ],
    ),
    (
        {"match": [{"address": "::ffff:0:0/96", "idle_timeout": 60}]},
        [
            "ssh_keepalive.match[0].address: '::ffff:0:0/96': sshd sees such clients as IPv4, did you mean 0.0.0.0/0?",
        ],
    ),
    (
        {"match": [{"address": "1::2::3", "idle_timeout": 60}]},
        ["ssh_keepalive.match[0].address: '1::2::3': is no address and no network, correct it"],
    ),
    (
        {"match": [{"user": ["*a*", "*a*a*"], "idle_timeout": 60}]},
        [
            "ssh_keepalive.match[0].user[1]: '*a*a*': expected a pattern (letters, digits, . _ - @ + $, "
            "? for one character, at most two * for any text), for example backup",
        ],
    ),
    (
        {"unresponsive_timeout": 10**5000, "match": [{"user": [-(10**5000)], "idle_timeout": 60}]},
        [
            "ssh_keepalive.match[0].user[0]: a number of 16610 bits: expected a pattern (letters, digits, . _ - @ + $, "
            "? for one character, at most two * for any text), for example backup",
            "ssh_keepalive.unresponsive_timeout: a number of 16610 bits: " + TIME,
        ],
    ),
    ({"idle_timeout": 2**9999}, ["ssh_keepalive.idle_timeout: a number of 10000 bits: " + IDLE]),
    (
        {"idle_timeout": 2**9999 - 1},
        ["ssh_keepalive.idle_timeout: {}...{}: {}".format(str(2**9999)[:18], str(2**9999 - 1)[-19:], IDLE)],
    ),
    ({"idle_timeout": [["x" * 60] * 9] * 9}, ["ssh_keepalive.idle_timeout: " + LISTS + ": " + IDLE]),
    (
        {"match": [{"user": ["a"] * 150, "idle_timeout": 60}, {"address": ["::1"] * 101, "idle_timeout": 60}]},
        [
            "ssh_keepalive.match: names 251 users, groups and addresses, more than 250 may be too much for sshd: "
            "use *, groups or networks"
        ],
    ),
    (
        {"match": [{"group": ["EXAMPLE\\domain admins"], "unresponsive_timeout": 60}]},
        [
            "ssh_keepalive.match[0].group[0]: 'EXAMPLE\\\\domain admins': expected a pattern (letters, digits, "
            ". _ - @ + $, ? for one character, at most two * for any text), for example admins; "
            "write ? in place of a space or a backslash: 'EXAMPLE?domain?admins'"
        ],
    ),
    (
        {"unresponsive_timeout": "1s", "enabled": 1, "idle_fallback": 7},
        [
            "ssh_keepalive.enabled: 1: expected true or false, for example true",
            "ssh_keepalive.idle_fallback: 7: expected none or tmout, for example tmout",
            "ssh_keepalive.unresponsive_timeout: '1s': " + TIME,
        ],
    ),
]


@pytest.mark.parametrize(("section", "problems"), PROBLEMS, ids=[problems[0][:60] for _, problems in PROBLEMS])
def test_sections_that_are_refused(section, problems):
    with pytest.raises(PolicyError) as caught:
        parse(section)
    assert list(map(str, caught.value.problems)) == problems
    assert caught.value.args == ("; ".join(problems),)


NOT_PLAIN = [
    "",
    " ",
    "a b",
    "a\nPermitRootLogin yes",
    "a,b",
    "!a",
    "a#",
    '"a"',
    "'a'",
    "-a",
    "a\\b",
    "a=b",
    "a%b",
    "a\n",
]
NOT_PLAIN += ["[a]", "a{1}", "a" * 65, "a/b", "a;b", "a|b", "`a`", "a\0", "\u00e4"]


def test_what_a_refused_name_is_said_to_be_written_as_is_taken():
    policy = parse({"match": [{"group": "EXAMPLE?domain?admins", "unresponsive_timeout": 60}]})
    assert policy.match[0].patterns == ("EXAMPLE?domain?admins",)


@pytest.mark.parametrize("name", NOT_PLAIN)
@pytest.mark.parametrize("criterion", ["user", "group", "address"])
def test_what_is_no_plain_pattern_is_refused(criterion, name):
    for value in (name, ["10.0.0.1" if criterion == "address" else "fine", name]):
        with pytest.raises(PolicyError) as caught:
            parse({"match": [{criterion: value, "idle_timeout": "1h"}]})
        (problem,) = caught.value.problems
        assert problem.path == ("ssh_keepalive", "match", 0, criterion, 1)[: 5 if isinstance(value, list) else 4]
        assert "\n" not in str(problem)


def test_what_is_no_address_is_refused_at_once():
    with pytest.raises(PolicyError):
        parse({"match": [{"address": ":" * 10**6 + "x", "idle_timeout": "1h"}]})


def test_as_many_patterns_as_are_allowed():
    entries = [{"user": ["a"] * 249, "idle_timeout": 60}, {"address": "::1", "idle_timeout": 60}]
    assert len(parse({"match": entries}).match) == 2


@pytest.mark.parametrize(("time", "code"), [("015", 15), ("1m30s", 90), ("000000001h", 3600), ("0h20", 20)])
def test_a_time_may_be_a_sum_and_have_zeros_in_front(time, code):
    assert parse({"unresponsive_timeout": time}).unresponsive_timeout == code


@pytest.mark.parametrize("time", ["0" * 5000 + "60", "0000000001h", "1m30x", "14h14h", "7s7s"])
def test_a_sum_is_added_up_before_it_is_judged(time):
    with pytest.raises(PolicyError, match="expected a time from 15s to 1d"):
        parse({"unresponsive_timeout": time})


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), ""),
        (("ssh_keepalive",), "ssh_keepalive"),
        (("ssh_keepalive", "match", 0, "user"), "ssh_keepalive.match[0].user"),
        ((1,), "[1]"),
    ],
)
def test_a_path(path, text):
    assert dotted(path) == text


@pytest.mark.parametrize(
    ("key", "cutoff", "name"),
    [
        ("ClientAliveInterval", 1.0, "client_alive_interval"),
        ("idle-time out", 1.0, "idle_timeout"),
        ("idel_timeout", 0.6, "idle_timeout"),
        ("idel_timeout", 0.99, None),
        ("hostname", 0.6, None),
    ],
)
def test_the_name_that_a_key_is_most_like(key, cutoff, name):
    assert closest(key, ["client_alive_interval", "idle_timeout"], cutoff) == name
