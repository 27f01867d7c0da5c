import pytest
from ssh_keepalive.openssh import Expression, express, has, parse_version
from ssh_keepalive.policy import Policy


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
    assert express(pair, version) == Expression(
        (("ClientAliveInterval", "60"), ("ClientAliveCountMax", "3")), 480 if doubles else 240
    )


@pytest.mark.parametrize(
    ("timeout", "version", "pair", "dropped_after"),
    [
        (15, (10, 0), ("3", "4"), 15),
        (15, (9, 2), ("1", "6"), 14),
        (20, (10, 0), ("5", "3"), 20),
        (60, (10, 0), ("15", "3"), 60),
        (61, (10, 0), ("15", "3"), 60),
        (180, (8, 4), ("45", "3"), 180),
        (180, (9, 2), ("18", "4"), 180),
        (181, (10, 0), ("45", "3"), 180),
        (900, (10, 0), ("60", "14"), 900),
        (900, (9, 2), ("30", "14"), 900),
        (86400, (10, 0), ("60", "1439"), 86400),
    ],
)
def test_unresponsive_timeout(timeout, version, pair, dropped_after):
    directives = (("ClientAliveInterval", pair[0]), ("ClientAliveCountMax", pair[1]))
    assert express(Policy(unresponsive_timeout=timeout), version) == Expression(directives, dropped_after)


@pytest.mark.parametrize(("version", "factor"), [((10, 0), 1), ((9, 2), 2)])
def test_every_unresponsive_timeout_is_kept(version, factor):
    for timeout in range(15, 86401):
        directives, dropped_after = express(Policy(unresponsive_timeout=timeout), version)
        interval, count = int(directives[0][1]), int(directives[1][1])
        early = timeout - factor * interval * (count + 1)
        assert dropped_after == timeout - early
        assert 0 <= early <= max(1, timeout // 100)
        assert factor * interval <= 60
        assert count >= 3
        longer = [other for other in range(5, 60 // factor + 1) if timeout // (factor * other) >= 4]
        best = min((timeout % (factor * other) for other in longer), default=timeout)
        if interval >= 5:
            assert early == best
        else:
            # Shorter than 5 s only where no longer one comes close enough
            assert best > max(1, timeout // 100)


def test_off_and_the_kernels_probes():
    assert express(Policy(client_alive_interval=0, client_alive_count_max=3), (10, 0)) == Expression(
        (("ClientAliveInterval", "0"), ("ClientAliveCountMax", "3")), None
    )
    assert express(Policy(tcp_keep_alive=True), (10, 0)) == Expression((("TCPKeepAlive", "yes"),), None)
    assert express(Policy(tcp_keep_alive=False), (10, 0)) == Expression((("TCPKeepAlive", "no"),), None)
