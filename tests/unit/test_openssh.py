import pytest
from ssh_keepalive.openssh import (
    NOBODY,
    Connection,
    Settings,
    expected,
    fits,
    has,
    parse_version,
    promises,
    translate,
    variants,
)
from ssh_keepalive.policy import Entry, Policy, PolicyError


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("unknown option -- V\nOpenSSH_8.4p1 Debian-5+deb11u7, OpenSSL 1.1.1w  11 Sep 2023\nusage: sshd", (8, 4)),
        ("OpenSSH_9.2, OpenSSL 3.0.22 25 Aug 2026", (9, 2)),
        ("OpenSSH_10.0p2 Debian-7+deb13u4, OpenSSL 3.5.7 9 Jun 2026", (10, 0)),
        ("OpenSSH_10.6p1 Debian-1, OpenSSL 3.6.5 29 Sep 2026", (10, 6)),
        ("Dropbear v2022.83", None),
        ("", None),
    ],
)
def test_versions_as_sshd_tells_them(text, version):
    assert parse_version(text) == version


@pytest.mark.parametrize(
    ("version", "doubles"),
    [((8, 4), False), ((9, 1), False), ((9, 2), True), ((9, 4), True), ((9, 5), False), ((10, 0), False)],
)
def test_which_versions_double_the_time(version, doubles):
    assert has(version, "doubles-client-alive") == doubles
    pair = Policy(client_alive_interval=60, client_alive_count_max=3)
    directives = (("ClientAliveInterval", "60"), ("ClientAliveCountMax", "3"))
    assert translate(pair, version) == Settings(pair, version, directives, 480 if doubles else 240)


@pytest.mark.parametrize(
    ("fact", "last_without", "first_with"),
    [
        ("reads-drop-ins", (8, 1), (8, 2)),
        ("channel-timeout", (9, 1), (9, 2)),
        ("channel-timeout-in-match", (10, 4), (10, 5)),
    ],
)
def test_since_when_a_fact_holds(fact, last_without, first_with):
    assert (has(last_without, fact), has(first_with, fact)) == (False, True)


@pytest.mark.parametrize(
    ("timeout", "version", "pair", "dropped_after"),
    [
        (15, (10, 0), ("3", "4"), 15),
        (15, (9, 2), ("1", "6"), 14),
        (20, (10, 0), ("5", "3"), 20),
        (23, (10, 0), ("3", "6"), 21),
        (60, (10, 0), ("5", "11"), 60),
        (60, (9, 2), ("3", "9"), 60),
        (61, (10, 0), ("5", "11"), 60),
        (75, (9, 2), ("3", "11"), 72),
        (94, (10, 0), ("23", "3"), 92),
        (107, (10, 0), ("5", "20"), 105),
        (179, (10, 0), ("8", "21"), 176),
        (180, (8, 4), ("5", "35"), 180),
        (180, (9, 2), ("3", "29"), 180),
        (900, (10, 0), ("5", "179"), 900),
        (86400, (10, 0), ("5", "17279"), 86400),
    ],
)
def test_unresponsive_timeout(timeout, version, pair, dropped_after):
    directives = (("ClientAliveInterval", pair[0]), ("ClientAliveCountMax", pair[1]))
    policy = Policy(unresponsive_timeout=timeout)
    assert translate(policy, version) == Settings(policy, version, directives, dropped_after)


# On 9.2 to 9.4 all pauses are even: of these times no pair with three probes at least, 5 s apart at least, is nearer.
EARLY_WHERE_PAUSES_ARE_EVEN = {
    *(63, 69, 75, 76, 77, 83, 87, 93, 94, 95, 107, 117, 118, 119, 123, 124, 125, 135, 143, 147, 148, 149, 166, 167, 215)
}


@pytest.mark.parametrize(("version", "factor"), [((8, 4), 1), ((9, 2), 2), ((9, 4), 2), ((9, 5), 1), ((10, 6), 1)])
@pytest.mark.parametrize(
    "timeouts", [range(15, 3600), pytest.param(range(3600, 86401), marks=pytest.mark.slow)], ids=["minutes", "hours"]
)
def test_every_unresponsive_timeout_is_enforced(timeouts, version, factor):
    early = set()
    for timeout in timeouts:
        settings = translate(Policy(unresponsive_timeout=timeout), version)
        interval, count = (int(value) for _, value in settings.directives)
        pause = factor * interval
        tolerated = max(2, timeout // 50)
        pauses = range(factor, timeout // 4 + 1, factor)
        assert settings.dropped_after == pause * (count + 1) == timeout - timeout % pause
        assert count >= 3
        assert 5 <= pause <= 60 or timeout < 60
        if timeout % pause > tolerated:
            assert timeout % pause <= 5
            assert all(timeout % other > tolerated for other in pauses if other >= 5)
            early.add(timeout)
        if pause not in range(5, 11):
            assert all(timeout % other > tolerated for other in pauses if other in range(5, 11))
    assert early == (EARLY_WHERE_PAUSES_ARE_EVEN & {*timeouts} if factor == 2 else set())


def test_off_and_the_kernels_probes():
    off = Policy(client_alive_interval=0, client_alive_count_max=3)
    yes, no = Policy(tcp_keep_alive=True), Policy(tcp_keep_alive=False)
    directives = (("ClientAliveInterval", "0"), ("ClientAliveCountMax", "3"))
    assert translate(off, (10, 0)) == Settings(off, (10, 0), directives, None)
    assert translate(yes, (10, 0)) == Settings(yes, (10, 0), (("TCPKeepAlive", "yes"),), None)
    assert translate(no, (10, 0)) == Settings(no, (10, 0), (("TCPKeepAlive", "no"),), None)


IDLE = (("ChannelTimeout", "session:*=900 global=900"), ("UnusedConnectionTimeout", "900"))
NEVER = (("ChannelTimeout", "session:*=0 global=0"), ("UnusedConnectionTimeout", "0"))
PAIR = (("ClientAliveInterval", "60"), ("ClientAliveCountMax", "3"))


def problems(policy, version, **options):
    with pytest.raises(PolicyError) as caught:
        translate(policy, version, **options)
    return list(map(str, caught.value.problems))


@pytest.mark.parametrize("version", [(9, 2), (9, 7), (10, 0), (10, 6)])
def test_idle_timeout_where_sshd_has_channel_timeout(version):
    for policy, directives in (
        (Policy(idle_timeout=900), IDLE),
        (Policy(idle_timeout=900, idle_fallback="tmout"), IDLE),
        (Policy(idle_timeout=0), NEVER),
    ):
        assert translate(policy, version) == Settings(policy, version, directives, None)


@pytest.mark.parametrize("version", [(9, 2), (9, 7), (10, 0), (10, 6)])
def test_commands_have_a_time_of_their_own(version):
    policy = Policy(idle_timeout=900, idle_command_timeout=7200)
    # The first pattern that fits holds; a `global` shorter than the longest would end commands from 9.7 on.
    types = "session:command=7200 session:subsystem:*=7200 session:*=900 global=7200"
    directives = (("ChannelTimeout", types), ("UnusedConnectionTimeout", "900"))
    assert translate(policy, version) == Settings(policy, version, directives, None)


def test_tmout_has_nothing_to_do_with_commands():
    policy = Policy(idle_timeout=900, idle_command_timeout=7200, idle_fallback="tmout")
    assert translate(policy, (8, 4)) == Settings(policy, (8, 4), (), None, tmout=900)


def test_idle_timeout_where_sshd_has_no_channel_timeout():
    assert problems(Policy(idle_timeout=900), (8, 4)) == [
        "ssh_keepalive.idle_timeout: 900: OpenSSH 8.4 has no ChannelTimeout: set idle_fallback: tmout, which ends "
        "bash and ksh at their prompt and nothing else, remove idle_timeout, or use OpenSSH 9.2 or later"
    ]
    by_tmout, none = Policy(idle_timeout=900, idle_fallback="tmout"), Policy(idle_timeout=0)
    assert translate(by_tmout, (8, 4)) == Settings(by_tmout, (8, 4), (), None, tmout=900)
    assert translate(none, (8, 4)) == Settings(none, (8, 4), (), None)


def test_what_sshd_says_of_itself_comes_before_the_table():
    policy = Policy(idle_timeout=900)
    assert translate(policy, (8, 7), channel_timeout=True) == Settings(policy, (8, 7), IDLE, None)
    assert "has no ChannelTimeout" in problems(policy, (9, 9), channel_timeout=False)[0]


def test_match_entries_become_blocks():
    backup, office = (
        Entry("user", ("backup",), unresponsive_timeout=180),
        Entry("address", ("10.0.0.0/8",), None, 60, 3),
    )
    policy = Policy(match=(backup, office))
    doubled = (("ClientAliveInterval", "3"), ("ClientAliveCountMax", "29"))
    assert translate(policy, (9, 2)) == Settings(policy, (9, 2), (), None, ((backup, doubled), (office, PAIR)))


def test_idle_timeout_in_match():
    entries = (Entry("user", ("backup",), idle_timeout=0), Entry("group", ("admins",), None, 60, 3, 900))
    settings = translate(Policy(idle_timeout=3600, idle_command_timeout=7200, match=entries), (10, 5))
    assert settings.blocks == ((entries[0], NEVER), (entries[1], PAIR + IDLE))
    assert problems(Policy(idle_timeout=900, match=entries), (8, 4)) == [
        "ssh_keepalive.idle_timeout: 900: OpenSSH 8.4 has no ChannelTimeout: set idle_fallback: tmout, which ends "
        "bash and ksh at their prompt and nothing else, remove idle_timeout, or use OpenSSH 9.2 or later",
        "ssh_keepalive.match[0].idle_timeout: none: OpenSSH 8.4 ignores ChannelTimeout in Match: "
        "remove it, or use OpenSSH 10.5 or later",
        "ssh_keepalive.match[1].idle_timeout: 900: OpenSSH 8.4 ignores ChannelTimeout in Match: "
        "remove it, or use OpenSSH 10.5 or later",
    ]
    assert len(problems(Policy(match=entries), (10, 4))) == 2


@pytest.mark.parametrize(
    ("criterion", "patterns", "who"),
    [
        ("user", ("alice", "b?b*"), {"alice", "bob"}),
        ("user", ("*",), {"alice", "bob", "carol"}),
        ("user", ("Alice",), set()),
        ("group", ("adm*",), {"alice", "carol"}),
        ("group", ("users", "wheel"), {"alice", "bob"}),
        ("address", ("10.0.0.0/8",), {"alice"}),
        ("address", ("2001:db8::/32", "192.0.2.7"), {"bob", "carol"}),
    ],
)
def test_whom_an_entry_fits(criterion, patterns, who):
    people = [
        Connection("alice", ("users", "admins"), "10.1.2.3"),
        Connection("bob", ("wheel",), "2001:db8::1"),
        Connection("carol", ("adm",), "192.0.2.7"),
    ]
    assert {person.user for person in people if fits(Entry(criterion, patterns), person)} == who


def test_the_first_entry_that_fits_and_sets_a_time_wins():
    entries = (
        Entry("user", ("alice",), unresponsive_timeout=600),
        Entry("group", ("admins",), unresponsive_timeout=1200, idle_timeout=0),
    )
    settings = translate(Policy(unresponsive_timeout=180, idle_timeout=900, match=entries), (10, 5))

    def values(user, *groups):
        found = dict(expected(settings, Connection(user, groups, "192.0.2.1")))
        return found["ClientAliveInterval"], found["ClientAliveCountMax"], found["UnusedConnectionTimeout"]

    assert values("alice", "admins") == ("5", "119", "0")
    assert values("alice") == ("5", "119", "900")
    assert values("bob", "admins") == ("5", "239", "0")
    assert values("bob") == ("5", "35", "900")


def test_variants_are_what_other_versions_would_have():
    policy = Policy(unresponsive_timeout=60, idle_timeout=900, idle_fallback="tmout")
    others = [translate(policy, version) for version in ((8, 4), (9, 2), (9, 7), (10, 0), (10, 6))]
    found = {settings._replace(version=None) for settings in variants(policy)}
    assert {settings._replace(version=None) for settings in others} <= found
    assert variants(policy._replace(idle_fallback="none"))
    assert all(settings.tmout is None for settings in variants(policy._replace(idle_fallback="none")))


DROPPED = "a client that stopped answering is disconnected 180 s after its last sign of life"
SIXTY_3 = Policy(client_alive_interval=60, client_alive_count_max=3)
ALICE = Entry("user", ("alice",), unresponsive_timeout=600)


@pytest.mark.parametrize(
    ("policy", "version", "words"),
    [
        (Policy(unresponsive_timeout=180), (9, 2), DROPPED),
        (SIXTY_3, (9, 2), DROPPED.replace("180", "420 to 480")),
        (SIXTY_3, (9, 5), DROPPED.replace("180", "240")),
        (Policy(client_alive_interval=0, client_alive_count_max=3), (9, 2), "sshd disconnects no silent client"),
        (Policy(tcp_keep_alive=True), (9, 2), "sshd keeps its own setting for silent clients"),
        (
            Policy(unresponsive_timeout=180, idle_timeout=900),
            (9, 2),
            DROPPED + ", a session without traffic ends after 900 s",
        ),
        (
            Policy(unresponsive_timeout=180, idle_timeout=900, idle_fallback="tmout"),
            (8, 4),
            DROPPED + ", a bash or ksh that waits at its prompt ends after 900 s",
        ),
        (Policy(unresponsive_timeout=180, idle_timeout=0), (9, 2), DROPPED + ", no idle session is ended"),
        (
            Policy(unresponsive_timeout=180, idle_timeout=900, idle_command_timeout=7200),
            (9, 2),
            DROPPED + ", a shell without traffic ends after 900 s, a command or a subsystem after 7200 s",
        ),
        (
            Policy(unresponsive_timeout=180, match=(ALICE,)),
            (9, 2),
            DROPPED + ", match sets other times for some",
        ),
    ],
)
def test_what_is_promised(policy, version, words):
    assert ", ".join(promises(translate(policy, version))) == words


def test_a_connection_as_sshd_is_asked_about_it():
    assert str(NOBODY) == "user=.invalid,host=.invalid,addr=192.0.2.1,laddr=192.0.2.1,lport=22"
    alice = Connection("alice", ("users",), "10.1.2.3", "a.example", "10.0.0.1", 2222)
    assert str(alice) == "user=alice,host=a.example,addr=10.1.2.3,laddr=10.0.0.1,lport=2222"
