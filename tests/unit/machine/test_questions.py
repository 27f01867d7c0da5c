"""One way to ask an sshd, whatever it lacks, and the time that all commands may take."""

import os
import stat
import time

import pytest
from ssh_keepalive.machine import host, servers
from ssh_keepalive.machine.apply import apply
from ssh_keepalive.machine.problem import SshdError, UnansweredError
from ssh_keepalive.machine.questions import Questions
from ssh_keepalive.openssh import NOBODY
from ssh_keepalive.policy import Policy

POLICY = Policy(unresponsive_timeout=180)


def ask(machine, prepares):
    found = machine.host()
    return Questions(found, prepares).ask(servers.find(found)[0], NOBODY)


def test_the_folder_that_sshd_needs_is_made_and_stays(machine):
    apply(POLICY, machine.host())
    assert stat.S_IMODE((machine.run / "sshd").stat().st_mode) == 0o755


def test_a_folder_that_the_end_of_a_connection_takes_along_is_made_again(machine):
    machine.set("sshd", meanwhile=[("-T -ddd -C", str(machine.run / "sshd"), None)])
    assert apply(POLICY, machine.host()).changed
    asked = [call for call in machine.calls("sshd") if call.startswith("-T -ddd -C user=.invalid")]
    assert len(asked) == 2
    assert (machine.run / "sshd").is_dir()


def test_who_only_looks_makes_nothing(machine):
    with pytest.raises(UnansweredError) as caught:
        ask(machine, prepares=False)
    assert machine.shown(caught.value) == (
        "sshd -T answers once sshd has started: Missing privilege separation directory: /run/sshd: start sshd"
    )
    assert not (machine.run / "sshd").exists()


@pytest.mark.parametrize(("version", "expected"), [("9.2p1", "-T"), ("9.3p1", "-G")])
def test_who_only_looks_wants_neither_keys_nor_folder_from_9_3_on(machine, version, expected):
    machine.openssh(version)
    (machine.run / "sshd").mkdir()
    ask(machine, prepares=False)
    assert machine.calls("sshd")[1].split()[0] == expected


@pytest.mark.parametrize("main", [None, "UsePAM yes\n"], ids=["drop-in", "included"])
def test_missing_host_keys_are_stood_in_for(machine, main):
    if main:
        machine.main.write_text(main)
    machine.set("sshd", has_host_keys=False)
    machine.have("ssh-keygen")
    apply(POLICY, machine.host())
    key = machine.ssh / ".00-ssh-keepalive.conf.main.key"
    assert machine.calls("ssh-keygen") == ["-q -t ecdsa -N  -f {}".format(key)] * (2 if main else 1)
    assert os.listdir(str(machine.file.parent)) == [machine.file.name]
    assert os.listdir(str(machine.ssh)) == ["sshd_config", "sshd_config.d"]


def test_no_host_key_can_be_made(machine, refused):
    machine.set("sshd", has_host_keys=False)
    machine.have("ssh-keygen")
    machine.set("ssh-keygen", answers={"-q": (1, "", "no entropy")})
    assert refused() == "no host keys, and none can be made: no entropy"


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"-V": (0, "", "")}, "/usr/sbin/sshd -V names no OpenSSH version: exit 0 without a word"),
        (
            {"-V": (1, "", "OpenSSH_9.2"), "-T": (1, "", "rubbish\n\nOpenSSH_9.2")},
            "sshd refuses its configuration: rubbish / OpenSSH_9.2: correct that until /usr/sbin/sshd -t is silent",
        ),
        (
            {"-V": (3, "", "OpenSSH_9.2"), "-T": (3, "", "OpenSSH_9.2 \udcff")},
            "sshd refuses its configuration: OpenSSH_9.2 \ufffd: correct that until /usr/sbin/sshd -t is silent",
        ),
        (
            {"-V": (0, "OpenSSH_9.2", ""), "-T": (0, "OpenSSH_9.2\n", "")},
            "sshd -T does not report ClientAliveInterval, 3 is expected: use an OpenSSH that does; "
            "sshd -T does not report ClientAliveCountMax, 29 is expected: use an OpenSSH that does",
        ),
    ],
    ids=["silent", "refuses", "not-text", "rubbish"],
)
def test_an_sshd_that_does_not_answer_as_it_should(machine, refused, answers, message):
    machine.set("sshd", answers=answers)
    assert refused() == message


@pytest.mark.parametrize(("where", "limit"), [("child", 10), ("escaped", 5)])
def test_a_command_that_hangs_is_ended_with_its_children(machine, refused, monkeypatch, where, limit):
    monkeypatch.setitem(host.Host.run.__kwdefaults__, "seconds", 0.5)
    machine.set("sshd", hangs={"-V": 6 if where == "escaped" else 60}, hangs_in=where)
    began = time.monotonic()
    assert refused() == "/usr/sbin/sshd -V did not answer within 0.5 s"
    assert time.monotonic() - began < limit


def test_time_runs_out(machine, refused, monkeypatch):
    monkeypatch.setattr(host, "TOTAL_SECONDS", host.WAY_BACK_SECONDS)
    (machine.run / "systemd/system").rmdir()
    assert refused() == "no time left for /usr/sbin/sshd -V, the commands before took too long"


def test_what_is_left_of_the_time_limits_every_command(machine, refused, monkeypatch):
    monkeypatch.setattr(host, "TOTAL_SECONDS", host.WAY_BACK_SECONDS + 3)
    (machine.run / "systemd/system").rmdir()
    machine.set("sshd", hangs={"-V": 1.5, "-T": 60})
    began = time.monotonic()
    # All that was left went into the question about nobody in particular.
    assert refused() == (
        "no time left for /usr/sbin/sshd -T -f /etc/ssh/sshd_config.d/.00-ssh-keepalive.conf.main, "
        "the commands before took too long"
    )
    assert time.monotonic() - began < 6


def test_a_match_for_which_name_services_are_asked_in_vain_leaves_the_globals(machine, monkeypatch):
    monkeypatch.setitem(host.Host.run.__kwdefaults__, "seconds", 1.0)
    (machine.run / "sshd").mkdir()
    machine.set("sshd", hangs={"-C": 60})
    found = machine.host()
    questions, server = Questions(found, prepares=True), servers.find(found)[0]
    reply = questions.ask(server, NOBODY)
    assert reply.about is False
    assert "clientaliveinterval 0\n" in reply.values
    # It is waited for once.
    assert questions.ask(server, NOBODY).about is False
    assert len([call for call in machine.calls("sshd") if "-C" in call]) == 1


def test_a_server_that_would_not_start_again(machine):
    found = machine.host()
    machine.add_unit("ssh.service", words="-D -4 -f {}".format(machine.main))
    (machine.run / "sshd").mkdir()
    server = servers.find(found)[0]
    Questions(found, prepares=True).check(server)
    assert machine.calls("sshd") == ["-t -4 -f {}".format(machine.main)]
    machine.set("sshd", refuses_to_start="no luck")
    with pytest.raises(SshdError, match=r"^sshd runs, but would not start again: no luck$"):
        Questions(found, prepares=True).check(server)
