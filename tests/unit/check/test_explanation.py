import re

import pytest
from ssh_keepalive.check.explanation import _duration, explain, surprises
from ssh_keepalive.openssh import translate
from ssh_keepalive.policy import Entry, Policy, PolicyError

PAIR = (
    "60 x 3 reads like 180 s, but a dead client is disconnected after 240 s, on OpenSSH 9.2 to 9.4 after 420 to 480 s: "
    "use unresponsive_timeout, which means the same everywhere"
)
NO_PROBES = "a client that stopped answering stays until it counts as idle: add unresponsive_timeout"
SIXTY_3 = Policy(client_alive_interval=60, client_alive_count_max=3)
COMMANDS = Policy(idle_timeout=900, idle_command_timeout=7200)
ALL_KINDS = "is for commands and sftp, too, here: add idle_command_timeout to the match entry if not meant so"
ENDS = "ends a command that prints nothing for so long, such as a backup or an Ansible task"
SHORT = ENDS + ": add idle_command_timeout, a longer time for commands and sftp"


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Policy(unresponsive_timeout=180), []),
        (Policy(enabled=False), []),
        (Policy(client_alive_interval=0, client_alive_count_max=3), []),
        (Policy(client_alive_interval=60, client_alive_count_max=3), [("client_alive_interval", PAIR)]),
        (Policy(idle_timeout=900, unresponsive_timeout=180), []),
        (Policy(idle_timeout=600, unresponsive_timeout=180), []),
        (Policy(idle_timeout=599, unresponsive_timeout=180), [("idle_timeout", SHORT)]),
        (Policy(unresponsive_timeout=180, idle_timeout=60, idle_command_timeout=600), []),
        (
            Policy(unresponsive_timeout=180, idle_timeout=60, idle_command_timeout=599),
            [("idle_command_timeout", ENDS + ": set 10m or more, unless that is meant")],
        ),
        (Policy(idle_timeout=900), [("idle_timeout", NO_PROBES)]),
        (Policy(idle_timeout=900, client_alive_interval=0, client_alive_count_max=3), [("idle_timeout", NO_PROBES)]),
        (Policy(idle_timeout=60), [("idle_timeout", NO_PROBES), ("idle_timeout", SHORT)]),
    ],
)
def test_what_surprises(policy, expected):
    assert [problem[:2] for problem in surprises(policy)] == [
        (("ssh_keepalive", key), message) for key, message in expected
    ]


@pytest.mark.parametrize(
    ("entry", "policy", "expected"),
    [
        (Entry("user", ("a",), client_alive_interval=60, client_alive_count_max=3, idle_timeout=0), Policy(), [PAIR]),
        (Entry("user", ("a",), idle_timeout=900), Policy(), [NO_PROBES]),
        (Entry("user", ("a",), idle_timeout=900), Policy(unresponsive_timeout=180), []),
        (Entry("user", ("a",), None, 0, 3, 900), Policy(unresponsive_timeout=180), [NO_PROBES]),
        (Entry("user", ("a",), 180, idle_timeout=599), Policy(), [SHORT]),
        (Entry("user", ("a",), 180, idle_timeout=900), Policy(idle_timeout=60, idle_command_timeout=7200), [ALL_KINDS]),
        (Entry("user", ("a",), 180, idle_timeout=7200), Policy(idle_timeout=60, idle_command_timeout=7200), []),
        (
            Entry("user", ("a",), 180, idle_timeout=900, idle_command_timeout=900),
            Policy(idle_timeout=60, idle_command_timeout=7200),
            [],
        ),
    ],
)
def test_what_surprises_in_match(entry, policy, expected):
    found = surprises(policy._replace(match=(Entry("user", ("b",), 180), entry)))
    found = [problem for problem in found if "match" in problem.path]
    assert {problem.path[:3] for problem in found} <= {("ssh_keepalive", "match", 1)}
    assert [problem.message for problem in found] == expected


def test_the_versions_in_the_message_are_those_that_double():
    policy = Policy(client_alive_interval=60, client_alive_count_max=3)
    after = {version: translate(policy, version).dropped_after for version in [(9, 1), (9, 2), (9, 4), (9, 5), (10, 6)]}
    assert after == {(9, 1): 240, (9, 2): 480, (9, 4): 480, (9, 5): 240, (10, 6): 240}


@pytest.mark.parametrize(
    ("policy", "version", "row"),
    [
        (Policy(client_alive_interval=0), (10, 0), "a dead client    is never probed: it stays until TCP gives up"),
        (Policy(tcp_keep_alive=False), (9, 2), "by default it stays for ever if nothing is sent to it"),
        (Policy(client_alive_interval=0, idle_timeout=900), (9, 2), "is never probed: it stays until its sessions"),
        (
            Policy(idle_timeout=900),
            (9, 2),
            "own settings: by default it stays until its sessions count",
        ),
        (Policy(idle_timeout=900, idle_fallback="tmout"), (8, 4), "own settings: by default it stays until TCP gives"),
        (Policy(client_alive_interval=60, client_alive_count_max=1), (8, 4), "with 1 probe unanswered, one every 1m"),
        (
            SIXTY_3,
            (9, 2),
            "is disconnected 7m to 8m after its last sign of life, with 3 probes unanswered, one every 2m",
        ),
        (SIXTY_3, (9, 2), "8m  that client is disconnected at the latest, with its sessions"),
        (SIXTY_3, (9, 5), "is disconnected 4m after its last sign of life, with 3 probes unanswered, one every 1m"),
        (SIXTY_3, (9, 5), "4m  that client is disconnected, with its sessions"),
        (Policy(unresponsive_timeout=180), (9, 2), "3m  that client is disconnected, with its sessions"),
        (Policy(idle_timeout=0), (8, 4), "an idle session  stays: idle_timeout is none"),
        (Policy(), (8, 4), "an idle session  is left to sshd's own settings: by default it stays"),
        (Policy(tcp_keep_alive=False), (8, 4), "the kernel       probes nothing"),
        (Policy(tcp_keep_alive=True), (8, 4), "the kernel       probes idle connections, by default every two"),
        (Policy(idle_timeout=900), (9, 6), "a silent one that is open keeps it for ever"),
        (Policy(idle_timeout=900), (9, 7), "after 15m without traffic that connection ends, too"),
        (Policy(idle_timeout=900), (10, 2), "15m after its last session, within seconds if that was ended as idle"),
        (COMMANDS, (10, 2), "15m after its last session, within seconds if that was a shell ended as idle"),
        (Policy(idle_timeout=900), (10, 3), "30m  the connection of a ControlMaster ends"),
        (
            Policy(idle_timeout=900, idle_command_timeout=7200),
            (9, 7),
            "a silent command ends after 2h: ssh host command",
        ),
        (COMMANDS, (9, 7), "an idle sftp ends after 2h without traffic"),
        (
            Policy(idle_timeout=900, idle_command_timeout=7200),
            (9, 7),
            "after 2h without traffic that connection",
        ),
        (
            COMMANDS._replace(idle_fallback="tmout"),
            (8, 4),
            "anything else stays, such as a silent command, an sftp, a forward or a ControlMaster; idle_command",
        ),
        (Policy(unresponsive_timeout=180), (9, 2), "a command that prints more often than every 3s: sshd does not"),
        (Policy(unresponsive_timeout=180), (9, 5), "a command that prints more often than every 5s: sshd does not"),
        (
            Policy(idle_timeout=900),
            (9, 7),
            "a jump (ssh -J) to an sshd that probes its clients: the probes are traffic",
        ),
        (Policy(enabled=False), (8, 0), "On OpenSSH 8.0: the policy is removed, sshd has its own settings"),
    ],
)
def test_what_is_said_where(policy, version, row):
    assert " ".join(row.split()) in " ".join(explain(policy, version).split())


def test_a_screenful_is_enough():
    entries = (Entry("user", ("backup",), 3600, idle_timeout=0), Entry("address", ("10.0.0.0/8",), 60))
    for version in ((8, 4), (9, 2), (10, 6)):
        policy = Policy(unresponsive_timeout=180, idle_timeout=900, idle_fallback="tmout")
        if version >= (10, 5):
            policy = policy._replace(match=entries)
        for width in (60, 80, 120):
            lines = explain(policy, version, width).splitlines()
            assert max(map(len, lines)) <= width
        assert len(lines) <= 30
        # In a window that is hardly one, words and not letters are what a line breaks between.
        assert explain(policy, version, 1) == explain(policy, version, 60)


@pytest.mark.parametrize(
    "policy", [COMMANDS, Policy(client_alive_interval=60, client_alive_count_max=3, idle_timeout=900)]
)
def test_only_the_version_that_was_asked_for_is_spoken_of(policy):
    for version in ((9, 2), (9, 7), (10, 0), (10, 6)):
        said = explain(policy, version)
        assert re.findall(r"[0-9]+\.[0-9]+", said) == ["{}.{}".format(*version)]


def test_a_surprise_is_one_of_the_version_that_was_asked_for():
    policy = Policy(client_alive_interval=60, client_alive_count_max=3, idle_timeout=300)
    versions = ((8, 4), (9, 2), (10, 0))
    said = {version: [problem.message for problem in surprises(policy, version)] for version in versions}
    pair = (
        "60 x 3 reads like 180 s, but a dead client is disconnected after {} s: "
        "use unresponsive_timeout, which means the same everywhere"
    )
    # By TMOUT no command ends.
    assert said == {
        (8, 4): [pair.format(240)],
        (9, 2): [pair.format("420 to 480"), SHORT],
        (10, 0): [pair.format(240), SHORT],
    }


def test_dead_clients_behind_output_are_named_where_they_are_missed():
    policy = Policy(unresponsive_timeout=180)
    told = {version: "prints more often" in explain(policy, version) for version in ((8, 9), (9, 2), (10, 6))}
    assert told == {(8, 9): False, (9, 2): True, (10, 6): True}


def test_what_cannot_be_enforced_is_not_explained():
    with pytest.raises(PolicyError, match=r"OpenSSH 8\.4 has no ChannelTimeout"):
        explain(Policy(idle_timeout=900), (8, 4))


@pytest.mark.parametrize(
    ("seconds", "text"), [(36, "36s"), (60, "1m"), (90, "1m30s"), (5400, "1h30m"), (86400, "1d"), (90061, "1d1h1m1s")]
)
def test_a_time(seconds, text):
    assert _duration(seconds) == text
