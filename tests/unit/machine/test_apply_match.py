"""Match entries are verified for one of each set of times."""

import pytest
from ssh_keepalive.machine.apply import apply
from ssh_keepalive.machine.status import status
from ssh_keepalive.policy import Entry, Policy

POLICY = Policy(unresponsive_timeout=180)
ROOT = Entry("group", ("no-such-group", "r?ot"), None, 60, 3)
OFFICE = Entry("address", ("10.0.0.0/8",), None, 61, 3)
BACKUP = Entry("user", ("backup-*",), None, 62, 3)


def asked(machine):
    """Return whom sshd was asked about, user and address."""
    calls = [call.split()[-1] for call in machine.calls("sshd") if call.startswith("-T")]
    return [" ".join(call.split(",")[:3:2]) for call in calls]


def test_one_of_each_entry_is_asked_about(machine):
    apply(POLICY._replace(match=(ROOT, OFFICE, BACKUP)), machine.host())
    nobody, root = "user=.invalid addr=192.0.2.1", "user=root addr=192.0.2.1"
    entries = [root, "user=.invalid addr=10.0.0.0", "user=backup- addr=192.0.2.1"]
    # Of the candidate the trace tells that all Match lines are read.
    assert asked(machine) == [nobody, nobody, root, *entries]


@pytest.mark.parametrize("count", [1, 50, 250])
def test_the_number_of_processes_does_not_grow_with_the_policy(machine, count):
    times = [60 + number % 4 for number in range(count)]
    entries = tuple(Entry("user", ("u{}".format(number),), None, seconds, 3) for number, seconds in enumerate(times))
    report = apply(POLICY._replace(match=entries), machine.host())
    sets = len(set(times))
    note = ("{} of {} match entries are read, not asked about".format(count - sets, count),) if count > sets else ()
    assert report.notes == note
    assert len(machine.calls("sshd")) == 4 + sets  # its version, a candidate, nobody, root
    machine.forget_calls()
    state = status(machine.host())
    assert state.verdict == "enforced"
    assert state.notes[: len(note)] == note
    assert len(machine.calls("sshd")) == 3 + sets


def test_an_entry_of_250_patterns_is_one_although_sshd_cuts_its_line(machine):
    machine.set("sshd", longest_message=1000)
    entry = Entry("user", tuple("customer-{:03}".format(number) for number in range(250)), None, 60, 3)
    assert apply(POLICY._replace(match=(entry,)), machine.host()).notes == ()
    machine.forget_calls()
    assert status(machine.host()).verdict == "enforced"
    assert len(machine.calls("sshd")) == 4


def test_what_is_verified_stands_when_time_is_up(machine):
    host = machine.host()
    host.extend(5.5 - host.seconds_left)
    machine.set("sshd", hangs={"user=.invalid,host=.invalid,addr=192.0.2.1,laddr=192.0.2.1,lport=22": 0.3})
    report = apply(POLICY._replace(match=(OFFICE, BACKUP)), host)
    assert report.notes == (
        "for user root from 192.0.2.1, user .invalid from 10.0.0.0, user backup- from 192.0.2.1 the policy is not "
        "verified, no time was left",
    )
    assert machine.file.exists()


def test_an_entry_that_another_file_overrides_is_named(machine, refused):
    (machine.file.parent / "00-a.conf").write_text("Match User root\nClientAliveInterval 7\n")
    said = refused(POLICY._replace(match=(ROOT,)))
    assert said == (
        "ClientAliveInterval is 7 where 60 is expected for user root from 192.0.2.1, "
        "/etc/ssh/sshd_config.d/00-a.conf:2 overrides it: "
        "remove that line and restart sshd, or name whom it is for in ssh_keepalive.match"
    )


def test_a_line_that_holds_for_all_is_not_roots_alone_since_another_names_root(machine, refused):
    with machine.main.open("a") as stream:
        stream.write("Match User root\nX11Forwarding no\nMatch Group *\nClientAliveInterval 7\n")
    assert refused(Policy(unresponsive_timeout=180)) == (
        "ClientAliveInterval is 7 where 5 is expected for user root from 192.0.2.1, /etc/ssh/sshd_config:6 overrides "
        "it: remove that line and restart sshd, or name whom it is for in ssh_keepalive.match"
    )


def test_a_line_of_the_same_words_as_an_entrys_is_somebody_elses(machine, refused):
    (machine.file.parent / "00-a.conf").write_text("Match User backup\nClientAliveInterval 7\n")
    entries = tuple(Entry("user", (name,), None, 60, 3) for name in ("alice", "backup"))
    assert refused(POLICY._replace(match=entries)).startswith(
        "ClientAliveInterval is 7 where 60 is expected for user backup from 192.0.2.1, "
        "/etc/ssh/sshd_config.d/00-a.conf:2 overrides it: "
    )


def test_an_entry_behind_one_that_fits_the_same_people_has_no_say(machine):
    everybody = Entry("user", ("*",), None, 60, 3)
    apply(POLICY._replace(match=(everybody, OFFICE, BACKUP)), machine.host())
    assert machine.file.exists()


def test_an_entry_that_fits_nobody_yet_is_told(machine):
    nobody = Entry("group", ("no-such-group",), None, 60, 3)
    report = apply(POLICY._replace(match=(OFFICE, nobody)), machine.host())
    assert machine.shown(report) == (
        "ssh_keepalive: a client that stopped answering is disconnected 180 s after its last sign of life, match sets "
        "other times for some (ClientAliveInterval 5, ClientAliveCountMax 35 on OpenSSH 8.4); "
        "match[1] is not verified, Match Group no-such-group fits nobody who is known here yet; "
        "/etc/ssh/sshd_config.d/00-ssh-keepalive.conf changed, sshd reads it when it starts"
    )


def test_where_name_services_do_not_answer_only_the_globals_are_verified(machine, monkeypatch):
    monkeypatch.setattr("ssh_keepalive.machine.accounts._SECONDS", 0.0)
    report = apply(POLICY._replace(match=(ROOT,)), machine.host())
    assert len(report.notes) == 1
    assert machine.file.exists()
