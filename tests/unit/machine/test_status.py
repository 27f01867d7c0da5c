"""The state of a machine: what was asked, what is expected, and what sshd says."""

import re

import pytest
from ssh_keepalive.machine import files
from ssh_keepalive.machine.apply import apply
from ssh_keepalive.machine.host import SlowError
from ssh_keepalive.machine.problem import Problem
from ssh_keepalive.machine.questions import Questions
from ssh_keepalive.policy import Entry, Policy
from states import DROP_IN, POLICY, PROMISE, told

NO_CLOUD_INIT = "note: no cloud-init here that would run the module"


def test_an_enforced_policy(enforced):
    assert told(enforced, 0) == [
        "enforced: " + PROMISE,
        'policy: {"unresponsive_timeout": 180}',
        "asked by: ssh-keepalive apply, or earlier user-data",
        "openssh: 8.4",
        "expected: ClientAliveInterval 5, ClientAliveCountMax 35",
        "sshd: ssh.service (process 5000001, port 22) has read the configuration as it is now",
        NO_CLOUD_INIT,
    ]
    asked = "-T -ddd -C user=.invalid,host=.invalid,addr=192.0.2.1,laddr=192.0.2.1,lport=22"
    assert enforced.calls("sshd") == ["-V", asked]
    assert len(enforced.calls("systemctl")) == 1


def test_a_newer_sshd_is_asked_for_its_configuration_alone(enforced):
    enforced.openssh("9.9")
    told(enforced, 0)
    assert enforced.calls("sshd")[1].startswith("-G -T -ddd -C ")


def test_nothing_is_configured(machine):
    assert told(machine, 0) == ["not configured", NO_CLOUD_INIT]


def test_each_value_that_does_not_win_is_a_problem(enforced):
    (enforced.file.parent / "00-a.conf").write_text("ClientAliveInterval 7\nClientAliveCountMax 1\n")
    folder = "/etc/ssh/sshd_config.d/"
    assert told(enforced, 1)[:4] == [
        "not enforced: ClientAliveInterval is 7 where 5 is expected, " + folder + "00-a.conf:1 overrides it",
        "remedy: remove that line and restart sshd",
        "problem: ClientAliveCountMax is 1 where 35 is expected, " + folder + "00-a.conf:2 overrides it",
        "remedy: remove that line and restart sshd",
    ]


def test_a_main_file_that_reads_no_drop_ins(enforced):
    enforced.main.write_text("UsePAM yes\n")
    assert told(enforced, 1)[:2] == [
        "not enforced: ClientAliveInterval is 0 where 5 is expected: /etc/ssh/sshd_config does not read " + DROP_IN,
        "remedy: ssh-keepalive reapply",
    ]


def test_a_vendors_main_file_that_reads_no_drop_ins_is_not_ours_to_change(enforced):
    vendor = enforced.root / "usr/etc/ssh/sshd_config"
    vendor.parent.mkdir(parents=True)
    enforced.main.unlink()
    vendor.write_text("UsePAM yes\n")
    enforced.set("sshd", main="/usr/etc/ssh/sshd_config")
    assert told(enforced, 1)[:2] == [
        "not enforced: ClientAliveInterval is 0 where 5 is expected: ssh.service (process 5000001, port 22) reads "
        "/usr/etc/ssh/sshd_config, which does not read " + DROP_IN,
        "remedy: put 'Include " + DROP_IN + "' on its first line, then systemctl restart ssh.service",
    ]


def test_a_match_of_somebody_elses_for_a_user_a_network_and_unknown_ones(enforced):
    with enforced.main.open("a") as stream:
        stream.write("Match User !bob,al*\nClientAliveInterval 9\nMatch Address 10.0.0.0/8\nClientAliveInterval 8\n")
        stream.write("Match Group root\nClientAliveInterval 5\nMatch Version old\nClientAliveInterval 6\n")
    lines = told(enforced, 1)
    remedy = "remedy: remove that line and restart sshd, or name whom it is for in ssh_keepalive.match"
    said = "ClientAliveInterval is {} where 5 is expected for Match {}, /etc/ssh/sshd_config:{} overrides it"
    assert lines[:4] == [
        "not enforced: " + said.format(9, "User !bob,al*", 4),
        remedy,
        "problem: " + said.format(8, "Address 10.0.0.0/8", 6),
        remedy,
    ]
    # What is not known comes after what is known to be wrong.
    assert [line for line in lines if line.startswith("problem: ")][1:] == [
        "problem: what Match Version old changes is not known, since not everybody whom it may fit is known",
        "problem: whether ssh.service (process 5000001, port 22) has read /etc/ssh/sshd_config as it is now is not "
        "known",
    ]


def test_a_match_of_which_nobody_is_known_leaves_it_unknown(enforced):
    with enforced.main.open("a") as stream:
        stream.write("Match Version old\nClientAliveInterval 6\n")
    enforced.start()
    assert told(enforced, 2)[:2] == [
        "unknown: what Match Version old changes is not known, since not everybody whom it may fit is known",
        "remedy: look at what that Match sets",
    ]


OTHERS_FIRST = "Match {}\nClientAliveInterval 5\nMatch {}\nClientAliveInterval 7\n"


@pytest.mark.parametrize(
    ("first", "second"),
    [("User al,al1", "User al*"), ("Address 10.0.0.0/24,10.255.0.0/16", "Address 10.0.0.0/8")],
)
def test_those_whom_an_earlier_match_leaves_to_a_later_one(enforced, first, second):
    with enforced.main.open("a") as stream:
        stream.write(OTHERS_FIRST.format(first, second))
    enforced.start()
    said = (
        "not enforced: ClientAliveInterval is 7 where 5 is expected for Match {}, /etc/ssh/sshd_config:6 overrides it"
    )
    assert told(enforced, 1)[0] == said.format(second)


def test_an_earlier_match_that_hides_a_later_one_from_all_who_are_asked_about(enforced):
    with enforced.main.open("a") as stream:
        stream.write(OTHERS_FIRST.format("User a*", "User al*"))
    enforced.start()
    assert told(enforced, 2)[:2] == [
        "unknown: what Match User al* changes is not known, other lines override it for those who were asked about",
        "remedy: /usr/sbin/sshd -T -C user=NAME,host=.invalid,addr=ADDRESS,laddr=192.0.2.1,lport=22 tells what "
        "somebody gets",
    ]


@pytest.mark.parametrize("second", ["User alice", "User alice Address 10.0.0.0/8"])
def test_a_match_that_an_earlier_one_leaves_nobody(enforced, second):
    with enforced.main.open("a") as stream:
        stream.write(OTHERS_FIRST.format("User alice,bob", second))
    enforced.start()
    assert told(enforced, 0)[0] == "enforced: " + PROMISE


@pytest.mark.parametrize(
    ("first", "match", "code"),
    [("50", "User al*", 1), ("00-a", "User al*", 1), ("50", "User al", 0), ("00-a", "User al", 0)],
)
def test_those_whom_a_match_entry_leaves_to_somebodys_match(machine, first, match, code):
    entry = Entry("user", ("al", "al1"), client_alive_interval=30, client_alive_count_max=3)
    apply(POLICY._replace(match=(entry,)), machine.host())
    # Those whom the entry fits have what is expected for them.
    (machine.file.parent / (first + ".conf")).write_text("Match " + match + "\nClientAliveInterval 30\n")
    machine.start()
    lines = told(machine, code)
    assert bool([line for line in lines if "is 30 where 5 is expected for Match User al*" in line]) == bool(code)


def test_somebodys_match_for_which_there_was_no_time(enforced, monkeypatch):
    ask = Questions.ask

    def in_time(questions, server, connection, *arguments, **named):
        if connection.user == "late":
            raise SlowError(Problem("no time left"))
        return ask(questions, server, connection, *arguments, **named)

    monkeypatch.setattr(Questions, "ask", in_time)
    with enforced.main.open("a") as stream:
        for name in ("same", "late", "later"):
            stream.write("Match User {}\nClientAliveInterval {}\n".format(name, 5 if name == "same" else 7))
    enforced.start()
    assert told(enforced, 2)[:2] == [
        "unknown: there was no time to ask about 2 Match lines that may change it, from Match User late on",
        "remedy: /usr/sbin/sshd -T -C user=NAME,host=.invalid,addr=ADDRESS,laddr=192.0.2.1,lport=22 tells what "
        "somebody gets",
    ]


def test_a_keyword_by_its_other_name(machine):
    apply(Policy(tcp_keep_alive=True), machine.host())
    machine.main.write_text("KeepAlive no\n" + machine.main.read_text())
    machine.start()
    assert told(machine, 1)[:2] == [
        "not enforced: TCPKeepAlive is no where yes is expected, /etc/ssh/sshd_config:1 overrides it",
        "remedy: remove that line and restart sshd",
    ]
    machine.add_unit("ssh.service", words="-D -o KeepAlive=no")
    machine.start()
    assert told(machine, 1)[0] == (
        "not enforced: TCPKeepAlive is no where yes is expected, sshd is started with -o keepalive=no, which "
        "overrides it"
    )


def test_a_match_that_sets_nothing_of_ours_is_not_asked_about(enforced):
    with enforced.main.open("a") as stream:
        stream.write("Match Version old\nX11Forwarding no\n")
    enforced.start()
    assert told(enforced, 0)[0] == "enforced: " + PROMISE
    assert len(enforced.calls("sshd")) == 3


def test_what_root_has_by_name_is_a_problem(enforced):
    (enforced.file.parent / "50-root.conf").write_text("Match User root\nClientAliveInterval 0\n")
    assert told(enforced, 1)[0] == (
        "not enforced: ClientAliveInterval is 0 where 5 is expected for user root from 192.0.2.1, "
        "/etc/ssh/sshd_config.d/50-root.conf:2 overrides it"
    )


def test_entries_of_match_are_asked_about(machine):
    entries = (
        Entry("user", ("root",), client_alive_interval=30, client_alive_count_max=3),
        Entry("group", ("no-such-group",), client_alive_interval=31, client_alive_count_max=3),
    )
    apply(POLICY._replace(match=entries), machine.host())
    lines = told(machine, 0, path=None)
    assert "note: match[1] is not verified, Match Group no-such-group fits nobody who is known here yet" in lines
    assert not [line for line in lines if "is not known" in line]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Interval 5", "Interval 99", "ClientAliveInterval is 99 where 5 is expected: {} was changed by hand"),
        ("ClientAliveInterval 5\n", "", "ClientAliveInterval is 0 where 5 is expected: {} was changed by hand"),
        ("Interval 5", "Interval 30", "ClientAliveInterval is 30 where 5 is expected: {} was changed by hand"),
    ],
)
def test_a_drop_in_that_was_changed_by_hand(enforced, old, new, message):
    enforced.file.write_text(enforced.file.read_text().replace(old, new))
    assert told(enforced, 1)[:2] == ["not enforced: " + message.format(DROP_IN), "remedy: ssh-keepalive reapply"]


def test_a_drop_in_that_was_changed_by_hand_and_means_the_same(enforced):
    enforced.file.write_text(enforced.file.read_text() + "# mine\n")
    enforced.start()
    assert "note: {} was changed by hand, but sshd has the expected values".format(DROP_IN) in told(enforced, 0)


def test_a_drop_in_for_another_openssh(enforced):
    enforced.openssh("9.2")
    assert told(enforced, 1)[:2] == [
        "not enforced: ClientAliveInterval is 5 where 3 is expected: " + DROP_IN + " is written for another OpenSSH",
        "remedy: ssh-keepalive reapply",
    ]


def test_a_policy_that_this_openssh_cannot_enforce(machine):
    machine.openssh("9.9")
    apply(Policy(idle_timeout=900), machine.host())
    machine.openssh("8.4")
    assert told(machine, 1)[:2] == [
        "not enforced: ssh_keepalive.idle_timeout: 900: OpenSSH 8.4 has no ChannelTimeout: set idle_fallback: tmout, "
        "which ends bash and ksh at their prompt and nothing else, remove idle_timeout, or use OpenSSH 9.2 or later",
        "remedy: ssh-keepalive apply FILE, with a policy that it can enforce",
    ]


def test_a_profile_that_is_gone(machine):
    apply(Policy(idle_timeout=900, idle_fallback="tmout"), machine.host())
    assert told(machine, 0)[-2] == (
        "sshd: ssh.service does not run, it reads the configuration as it is when it starts"
    )
    (machine.profile / "zz-ssh-keepalive.sh").unlink()
    assert told(machine, 1)[:2] == [
        "not enforced: /etc/profile.d/zz-ssh-keepalive.sh is not as it was written",
        "remedy: ssh-keepalive reapply",
    ]


def test_a_file_that_cannot_be_read(enforced, monkeypatch):
    def text(file):
        raise PermissionError(13, "Permission denied", file)

    monkeypatch.setattr(files, "text", text)
    assert told(enforced, 2) == ["unknown: /etc/ssh/sshd_config: Permission denied", "remedy: ask as root"]


def test_a_configuration_with_which_every_login_would_be_refused(enforced):
    big = enforced.ssh / "big.conf"
    with enforced.main.open("a") as stream:
        stream.write("Include {}\n".format(big))
    enforced.openssh("10.0p2")
    big.write_text("#" * 251000)
    lines = [re.sub("2[0-9]{5} bytes", "250000 bytes", line) for line in told(enforced, 1)]
    assert lines[:2] == [
        "not enforced: the configuration of ssh.service (process 5000001, port 22) has 250000 bytes, above 256 KiB "
        "this version refuses every login",
        "remedy: shorten /etc/ssh/sshd_config and what it includes, then systemctl restart ssh.service",
    ]


def test_no_sshd(enforced):
    enforced.off_systemd()
    enforced.stop()
    assert told(enforced, 2, path="/nowhere")[:2] == [
        "unknown: sshd is not on this machine (looked in /nowhere)",
        "remedy: correct that, then ssh-keepalive status",
    ]


@pytest.mark.parametrize(
    ("said", "code", "verdict"),
    [
        ("Missing privilege separation directory: /run/sshd", 2, "unknown: sshd -T answers once sshd has started: {}"),
        ("sshd: no hostkeys available -- exiting.", 2, "unknown: sshd -T answers once sshd has started: {}"),
        ("/x: line 1: Bad configuration option: y", 1, "not enforced: sshd refuses its configuration: {}"),
    ],
)
def test_an_sshd_that_does_not_say(enforced, said, code, verdict):
    enforced.set("sshd", answers={"-ddd": (255, "", "debug1: sshd version\n" + said)})
    assert told(enforced, code)[0] == verdict.format(said)


def test_a_drop_in_without_a_policy(enforced):
    enforced.file.write_text("ClientAliveInterval 5\n")
    assert told(enforced, 1)[:2] == [
        "not enforced: " + DROP_IN + " has no policy line that can be read",
        "remedy: ssh-keepalive apply FILE",
    ]


def test_a_policy_in_the_main_file(machine):
    machine.openssh("8.0")
    machine.main.write_text("UsePAM yes\n")
    apply(POLICY, machine.host())
    assert told(machine, 0)[0] == "enforced: " + PROMISE
    text = machine.main.read_text()
    machine.main.write_text(text.replace("Interval 5", "Interval 46"))
    assert told(machine, 1)[:2] == [
        "not enforced: ClientAliveInterval is 46 where 5 is expected: /etc/ssh/sshd_config was changed by hand",
        "remedy: ssh-keepalive reapply",
    ]


def test_an_edit_of_the_block_at_the_end_of_the_main_file(machine):
    machine.openssh("8.0")
    machine.main.write_text("UsePAM yes\n")
    apply(POLICY._replace(match=(Entry("user", ("al",), unresponsive_timeout=3600),)), machine.host())
    machine.start()
    assert told(machine, 0)[0].startswith("enforced: " + PROMISE)
    text = machine.main.read_text()
    head, _, end = text.rpartition("ClientAliveInterval ")
    machine.main.write_text(head + "ClientAliveInterval 7\n" + end.partition("\n")[2])
    machine.start()
    lines = told(machine, 1)
    assert lines[0].endswith(" for user al from 192.0.2.1: /etc/ssh/sshd_config was changed by hand")
    assert lines[1] == "remedy: ssh-keepalive reapply"
    assert not [line for line in lines if line.startswith("problem: ")]


def test_an_option_of_the_sshd_that_runs(enforced):
    enforced.add_unit("ssh.service", words="-D -o ClientAliveInterval=0")
    enforced.start()
    assert told(enforced, 1)[:2] == [
        "not enforced: ClientAliveInterval is 0 where 5 is expected, "
        "sshd is started with -o ClientAliveInterval=0, which overrides it",
        "remedy: remove that, systemctl cat ssh.service shows it, then systemctl restart ssh.service",
    ]
