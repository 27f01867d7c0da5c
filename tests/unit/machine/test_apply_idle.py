"""Idle time-outs by ChannelTimeout, and by TMOUT where sshd has none."""

import os
import stat

import pytest
from ssh_keepalive.machine.apply import apply, reapply
from ssh_keepalive.policy import Policy

IDLE = Policy(idle_timeout=900, idle_fallback="tmout")
BY_CHANNEL = "\nChannelTimeout session:*=900 global=900\nUnusedConnectionTimeout 900\n"


@pytest.mark.parametrize("version", ["9.2p1", "9.9p1", "10.6p1"])
def test_idle_sessions_end_by_an_sshd_that_knows_how(machine, version):
    machine.openssh(version)
    report = str(apply(IDLE, machine.host()))
    assert machine.file.read_text().endswith(BY_CHANNEL)
    assert os.listdir(str(machine.profile)) == []
    assert report.startswith(
        "ssh_keepalive: sshd keeps its own setting for silent clients, a session without traffic ends after 900 s "
        "(ChannelTimeout session:*=900 global=900, UnusedConnectionTimeout 900 on OpenSSH {}); ".format(version[:-2])
    )
    # It is to load its keys once, with what is in place.
    bare = "-T" if version == "9.2p1" else "-G"
    assert [call.split()[0] for call in machine.calls("sshd")] == ["-V", bare, "-T"]


def test_an_old_sshd_to_which_its_distribution_has_added_that_uses_it(machine):
    machine.set("sshd", knows_channel_timeout=True)
    apply(IDLE, machine.host())
    assert machine.calls("sshd")[1] == "-t -f /dev/null -o ChannelTimeout=session:*=60 -o UnusedConnectionTimeout=60"
    assert machine.file.read_text().endswith(BY_CHANNEL)
    assert os.listdir(str(machine.profile)) == []


def test_a_match_that_sets_what_has_no_effect_there_is_no_obstacle(machine):
    machine.openssh("9.2p1")
    with machine.main.open("a") as stream:
        stream.write("Match all\nChannelTimeout session:*=60\n")
    apply(IDLE, machine.host())
    assert machine.file.read_text().endswith(BY_CHANNEL)


def test_tmout_comes_and_goes_with_the_drop_in(machine):
    machine.start()
    report = str(apply(IDLE, machine.host()))
    file = machine.profile / "zz-ssh-keepalive.sh"
    assert report.startswith(
        "ssh_keepalive: sshd keeps its own setting for silent clients, "
        "a bash or ksh that waits at its prompt ends after 900 s (OpenSSH 8.4); "
    )
    assert "        TMOUT=900\n        readonly TMOUT\n" in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert os.listdir(str(machine.profile)) == [file.name]

    file.unlink()
    machine.forget_calls()
    report = apply(IDLE, machine.host())
    assert (file.exists(), report.changed, report.restarted) == (True, True, False)
    assert machine.verbs() == []

    apply(Policy(idle_timeout=0), machine.host())
    assert not file.exists()
    apply(IDLE, machine.host())
    machine.openssh("9.2p1")
    reapply(machine.host())
    assert not file.exists()
    apply(Policy(enabled=False), machine.host())
    assert os.listdir(str(machine.profile)) == os.listdir(str(machine.file.parent)) == []


def test_a_profile_before_ours_that_sets_tmout_is_an_error(machine, refused):
    (machine.profile / "tmout.sh").write_text("TMOUT=60\nreadonly TMOUT\n")
    assert refused(IDLE) == (
        "TMOUT is 60 where 900 is expected in a login shell, another profile overrides it: "
        "remove that line, grep -rn TMOUT /etc/profile /etc/profile.d /etc/bash.bashrc finds it"
    )


def test_shells_that_read_no_profiles_are_an_error(machine, refused):
    machine.set("bash", reads_profiles=False)
    assert refused(IDLE) == (
        "a login shell does not read /etc/profile.d/zz-ssh-keepalive.sh: have /etc/profile read /etc/profile.d/*.sh"
    )


def test_a_machine_without_bash_is_an_error(machine, refused):
    (machine.bin / "bash").unlink()
    assert refused(IDLE) == "no bash is here that could be asked for TMOUT: install bash"


def test_profiles_that_wait_are_not_waited_for(machine, refused, monkeypatch):
    monkeypatch.setattr("ssh_keepalive.machine.shells._SECONDS", 1.0)
    machine.set("bash", hangs={"-lic": 60})
    assert refused(IDLE) == (
        "a login shell does not say within 1 s what its TMOUT is: look for what its profiles wait for"
    )
