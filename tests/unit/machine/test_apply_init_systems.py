"""Restarts on machines that systemd does not run."""

import pytest
from ssh_keepalive.machine import init_scripts
from ssh_keepalive.machine.apply import apply
from ssh_keepalive.machine.problem import SshdError
from ssh_keepalive.policy import Policy

POLICY = Policy(unresponsive_timeout=180)
OLD = Policy(client_alive_interval=99, client_alive_count_max=2)


def verbs(machine, manager="service"):
    return [call.split()[1] for call in machine.calls(manager)]


def test_the_service_command_restarts_what_runs(machine):
    machine.off_systemd()
    machine.set("service", names=["sshd"])
    machine.start_by_hand()
    assert apply(POLICY, machine.host()).restarted
    status = ["ssh status", "sshd status"]
    # Before and after the text is there, and for the record
    expected = [*status, *status, "sshd restart", "sshd status", *status]
    assert machine.calls("service") == expected
    assert machine.calls("systemctl") == []


def test_the_service_command_is_not_asked_where_nothing_runs(machine):
    machine.off_systemd()
    assert not apply(POLICY, machine.host()).restarted
    assert [verb for verb in verbs(machine) if verb != "status"] == []


def test_openrc_is_asked_by_its_own_command(machine):
    machine.off_systemd("rc-service")
    machine.have("service")
    machine.start_by_hand()
    assert apply(POLICY, machine.host()).restarted
    assert machine.calls("service") == []
    assert machine.calls("rc-service")[:1] == ["ssh status"]


@pytest.mark.parametrize(("file", "name"), [("default/ssh", "SSHD_OPTS"), ("conf.d/sshd", "command_args")])
def test_the_options_of_an_init_script_are_asked_with(machine, refused, file, name):
    machine.off_systemd()
    file = machine.root / "etc" / file
    file.parent.mkdir()
    file.write_text("{}='-o ClientAliveInterval=0'\n".format(name))
    assert refused() == (
        "ClientAliveInterval is 0 where 5 is expected, sshd is started with -o ClientAliveInterval=0, which overrides "
        "it: remove that from its command line (/etc/default/ssh, /etc/sysconfig/sshd, /etc/conf.d/sshd), and restart "
        "it"
    )


@pytest.fixture
def gentoo(machine):
    """A machine whose init script adds words of its own to those of its file."""
    machine.off_systemd("rc-service")
    machine.defaults = machine.root / "etc/conf.d/sshd"
    machine.defaults.parent.mkdir()
    machine.defaults.write_text("SSHD_OPTS='-4 -o UsePAM=yes'\n")
    words = "-4 -o UsePAM=yes -o PidFile={}/sshd.pid -f {}".format(machine.run, machine.main)
    machine.start_by_hand(words=words)
    return machine


def test_what_an_init_script_adds_is_no_reason(gentoo):
    assert apply(POLICY, gentoo.host()).restarted


@pytest.mark.parametrize("text", ["", "SSHD_OPTS='-o UsePAM=yes'\n", "SSHD_OPTS='-4 -o UsePAM=yes'\n"])
def test_options_that_may_have_been_taken_away_since_are_a_reason(gentoo, text):
    gentoo.defaults.write_text(text)
    with pytest.raises(SshdError) as caught:
        apply(POLICY, gentoo.host())
    assert gentoo.shown(caught.value) == (
        "/etc/ssh/sshd_config.d/00-ssh-keepalive.conf is written, but sshd (process 5000900, port 22) was not "
        "restarted: /etc/conf.d/sshd may have changed since it read that: rc-service ssh restart puts all of that into "
        "effect"
    )
    assert "restart" not in verbs(gentoo, "rc-service")


def test_other_options_are_a_reason(gentoo):
    gentoo.defaults.write_text("SSHD_OPTS='-o UsePAM=no'\n")
    with pytest.raises(SshdError, match="; ssh would start it with another command than it was started with"):
        apply(POLICY, gentoo.host())


def test_an_init_script_that_was_changed_since_is_a_reason(gentoo):
    script = gentoo.root / "etc/init.d/ssh"
    script.parent.mkdir()
    script.write_text("#!/sbin/openrc-run\n")
    with pytest.raises(SshdError, match=r"not restarted: /etc/init\.d/ssh may have changed since it read that"):
        apply(POLICY, gentoo.host())


# Seen on Debian with a script of OpenRC's own kind: an sshd that has died counts as started, and cannot be stopped.
def test_an_sshd_that_openrc_believes_in_is_missed_and_brought_back(machine, refused, monkeypatch):
    monkeypatch.setattr(init_scripts, "_PID_FILE_SECONDS", 0)
    machine.off_systemd("rc-service")
    apply(OLD, machine.host())
    machine.set("rc-service", believes=True, dies_of="Interval 5")
    machine.start_by_hand()
    (machine.run / "started").touch()
    assert refused() == (
        "after its restart sshd is down: exit 0 without a word; the old configuration is restored, sshd is active"
    )
    # At the end it is looked for again, to be noted.
    said = verbs(machine, "rc-service")[:-1]
    assert said[-7:] == ["restart", "status", "restart", "status", "zap", "restart", "status"]
    assert not (machine.run / "started.late").exists()


def test_an_sshd_that_does_not_come_back_gets_its_old_file(machine, refused, monkeypatch):
    monkeypatch.setattr(init_scripts, "_PID_FILE_SECONDS", 0)
    machine.off_systemd()
    apply(OLD, machine.host())
    machine.set("service", dies_of="Interval 5")
    machine.start_by_hand()
    assert refused() == (
        "after its restart sshd is down: exit 0 without a word; the old configuration is restored, sshd is active"
    )
    assert verbs(machine)[:-1][-4:] == ["restart", "status", "restart", "status"]


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("", "service ssh restart"),
        ("-", "service ssh restart"),
        # Of another process: this one is not the script's.
        ("999999999", "kill -HUP 5000900"),
        ("1" * 40, "kill -HUP 5000900"),
    ],
)
def test_a_pid_file_that_is_wrong_tells_nothing(machine, text, command):
    machine.off_systemd()
    machine.start_by_hand(writes_pid=False)
    (machine.run / "sshd.pid").write_text(text)
    machine.set("service", answers={"status": (0, "", "")})
    with pytest.raises(SshdError) as caught:
        apply(POLICY, machine.host())
    assert machine.shown(caught.value) == (
        "/etc/ssh/sshd_config.d/00-ssh-keepalive.conf is written, but sshd (process 5000900, port 22) was not "
        "restarted: /etc/ssh/sshd_config, /etc/ssh/sshd_config.d may have changed since it read that: "
        + command
        + " puts all of that into effect"
    )
    assert "restart" not in verbs(machine)


# It has left its parent, and then taken a while to write its PID file.
def test_a_restarted_sshd_is_waited_for(machine):
    machine.off_systemd()
    machine.set("service", late=2)
    machine.start_by_hand()
    assert apply(POLICY, machine.host()).restarted
    after = machine.calls("service")
    assert after[after.index("ssh restart") :][:4] == ["ssh restart", "ssh status", "ssh status", "ssh status"]
