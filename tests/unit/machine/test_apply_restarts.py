"""When a running sshd is restarted for our text, and when not."""

import errno
import json
import os
import shutil
import signal
import time

import pytest
from fakes.machine import PAUSE
from ssh_keepalive.machine import restarts
from ssh_keepalive.machine.apply import apply
from ssh_keepalive.machine.problem import SshdError, UnansweredError
from ssh_keepalive.policy import Entry, Policy

POLICY = Policy(unresponsive_timeout=180)
OTHER = Policy(unresponsive_timeout=240)
OLD = Policy(client_alive_interval=99, client_alive_count_max=2)
OFF = Policy(enabled=False)


def pending(machine, policy=POLICY, **kwargs):
    """Return what is said of a text that is written and waits for a restart."""
    with pytest.raises(SshdError) as caught:
        apply(policy, machine.host(**kwargs))
    return machine.shown(caught.value)


def test_what_the_unit_has_said_of_the_time_before_a_restart_is_taken_back(running):
    apply(POLICY, running.host())
    assert running.calls("systemctl")[-1] == "reset-failed ssh-keepalive-note.service"
    running.forget_calls()
    apply(POLICY, running.host())
    assert not [call for call in running.calls("systemctl") if call.startswith("reset-failed")]


def test_a_unit_that_runs_and_is_not_seen_to_listen_is_not_one_that_will_start(machine):
    machine.set_unit(ActiveState="active", SubState="running", MainPID="5000123")
    with pytest.raises(UnansweredError) as caught:
        apply(POLICY, machine.host())
    assert machine.shown(caught.value) == (
        "process 5000123 of ssh.service is not seen to listen: systemctl restart ssh.service"
    )


def test_a_program_that_was_replaced_and_a_text_that_was_not(running):
    running.replace_program()
    assert pending(running, OLD) == (
        "ssh.service (process {}, port 22) runs a program that was replaced since it was started: "
        "systemctl restart ssh.service".format(running.unit()["MainPID"])
    )
    assert apply(POLICY, running.host()).restarted


def test_host_keys_that_others_have_changed_are_not_put_into_effect(running):
    (running.ssh / "ssh_host_ed25519_key").write_text("another")
    said = pending(running)
    assert "/etc/ssh/ssh_host_ed25519_key may have changed since it read that" in said
    assert not [verb for verb in running.verbs() if "restart" in verb]


def test_a_slow_start_is_waited_for_and_asked_for_once(running):
    running.set("systemctl", starting=4)
    assert apply(POLICY, running.host()).restarted
    assert running.verbs() == ["try-restart ssh.service"]
    assert "Interval 5" in running.sshd_has_read()


def test_a_start_that_goes_on_is_not_undone(running):
    running.set("systemctl", starting=-1)
    machine = running.host()
    machine.patience = 0.3
    with pytest.raises(UnansweredError) as caught:
        apply(POLICY, machine)
    assert str(caught.value) == (
        "ssh.service is still starting after 0 s with the new configuration: ssh-keepalive status tells when it runs"
    )
    assert caught.value.exit_code == 2
    assert "Interval 5" in running.file.read_text()
    assert running.verbs() == ["try-restart ssh.service"]


def test_a_unit_that_was_started_too_often_is_started_once_more(running):
    running.set("systemctl", has_hit_the_start_limit=True)
    assert apply(POLICY, running.host()).restarted
    assert running.verbs() == ["try-restart ssh.service", "reset-failed ssh.service", "start ssh.service"]
    assert "Interval 5" in running.sshd_has_read()


def test_an_active_unit_with_the_same_process_was_not_restarted(running):
    running.set("systemctl", ignores_restarts=True)
    host = running.host()
    host.patience = 0.3
    with pytest.raises(UnansweredError) as caught:
        apply(POLICY, host)
    assert str(caught.value) == (
        "ssh.service still runs as before after 0 s, its restart waits: systemctl list-jobs tells for what"
    )
    assert "Interval 5" in running.file.read_text()


def test_a_running_sshd_that_would_not_start_again_is_left_to_run(running, refused):
    running.set("sshd", refuses_to_start="no luck")
    assert refused() == "sshd runs, but would not start again: no luck"
    assert running.verbs() == []


def test_a_running_sshd_is_not_restarted_into_somebody_elses_mistake(running, refused):
    (running.file.parent / "50-b.conf").write_text("Broken yes\n")
    assert "Broken" in refused(OFF)
    assert running.verbs() == []


def test_a_unit_that_is_starting_is_left_to_start(running):
    running.set_unit(ActiveState="activating", SubState="start-post", _looks=99)
    assert pending(running).endswith(
        "00-ssh-keepalive.conf is written, but ssh.service (process 5000001, port 22) was not restarted: "
        "ssh.service is starting: systemctl restart ssh.service puts all of that into effect"
    )
    assert "Interval 5" in running.file.read_text()
    assert running.verbs() == []


def test_a_unit_whose_program_is_reading_its_files_is_waited_for(running):
    running.set_unit(ActiveState="activating", SubState="start", _looks=3)
    report = apply(POLICY, running.host())
    assert (report.changed, report.restarted, running.verbs()) == (True, False, [])
    assert "Interval 5" in running.sshd_has_read()


@pytest.mark.parametrize("attended", [False, True])
def test_what_others_have_changed_since_is_not_put_into_effect(running, attended):
    other = running.file.parent / "50-other.conf"
    other.write_text("UsePAM yes\n")
    with running.main.open("a") as stream:
        stream.write("# theirs\n")
    assert pending(running, attended=attended) == (
        "/etc/ssh/sshd_config.d/00-ssh-keepalive.conf is written, but ssh.service (process 5000001, port 22) was not "
        "restarted: /etc/ssh/sshd_config, /etc/ssh/sshd_config.d, /etc/ssh/sshd_config.d/50-other.conf may have "
        "changed since it read that: systemctl restart ssh.service puts all of that into effect"
    )
    assert "Interval 5" in running.file.read_text()
    assert running.verbs() == []


def test_an_address_on_which_it_does_not_listen_keeps_it_from_being_restarted(machine):
    machine.main.write_text(machine.main.read_text() + "ListenAddress 192.0.2.5\n")
    machine.start()
    assert pending(machine).endswith(
        " was not restarted: it does not listen on 192.0.2.5:22, which its configuration now names: "
        "systemctl restart ssh.service puts all of that into effect"
    )


def test_an_address_that_the_machine_has_lost_keeps_it_from_being_restarted(machine):
    machine.main.write_text(machine.main.read_text() + "ListenAddress 192.0.2.5\nListenAddress 127.0.0.1\n")
    machine.start(addresses=[("192.0.2.5", 22), ("127.0.0.1", 22)])
    assert pending(machine).endswith(
        " was not restarted: 192.0.2.5:22, which its configuration names, is no address of this machine now: "
        "systemctl restart ssh.service puts all of that into effect"
    )


FIB_TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     +-- 192.0.2.0/24 2 0 2
        |-- 192.0.2.4
           /30 link UNICAST
        |-- 192.0.2.5
           /32 link UNICAST
           /32 host LOCAL
        |-- 192.0.2.6
           /32 link UNICAST
"""
IF_INET6 = "20010db8000000000000000000000005 02 40 00 80     eth0\n"


@pytest.mark.parametrize(
    ("address", "is_there"),
    [("192.0.2.5", True), ("192.0.2.4", False), ("192.0.2.6", False), ("2001:db8::5", True), ("2001:db8::6", False)],
)
def test_an_address_of_a_network_of_its_own_is_no_reason(machine, address, is_there):
    machine.main.write_text(machine.main.read_text() + "ListenAddress {}\n".format(address))
    network = machine.root / "proc" / str(machine.start(addresses=[(address, 22)])) / "net"
    (network / "fib_trie").write_text(FIB_TRIE)
    (network / "if_inet6").write_text(IF_INET6)
    if is_there:
        assert apply(POLICY, machine.host()).restarted
    else:
        assert "22, which its configuration names, is no address of this machine now: " in pending(machine)


def test_an_address_that_the_machine_never_had_is_no_reason(machine):
    machine.main.write_text(machine.main.read_text() + "ListenAddress 192.0.2.5\nListenAddress 127.0.0.1\n")
    machine.start(addresses=[("127.0.0.1", 22)])
    assert apply(POLICY, machine.host()).restarted


@pytest.mark.parametrize("shown", ["127.0.0.1", "127.0.0.1:22", "127.0.0.1 rdomain red"])
def test_an_address_on_which_it_listens_is_no_reason(machine, shown):
    machine.main.write_text(machine.main.read_text() + "ListenAddress {}\n".format(shown))
    machine.start(addresses=[("127.0.0.1", 22)])
    assert apply(POLICY, machine.host()).restarted


def test_a_unit_that_others_have_changed_since_keeps_it_from_being_restarted(machine):
    unit = machine.root / "etc/systemd/system/ssh.service.d/x.conf"
    machine.set_unit(DropInPaths=str(unit)[len(str(machine.root)) :])
    machine.start()
    unit.parent.mkdir(parents=True)
    unit.write_text("[Service]\nExecStartPre=/bin/false\n")
    assert pending(machine).endswith(
        " was not restarted: /etc/systemd/system/ssh.service.d/x.conf may have changed since it read that: "
        "systemctl restart ssh.service puts all of that into effect"
    )
    assert machine.verbs() == []


def test_the_file_of_a_transient_unit_is_as_old_as_its_process(machine):
    unit = machine.root / "run/systemd/transient/ssh.service"
    unit.parent.mkdir(parents=True)
    machine.set_unit(FragmentPath="/run/systemd/transient/ssh.service")
    machine.start()
    unit.write_text("[Service]\nExecStart=/usr/sbin/sshd -D\n")
    assert apply(POLICY, machine.host()).restarted


@pytest.mark.parametrize(
    ("drop_in", "restarts"),
    [
        # Of an image of linuxcontainers.org, by a generator at each daemon-reload
        ("/run/systemd/system/service.d/zzz-lxc-service.conf", True),
        # Fedora's, by upgrades of systemd
        ("/usr/lib/systemd/system/service.d/10-timeout-abort.conf", True),
        ("/run/systemd/generator.late/ssh.service.d/x.conf", True),
        ("/etc/systemd/system/service.d/x.conf", False),
        ("/run/systemd/system/ssh.service.d/x.conf", False),
    ],
)
def test_a_drop_in_that_programs_write_anew_is_no_reason(machine, drop_in, restarts):
    file = machine.root / drop_in[1:]
    machine.set_unit(DropInPaths=drop_in)
    machine.start()
    file.parent.mkdir(parents=True)
    file.write_text("[Service]\nProtectProc=default\n")
    if restarts:
        assert apply(POLICY, machine.host()).restarted
    else:
        assert " was not restarted: {} may have changed since it read that: ".format(drop_in) in pending(machine)


@pytest.mark.parametrize(
    ("condition", "is_there", "restarts"),
    [
        ("ConditionPathExists=!/etc/ssh/sshd_not_to_be_run", True, False),
        ("ConditionPathExists=!/etc/ssh/sshd_not_to_be_run", False, True),
        ("AssertPathExists=/etc/ssh/sshd_not_to_be_run", False, False),
        # Which only systemd knows
        ("ConditionFileNotEmpty=/etc/ssh/sshd_not_to_be_run", True, False),
        ("ConditionPathExists=|!/etc/ssh/sshd_not_to_be_run", False, False),
        ("ExecCondition=/bin/true", False, False),
        ("ConditionPathExists=", False, True),
    ],
)
def test_a_condition_that_would_keep_it_from_being_started(machine, condition, is_there, restarts):
    unit = machine.root / "lib/systemd/system/ssh.service"
    unit.parent.mkdir(parents=True)
    unit.write_text("[Unit]\n{}\n".format(condition))
    machine.set_unit(FragmentPath="/lib/systemd/system/ssh.service")
    time.sleep(PAUSE)
    machine.start()
    if is_there:
        (machine.ssh / "sshd_not_to_be_run").touch()
    if restarts:
        assert apply(POLICY, machine.host()).restarted
        return
    assert pending(machine).endswith(
        " was not restarted: ssh.service may not be started again, with {}: systemctl restart ssh.service puts all of "
        "that into effect".format(condition)
    )


@pytest.mark.parametrize(("mode", "restarts"), [("process", True), ("control-group", False)])
def test_sessions_that_a_restart_would_end_keep_it_from_being_restarted(machine, mode, restarts):
    machine.set_unit(KillMode=mode)
    pid = machine.start()
    machine.proc.add(5000950, pid, "sshd: root@pts/0", cgroup="/system.slice/ssh.service")
    if restarts:
        assert apply(POLICY, machine.host()).restarted
    else:
        assert " was not restarted: that would end 1 processes of sessions (KillMode=control-group): " in pending(
            machine
        )


def started_long_ago(machine):
    """Return a machine on which nothing shows whether sshd has read the text that is there."""
    apply(POLICY, machine.host())
    machine.start(began=time.time() - 3600)
    machine.record.unlink()
    machine.forget_calls()
    return machine


def test_an_unattended_run_with_nothing_to_write_restarts_nothing(machine):
    started_long_ago(machine)
    with pytest.raises(UnansweredError) as caught:
        apply(POLICY, machine.host())
    assert machine.shown(caught.value) == (
        "whether ssh.service (process 5000001, port 22) has read /etc/ssh/sshd_config, /etc/ssh/sshd_config.d, "
        "/etc/ssh/sshd_config.d/00-ssh-keepalive.conf as it is now is not known: "
        "systemctl restart ssh.service, open sessions survive"
    )
    assert machine.verbs() == []


def test_host_keys_that_this_run_of_cloud_init_has_made_are_put_into_effect(running):
    # Since then this process runs
    shutil.copy("/proc/self/stat", running.proc.folder + "/self/stat")
    (running.ssh / "ssh_host_ed25519_key").write_text("another")
    assert apply(POLICY, running.host()).restarted


def test_an_attended_run_with_nothing_to_write_does_not_restart_for_what_others_may_have_changed(machine):
    started_long_ago(machine)
    assert pending(machine, attended=True) == (
        "/etc/ssh/sshd_config.d/00-ssh-keepalive.conf is written, but ssh.service (process 5000001, port 22) was not "
        "restarted: /etc/ssh/sshd_config, /etc/ssh/sshd_config.d may have changed since it read that: "
        "systemctl restart ssh.service puts all of that into effect"
    )
    assert machine.verbs() == []


@pytest.mark.parametrize("attended", [False, True])
def test_a_text_that_only_our_file_is_newer_with_is_put_into_effect_when_somebody_looks_on(machine, attended):
    apply(OLD, machine.host())
    machine.start()
    apply(OLD, machine.host())
    # As a run that was killed before its restart leaves it
    text = machine.file.read_text()
    machine.file.write_text('# policy: {"unresponsive_timeout": 180}\n')
    machine.stop()
    apply(POLICY, machine.host())
    written = machine.file.read_text()
    machine.file.write_text(text)
    machine.record.unlink()
    machine.start()
    apply(OLD, machine.host())
    machine.file.write_text(written)
    machine.forget_calls()
    if attended:
        report = apply(POLICY, machine.host(attended=True))
        assert (report.changed, report.restarted) == (False, True)
    else:
        assert pending(machine) == (
            "ssh.service (process 5000002, port 22) has not read /etc/ssh/sshd_config.d/00-ssh-keepalive.conf since it "
            "changed: systemctl restart ssh.service, open sessions survive"
        )
    assert machine.verbs() == ["try-restart ssh.service"] * attended


def test_a_second_server_is_restarted_too_and_one_that_does_not_read_the_drop_in_is_told(machine):
    other = machine.ssh / "sshd_config_mgmt"
    other.write_text("Port 2222\n" + machine.main.read_text())
    machine.start()
    machine.add_unit("sshd-mgmt.service", words="-D -f {}".format(other))
    machine.start("sshd-mgmt.service", addresses=[("0.0.0.0", 2222)])
    assert apply(POLICY, machine.host()).restarted
    assert machine.verbs() == ["try-restart ssh.service", "try-restart sshd-mgmt.service"]
    other.write_text("Port 2222\n")
    machine.forget_calls()
    said = pending(machine, OTHER)
    assert said == (
        "sshd-mgmt.service (process 5000004, port 2222) reads /etc/ssh/sshd_config_mgmt, which does not read "
        "/etc/ssh/sshd_config.d/00-ssh-keepalive.conf: put 'Include /etc/ssh/sshd_config.d/00-ssh-keepalive.conf' on "
        "its first line, then systemctl restart sshd-mgmt.service"
    )
    assert machine.verbs() == ["try-restart ssh.service"]


def test_one_process_for_each_connection_needs_no_restart(machine):
    machine.set_unit(LoadState="masked")
    machine.add_unit("ssh@x.service", words="-i")
    machine.add_unit("ssh.socket", Accept="yes", ActiveState="active", SubState="listening", Triggers="")
    report = apply(POLICY, machine.host())
    assert (report.changed, report.restarted, machine.verbs()) == (True, False, [])


@pytest.mark.parametrize("attended", [False, True])
def test_a_listener_without_a_unit_is_signalled_when_somebody_looks_on(machine, signals, monkeypatch, attended):
    machine.set_unit(LoadState="not-found")
    machine.start_by_hand(5000900)

    def kill(pid, number):
        signals.append((pid, number))
        machine.proc.listen(pid, ("0.0.0.0", 22), ("::", 22))

    monkeypatch.setattr(os, "kill", kill)
    if attended:
        assert apply(POLICY, machine.host(attended=True)).restarted
        assert signals == [(5000900, signal.SIGHUP)]
    else:
        assert pending(machine) == (
            "/etc/ssh/sshd_config.d/00-ssh-keepalive.conf is written, but sshd (process 5000900, port 22) is no "
            "service's and has not read it: kill -HUP 5000900"
        )
        assert signals == []
    assert "Interval 5" in machine.file.read_text()


def test_process_1_of_a_container_is_not_signalled(machine, signals):
    machine.off_systemd()
    machine.start_by_hand(1, parent=0)
    assert pending(machine, attended=True) == (
        "/etc/ssh/sshd_config.d/00-ssh-keepalive.conf is written, but sshd (process 1, port 22) is no service's "
        "and has not read it: restart this container"
    )
    assert signals == []


def test_a_unit_that_would_start_its_sshd_with_another_command_is_not_restarted(machine):
    machine.start()
    machine.add_unit("ssh.service", words="-D -4", MainPID="5000001", ActiveState="active", SubState="running")
    assert pending(machine).endswith(
        " was not restarted: ssh.service would start it with another command than it was started with: "
        "systemctl restart ssh.service puts all of that into effect"
    )
    assert machine.verbs() == []


def test_a_systemctl_that_does_not_say_whether_sshd_runs(machine, refused):
    machine.set("systemctl", answers={"show": (1, "", "Failed to connect to bus")})
    assert refused(error=UnansweredError) == "systemctl show does not say whether sshd runs: Failed to connect to bus"
    machine.set("systemctl", answers={"show": (0, "", "Running in chroot, ignoring command 'show'\n")})
    assert refused(error=UnansweredError) == (
        "systemctl show does not say whether sshd runs: Running in chroot, ignoring command 'show'"
    )


def test_another_refusal_of_the_kernels_tells_nothing_of_an_address(monkeypatch):
    assert not restarts._is_here("192.0.2.1")
    assert restarts._is_here("127.0.0.1")

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(restarts.socket, "socket", full)
    assert restarts._is_here("192.0.2.1")


# Type=simple: systemd calls a process active that has only been started.


def test_an_sshd_that_dies_after_systemd_called_it_active_gets_its_old_policy(running, monkeypatch):
    monkeypatch.setattr(restarts, "_SIGNAL_SECONDS", 0.3)
    running.set("systemctl", comes_to_nothing="dies")
    old = running.file.read_text()
    said = pending(running)
    assert said.startswith(
        "after its restart ssh.service is failed: exit-code; the old configuration is restored, sshd "
    )
    assert running.file.read_text() == old


def test_an_sshd_that_is_active_and_does_not_listen_is_not_said_to_enforce(running, monkeypatch):
    monkeypatch.setattr(restarts, "_SIGNAL_SECONDS", 0.3)
    running.set("systemctl", comes_to_nothing="is deaf")
    with pytest.raises(UnansweredError) as caught:
        apply(POLICY, running.host())
    assert running.shown(caught.value) == (
        "ssh.service is not seen to listen after its restart: ssh-keepalive status tells whether it does"
    )
    assert "Interval 5" in running.file.read_text()


def test_another_sshd_that_listens_there_is_not_the_one_that_was_restarted(running, monkeypatch):
    # As in a network namespace, where an address is another one's, too.
    monkeypatch.setattr(restarts, "_SIGNAL_SECONDS", 0.3)
    running.start_by_hand(writes_pid=False)
    running.set("systemctl", comes_to_nothing="is deaf")
    assert "ssh.service is not seen to listen after its restart" in pending(running)


# What others change while a run goes on is theirs to put into effect, as what they have changed before.


def test_an_edit_of_the_main_file_during_a_run_is_not_put_into_effect(running):
    theirs = running.main.read_text() + "X11Forwarding no\n"
    running.set("sshd", meanwhile=[("main -C", str(running.main), theirs)])
    assert "not restarted: /etc/ssh/sshd_config may have changed since it read that" in pending(running)
    assert running.main.read_text() == theirs
    assert running.verbs() == []


@pytest.fixture
def running_with_block(machine):
    """Return a machine whose policy is in a block of the main file, and an sshd that has read it."""
    machine.openssh("8.0p1")
    machine.main.write_text("UsePAM yes\n")
    apply(OLD, machine.host())
    machine.start()
    machine.forget_calls()
    return machine


def test_an_edit_of_the_main_file_that_a_block_goes_to_is_not_put_into_effect(running_with_block):
    machine = running_with_block
    theirs = machine.main.read_text() + "X11Forwarding no\n"
    staged = machine.ssh / ".00-ssh-keepalive.conf.main.new"
    machine.set("sshd", meanwhile=[(str(staged), str(machine.main), theirs)])
    assert "not restarted: /etc/ssh/sshd_config may have changed since it read that" in pending(machine)
    assert machine.main.read_text().endswith("UsePAM yes\nX11Forwarding no\n")
    assert machine.verbs() == []


def test_an_edit_of_the_main_file_after_it_was_replaced_is_not_put_into_effect(running_with_block):
    machine = running_with_block
    apply(POLICY, machine.host())
    theirs = machine.main.read_text() + "X11Forwarding no\n"
    apply(OLD, machine.host())
    machine.set("sshd", meanwhile=[("-T -ddd -C", str(machine.main), theirs)])
    machine.forget_calls()
    assert "not restarted: /etc/ssh/sshd_config may have changed since it read that" in pending(machine)
    assert machine.main.read_text() == theirs
    assert machine.verbs() == []


def test_a_way_that_was_tried_in_vain_is_no_edit(machine):
    machine.set("sshd", skips_match_in_includes=True)
    machine.start()
    entry = Entry("user", ("al",), unresponsive_timeout=3600)
    assert apply(POLICY._replace(match=(entry,)), machine.host()).restarted


def test_a_drop_in_that_is_taken_away_during_a_run_is_not_put_into_effect(running):
    other = running.file.parent / "50-other.conf"
    other.write_text("X11Forwarding no\n")
    running.start()
    running.set("sshd", meanwhile=[("main -C", str(other), None)])
    assert "not restarted: /etc/ssh/sshd_config.d may have changed since it read that" in pending(running)
    assert running.verbs() == []


def test_host_keys_count_where_it_is_not_known_when_they_were_read(running):
    apply(OLD, running.host())
    running.main.write_text(running.main.read_text() + "PidFile none\n")
    running.start()
    apply(OLD, running.host())
    # The clock was set since
    running.set_unit(ExecMainStartTimestamp="Thu 2020-01-02 03:04:05 UTC")
    noted = json.loads(running.record.read_text())
    running.record.write_text(json.dumps({**noted, "clock": noted["clock"] - 1000}))
    (running.ssh / "ssh_host_ed25519_key").write_text("another")
    assert "/etc/ssh/ssh_host_ed25519_key may have changed since it read that" in pending(running)
