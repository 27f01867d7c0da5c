import os
import time

import pytest
from fakes.proc import Proc
from ssh_keepalive.machine import processes
from ssh_keepalive.machine.host import Host
from ssh_keepalive.machine.sessions import sessions

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
# openssh-server-pam
ALPINE = [
    (109, 1, 0, "/usr/sbin/sshd.pam", "sshd: /usr/sbin/sshd.pam [listener] 0 of 10-100 startups"),
    (167, 109, 0, "/usr/lib/ssh/sshd-session.pam", "sshd-session.pam: root@pts/0"),
    (168, 109, 0, "/usr/lib/ssh/sshd-session.pam", "sshd-session.pam: alice [priv]"),
    (169, 109, 0, "/usr/lib/ssh/sshd-session.pam", "sshd-session.pam: late [priv]"),
    (172, 169, 994, "/usr/lib/ssh/sshd-auth.pam", "sshd-auth.pam: late [net]"),
    (230, 168, 1000, "/usr/lib/ssh/sshd-session.pam (deleted)", "sshd-session.pam: alice@pts/1"),
]


EVERYWHERE = (("0.0.0.0", 22), ("::", 22))


@pytest.fixture
def proc(tmp_path):
    return Proc(tmp_path / "proc")


def host(proc):
    return Host(root=os.path.dirname(proc.folder))


def shown(proc):
    return [(session.user, session.pid) for session in sessions(host(proc))]


def listening(proc, pid, title, addresses=EVERYWHERE, **details):
    proc.add(pid, 1, title, whole=True, **details)
    proc.listen(pid, *addresses)


@pytest.mark.parametrize(
    ("table", "sessions"),
    [
        (DEBIAN_12, [("debian", 166), ("root", 167), ("anna", 168), ("ops", 169)]),
        (DEBIAN_13, [("root", 175), ("debian", 179)]),
        (TESTING, [("root", 167), ("debian", 168)]),
        (ALPINE, [("root", 167), ("alice", 168)]),
    ],
    ids=["8.4-and-9.2", "10.0", "10.6", "alpine"],
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
    os.unlink(proc.add(6, 1, "sshd: anna@pts/1") + "/cmdline")
    assert shown(proc) == [("root", 5)]


@pytest.mark.parametrize(
    ("address", "is_shown_as"),
    [("192.0.2.7", "192.0.2.7"), ("2001:db8::7", "2001:db8::7"), ("::ffff:192.0.2.7", "192.0.2.7"), ("::1", "::1")],
)
def test_from_where_and_since_when(proc, address, is_shown_as):
    began = time.time() - 1000
    proc.add(5, 4, "sshd: root@pts/0", began=began)
    proc.connect(5, address)
    (session,) = sessions(host(proc))
    assert processes.on_the_clock(session.began) == pytest.approx(began, abs=0.1)
    assert session[:4] == ("root", 5, 4, is_shown_as)


def test_no_connection_no_address(proc):
    proc.add(5, 4, "sshd: root@pts/0")
    assert sessions(host(proc))[0].address is None


def test_a_clock_that_is_set_moves_the_time_of_a_start(proc, monkeypatch):
    proc.add(5, 4, "sshd: root@pts/0")
    (session,) = sessions(host(proc))
    before = processes.on_the_clock(session.began)
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() - 3600)
    assert processes.on_the_clock(session.began) == pytest.approx(before - 3600, abs=1)
    assert sessions(host(proc))[0] == session


def test_a_listener_with_all_that_is_known_of_it(proc):
    began = time.time() - 100
    listening(
        proc, 5, "sshd: /usr/sbin/sshd -D -p 2222 [listener] 0 of 10-100 startups", [("192.0.2.5", 2222)], began=began
    )
    (listener,) = processes.listeners(host(proc))
    assert processes.on_the_clock(listener.began) == pytest.approx(began, abs=0.1)
    assert (listener.pid, listener.parent) == (5, 1)
    assert listener.addresses == (("192.0.2.5", 2222),)
    assert (listener.program, listener.words) == ("/usr/sbin/sshd", ("-D", "-p", "2222"))
    before = listener.sockets
    assert len(before) == 1
    proc.listen(5, ("192.0.2.5", 2222))
    assert processes.listeners(host(proc))[0].sockets != before


@pytest.mark.parametrize(
    ("title", "words"),
    [
        (LISTENER, ("-D",)),
        # 8.0 and 8.1 have no title of a listener.
        ("/usr/sbin/sshd\0-D\0-o\0A b", ("-D", "-o", "A b")),
        ("/opt/ssh/sbin/sshd", ()),
        ("sshd: /usr/sbin/sshd [listener] 3 of 10-100 startups", ()),
        # Cut off
        ("sshd: /usr/sbin/sshd -D -f /etc/ssh/sshd_config_ma", None),
        ("sshd: /usr/sbin/sshd -D [listener] 0 of 10-1", None),
        ("sshd: /usr/sb", None),
        # A link that is gone, or leads elsewhere now
        ("sshd: /opt/gone -D [listener] 0 of 10-100 startups", ("-D",)),
    ],
)
def test_the_words_of_a_listeners_command_line(proc, title, words):
    listening(proc, 5, title)
    assert [listener.words for listener in processes.listeners(host(proc))] == [words]


def test_a_path_with_a_blank(proc):
    listening(proc, 5, "sshd: /opt/my ssh/sshd -D [listener] 0 of 10-100 startups", exe="/opt/my ssh/sshd")
    assert [listener.words for listener in processes.listeners(host(proc))] == [("-D",)]


@pytest.mark.parametrize(
    ("title", "details"),
    [
        (LISTENER, {"uid": 1000}),
        (LISTENER, {"exe": "/usr/bin/python3"}),
        (LISTENER, {"namespace": "pid:[2]"}),
        (LISTENER, {"addresses": ()}),
        # With a forward of its own
        ("sshd: root@pts/0", {}),
        ("sshd-session: root [priv]", {"exe": SESSION}),
    ],
    ids=["user", "program", "container", "listens-on-nothing", "session", "session-process"],
)
def test_others_do_not_pass_as_listeners(proc, title, details):
    listening(proc, 5, title, **details)
    assert processes.listeners(host(proc)) == []


def test_the_program_of_one_that_was_upgraded_is_not_known(proc):
    listening(proc, 5, LISTENER, exe="/usr/sbin/sshd (deleted)")
    assert [listener.program for listener in processes.listeners(host(proc))] == [None]


def test_the_oldest_listener_is_the_first_and_a_twin_is_none(proc):
    now = time.time()
    listening(proc, 6, LISTENER, began=now - 10)
    listening(proc, 5, LISTENER, began=now - 100)
    proc.add(7, 5, LISTENER, whole=True)
    proc.listen(7, *EVERYWHERE)
    assert [listener.pid for listener in processes.listeners(host(proc))] == [5, 6]


def test_whether_there_is_any_process_of_sshd(proc):
    assert not processes.is_any(host(proc))
    proc.add(5, 1, "/usr/sbin/sshd -D")
    assert processes.is_any(host(proc))
    assert processes.listeners(host(proc)) == []


@pytest.mark.parametrize(
    ("text", "pid"),
    [("5\n", 5), ("5", 5), ("", None), ("x", None), ("5 6", None), ("1" * 200, int("1" * 100)), (None, None)],
)
def test_the_number_in_a_pid_file(tmp_path, text, pid):
    file = tmp_path / "pid"
    if text is not None:
        file.write_text(text)
    assert processes.pid_in(str(file)) == pid


def test_a_pipe_in_a_pid_files_place_is_not_waited_for(tmp_path):
    os.mkfifo(str(tmp_path / "pid"))
    assert processes.pid_in(str(tmp_path / "pid")) is None
