import os
import time

import pytest
from proc import Proc
from ssh_keepalive import processes

LISTENER = "sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups"
SESSION = "/usr/lib/openssh/sshd-session"
# What ps shows on Debian 11 and 12, on 13, and on testing: pid, parent, uid, program, title
DEBIAN_12 = [
    (97, 1, 0, "/usr/sbin/sshd", LISTENER),
    (165, 97, 0, "/usr/sbin/sshd", "sshd: [accepted]"),
    (166, 97, 0, "/usr/sbin/sshd", "sshd: debian [priv]"),
    (167, 97, 0, "/usr/sbin/sshd", "sshd: root@notty"),
    (168, 97, 0, "/usr/sbin/sshd", "sshd: anna [priv]"),
    (169, 97, 0, "/usr/sbin/sshd", "sshd: ops"),
    (170, 97, 0, "/usr/sbin/sshd", "sshd: late [priv]"),
    (171, 170, 107, "/usr/sbin/sshd", "sshd: late [net]"),
    (208, 166, 1000, "/usr/sbin/sshd", "sshd: debian"),
    (213, 168, 1001, "/usr/sbin/sshd", "sshd: anna@pts/1"),
]
DEBIAN_13 = [
    (119, 1, 0, "/usr/sbin/sshd", LISTENER),
    (175, 119, 0, SESSION, "sshd-session: root [priv]"),
    (178, 119, 0, SESSION, "sshd-session: [accepted]"),
    (179, 119, 0, SESSION, "sshd-session: debian [priv]"),
    (180, 119, 0, SESSION, "sshd-session: late [priv]"),
    (181, 180, 107, "/usr/lib/openssh/sshd-auth", "sshd-auth: late [net]"),
    (228, 175, 0, SESSION, "sshd-session: root@notty"),
    (240, 179, 1000, SESSION, "sshd-session: debian@pts/1"),
]
TESTING = [
    (109, 1, 0, "/usr/sbin/sshd", LISTENER),
    (166, 109, 0, SESSION, "sshd-session: [accepted]"),
    (167, 109, 0, SESSION, "sshd-session: root [postauth]"),
    (168, 109, 0, SESSION, "sshd-session: debian [postauth]"),
    (172, 166, 994, "/usr/lib/openssh/sshd-auth", "sshd-auth: [session-auth]"),
    (225, 167, 0, SESSION, "sshd-session: root@notty"),
    (230, 168, 1000, SESSION, "sshd-session: debian"),
]


@pytest.fixture
def proc(tmp_path):
    return Proc(tmp_path / "proc")


def shown(proc):
    return [(session.user, session.pid) for session in processes.sessions(str(proc.folder))]


@pytest.mark.parametrize(
    ("table", "sessions"),
    [
        (DEBIAN_12, [("debian", 166), ("root", 167), ("anna", 168), ("ops", 169)]),
        (DEBIAN_13, [("root", 175), ("debian", 179)]),
        (TESTING, [("root", 167), ("debian", 168)]),
    ],
    ids=["8.4-and-9.2", "10.0", "10.6"],
)
def test_sessions_are_those_who_have_logged_in(proc, table, sessions):
    for pid, parent, uid, exe, title in table:
        proc.add(pid, parent, title, began=1e9, uid=uid, exe=exe)
    assert shown(proc) == sessions


def test_a_session_of_an_sshd_that_was_upgraded_counts(proc):
    proc.add(5, 1, "sshd: root@pts/0", exe="/usr/sbin/sshd (deleted)")
    assert shown(proc) == [("root", 5)]


@pytest.mark.parametrize(
    "changes",
    [{"uid": 1000}, {"exe": "/usr/bin/python3"}, {"namespace": "pid:[2]"}],
    ids=["user", "program", "container"],
)
def test_others_do_not_pass_as_sessions(proc, changes):
    proc.add(5, 1, "sshd: root@pts/0", **changes)
    assert shown(proc) == []


def test_a_process_that_ends_meanwhile_is_left_out(proc):
    proc.add(5, 1, "sshd: root@pts/0")
    (proc.add(6, 1, "sshd: anna@pts/1") / "cmdline").unlink()
    assert shown(proc) == [("root", 5)]


@pytest.mark.parametrize(
    ("address", "is_shown_as"),
    [("192.0.2.7", "192.0.2.7"), ("2001:db8::7", "2001:db8::7"), ("::ffff:192.0.2.7", "192.0.2.7"), ("::1", "::1")],
)
def test_from_where_and_since_when(proc, address, is_shown_as):
    began = time.time() - 1000
    proc.add(5, 4, "sshd: root@pts/0", began=began)
    proc.connect(5, address, 4711)
    (session,) = processes.sessions(str(proc.folder))
    assert session.began == pytest.approx(began, abs=0.1)
    assert session[:4] == ("root", 5, 4, is_shown_as)


def test_no_connection_no_address(proc):
    proc.add(5, 4, "sshd: root@pts/0")
    assert processes.sessions(str(proc.folder))[0].address is None


def test_the_listener_has_read_when_it_wrote_its_pid(proc, tmp_path):
    now = time.time()
    proc.add(5, 1, LISTENER, began=now - 100)
    file = tmp_path / "sshd.pid"
    file.write_text("5\n")
    os.utime(str(file), (now - 50, now - 50))
    found = processes.listener(str(file), str(proc.folder))
    assert found.pid == 5
    assert (found.began, found.read) == (pytest.approx(now - 100, abs=0.1), pytest.approx(now - 50, abs=0.001))


@pytest.mark.parametrize("text", ["77\n", "", None], ids=["of-another", "empty", "none"])
def test_without_its_pid_the_oldest_listener_counts_from_its_beginning(proc, tmp_path, text):
    now = time.time()
    proc.add(6, 1, LISTENER, began=now - 10)
    proc.add(5, 1, LISTENER, began=now - 100)
    file = tmp_path / "sshd.pid"
    if text is not None:
        file.write_text(text)
    found = processes.listener(str(file), str(proc.folder))
    assert found == (5, pytest.approx(now - 100, abs=0.1), found.began)


def test_no_listener(proc):
    proc.add(5, 1, "sshd: root@pts/0")
    assert processes.listener(None, str(proc.folder)) is None
