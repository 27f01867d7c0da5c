"""Which sshd's serve here, or will."""

import os
import time

import pytest
from ssh_keepalive.machine import processes, servers, units
from ssh_keepalive.machine.arguments import Arguments
from ssh_keepalive.machine.judgement import unread
from ssh_keepalive.machine.problem import SshdError
from ssh_keepalive.machine.record import Reading


def found(machine):
    """Return unit, PID, main file and options of each."""
    result = []
    for one in servers.find(machine.host()):
        unit = one.unit.name if one.unit else None
        options = one.arguments.options if one.arguments else None
        pid = one.listener.pid if one.listener else None
        result.append((unit, pid, machine.shown(one.main), options))
    return result


MAIN = "/etc/ssh/sshd_config"


def test_a_unit_that_will_start_one(machine):
    assert found(machine) == [("ssh.service", None, MAIN, ())]


def test_a_unit_that_runs_is_there_once_whatever_its_aliases(machine):
    pid = machine.start()
    assert found(machine) == [("ssh.service", pid, MAIN, ())]
    (server,) = servers.find(machine.host())
    assert server.name == "ssh.service (process {}, port 22)".format(pid)
    assert server.restart_command == "systemctl restart ssh.service"
    assert machine.shown(server.program) == "/usr/sbin/sshd"


def test_a_masked_unit_counts_while_it_runs(machine):
    pid = machine.start()
    machine.set_unit(LoadState="masked")
    assert found(machine) == [("ssh.service", pid, MAIN, ())]
    machine.stop()
    assert [unit for unit, _, _, _ in found(machine)] == [None]


def test_a_unit_that_has_failed_is_one_that_will(machine):
    machine.set_unit(ActiveState="failed", SubState="failed", Result="exit-code")
    (server,) = servers.find(machine.host())
    assert (server.unit.state, server.unit.result, server.listener) == ("failed", "exit-code", None)


def test_two_units_and_the_one_that_runs_comes_first(machine):
    machine.add_unit("sshd-mgmt.service", words="-D -f /etc/ssh/mgmt -p 2222")
    pid = machine.start("sshd-mgmt.service", addresses=[("0.0.0.0", 2222)])
    assert found(machine) == [
        ("sshd-mgmt.service", pid, "/etc/ssh/mgmt", ("-p", "2222")),
        ("ssh.service", None, MAIN, ()),
    ]
    known = servers.find(machine.host())
    assert servers.primary(known, machine.host()).unit.name == "ssh.service"
    assert servers.primary(known, machine.host(services=("other",))).unit.name == "sshd-mgmt.service"


def test_units_of_another_program_are_none(machine):
    machine.add_unit("ssh-agent-proxy.service", program="/usr/bin/ssh-agent")
    machine.add_unit("sshguard.service", program="/usr/sbin/sshguard")
    assert [unit for unit, _, _, _ in found(machine)] == ["ssh.service"]


def test_an_sshd_from_another_prefix(machine):
    machine.add_unit("ssh.service", program="/opt/ssh/sbin/sshd")
    (server,) = servers.find(machine.host())
    assert machine.shown(server.program) == "/opt/ssh/sbin/sshd"


def test_a_template_counts_where_a_socket_starts_it_for_each_connection(machine):
    machine.set_unit(LoadState="not-found")
    machine.add_unit("ssh@x.service", words="-i")
    machine.add_unit("ssh.socket", Accept="yes", ActiveState="inactive", Triggers="")
    machine.have_systemd_listen(22)
    assert [unit for unit, _, _, _ in found(machine)] == [None]
    machine.set_unit("ssh.socket", ActiveState="active")
    (server,) = servers.find(machine.host())
    assert (server.unit.name, server.unit.is_template) == ("ssh@.service", True)
    machine.set_unit("ssh.socket", Accept="no")
    assert [unit for unit, _, _, _ in found(machine)] == [None]


@pytest.mark.parametrize("state", ["active", "inactive"])
def test_a_unit_for_which_a_socket_listens(machine, state):
    machine.add_unit("ssh.socket", Accept="no", ActiveState=state, Triggers="ssh.service")
    machine.have_systemd_listen(22)
    (server,) = servers.find(machine.host())
    assert server.unit.is_activated is (state == "active")


def test_a_listener_without_a_unit(machine):
    pid = machine.start_by_hand(words="-f /srv/main -o UseDNS=no -4oUsePAM=no", addresses=[("127.0.0.1", 2200)])
    known = servers.find(machine.host())
    assert [(one.unit.name if one.unit else None) for one in known] == [None, "ssh.service"]
    by_hand = known[0]
    assert (by_hand.main, by_hand.arguments.options) == ("/srv/main", ("-o", "UseDNS=no", "-4", "-o", "UsePAM=no"))
    assert by_hand.name == "sshd (process {}, port 2200)".format(pid)
    assert by_hand.restart_command == "kill -HUP {}".format(pid)
    # A service that fails takes it along, and without it sshd ends when it reads its files anew.
    (machine.run / "sshd").rmdir()
    assert servers.find(machine.host())[0].restart_command == "mkdir -p /run/sshd && kill -HUP {}".format(pid)
    assert servers.primary(known, machine.host()).unit.name == "ssh.service"


def test_a_relative_main_file_is_read_from_the_top(machine):
    machine.set_unit(LoadState="not-found")
    machine.start_by_hand(words="-f etc/ssh/other")
    assert found(machine)[0][2] == "/etc/ssh/other"


def test_a_title_that_is_cut_tells_no_options(machine):
    machine.set_unit(LoadState="not-found")
    machine.start_by_hand(title="sshd: {} -D -f /etc/ssh/sshd_config_ma")
    (server,) = servers.find(machine.host())
    assert server.arguments is None


def test_a_units_command_is_better_than_a_title_that_is_cut(machine):
    machine.add_unit("ssh.service", words="-D -f /etc/ssh/sshd_config_management")
    pid = machine.start()
    (machine.root / "proc" / str(pid) / "cmdline").write_text("sshd: {}/sshd -D -f /etc/ss\0".format(machine.bin))
    assert found(machine) == [("ssh.service", pid, "/etc/ssh/sshd_config_management", ())]


def test_options_of_a_process_count_where_its_unit_has_got_others_since(machine):
    pid = machine.start()
    machine.set_unit(**{"ExecStart": machine.unit()["ExecStart"].replace("$SSHD_OPTS", "-4")})
    (server,) = servers.find(machine.host())
    assert (server.listener.pid, server.arguments, server.is_to_start_otherwise) == (pid, Arguments(stays=True), True)


def test_a_process_that_another_unit_holds_is_that_ones(machine):
    machine.set_unit(LoadState="not-found")
    machine.add_unit("bastion.service", words="-D")
    pid = machine.start("bastion.service")
    (server,) = servers.find(machine.host())
    assert (server.unit.name, server.listener.pid) == ("bastion.service", pid)


def test_a_pid_file_that_names_something_else_is_nothing(machine):
    (machine.run / "sshd.pid").write_text("5000123\n")
    machine.proc.add(5000123, 1, "tail -f /var/log/auth.log", exe="/usr/bin/tail")
    assert found(machine) == [("ssh.service", None, MAIN, ())]
    assert processes.listeners(machine.host()) == []


def test_a_users_process_with_the_title_of_a_listener_is_nothing(machine):
    program = str(machine.bin / "sshd")
    machine.proc.add(
        5000123, 1, "sshd: {} [listener] 0 of 10-100 startups".format(program), uid=1000, exe=program, whole=True
    )
    machine.proc.listen(5000123, ("0.0.0.0", 2222))
    assert found(machine) == [("ssh.service", None, MAIN, ())]


def test_a_replaced_program_is_asked_by_its_path(machine):
    machine.start()
    machine.replace_program()
    (server,) = servers.find(machine.host())
    assert server.listener.program is None
    assert machine.shown(server.program) == "/usr/sbin/sshd"


def test_without_systemd_a_script_runs_what_its_pid_file_names(machine):
    machine.off_systemd()
    first = machine.start_by_hand(5000900)
    machine.start_by_hand(5000901, addresses=[("0.0.0.0", 2222)], writes_pid=False)
    known = servers.find(machine.host())
    assert [(one.listener.pid, one.script.name if one.script else None) for one in known] == [
        (first, "ssh"),
        (5000901, None),
    ]
    assert [one.restart_command for one in known] == ["service ssh restart", "kill -HUP 5000901"]


def test_a_script_does_not_restart_a_spare_that_has_overwritten_the_pid_file(machine):
    machine.off_systemd()
    machine.start_by_hand(5000900)
    machine.start_by_hand(5000901, words="-p 2222", addresses=[("0.0.0.0", 2222)])
    commands = [one.restart_command for one in servers.find(machine.host())]
    assert commands == ["kill -HUP 5000900", "kill -HUP 5000901"]


def test_a_masked_unit_that_runs_is_sent_a_signal(machine):
    pid = machine.start()
    machine.set_unit(LoadState="masked")
    assert servers.find(machine.host())[0].restart_command == "kill -HUP {}".format(pid)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("/usr/bin/nice -n 5 /usr/sbin/sshd -D -4", ("-D", "-4")),
        ("/bin/sh -c exec /usr/sbin/sshd -D -4", ("-D", "-4")),
        ("/bin/sh -c /usr/sbin/sshd -D; exit", None),
        ("/bin/sh -c /usr/sbin/sshd -D >/dev/null", None),
        ("/usr/bin/nice -n 5 sshd-wrapper", None),
    ],
)
def test_what_a_wrapper_starts(machine, command, words):
    shown = "{{ path={} ; argv[]={} ; ignore_errors=no ; }}".format(command.split()[0], command)
    machine.set_unit(ExecStart=shown)
    (unit,) = units.of_sshd(machine.host())
    assert (unit.words if unit.starts_sshd else None) == words


def test_without_anything_that_runs_it_is_the_one_that_would_be_started(machine):
    machine.off_systemd()
    machine.set("service", names=[])
    assert found(machine) == [(None, None, MAIN, ())]
    assert servers.find(machine.host())[0].restart_command == "start sshd"


def test_process_1_is_a_container(machine):
    machine.off_systemd()
    machine.start_by_hand(1, parent=0)
    (server,) = servers.find(machine.host())
    assert (server.script, server.restart_command) == (None, "restart this container")
    assert unread(server, Reading(None, (MAIN,))).remedy == "restart this container"


def test_no_sshd_at_all(machine):
    machine.off_systemd()
    (machine.bin / "sshd").unlink()
    known = servers.find(machine.host())
    assert known == []
    with pytest.raises(SshdError, match=r"^sshd is not on this machine "):
        servers.primary(known, machine.host())


def test_the_vendors_main_file_counts_where_etc_has_none(machine):
    vendor = machine.root / "usr/etc/ssh/sshd_config"
    vendor.parent.mkdir(parents=True)
    machine.main.rename(vendor)
    assert servers.main_file(machine.host()) == str(vendor)
    machine.main.write_text("")
    assert servers.main_file(machine.host()) == str(machine.main)


@pytest.mark.parametrize(("seconds", "is_steady"), [(0, True), (7200, False), (-7200, False)])
def test_the_clock_was_steady_since_a_start_that_systemd_noted_by_it(machine, monkeypatch, seconds, is_steady):
    machine.start(began=time.time() - 1000)
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() + seconds)
    (server,) = servers.find(machine.host())
    assert (server.steady_since == server.listener.began) is is_steady
    assert (server.steady_since is None) is not is_steady
    assert os.path.isabs(server.program)


def test_what_systemd_is_about_to_start_is_waited_for_but_not_for_long(machine, monkeypatch):
    monkeypatch.setattr(servers, "_SETTLING_SECONDS", 0.3)
    machine.set_unit(Job="85")
    began = time.monotonic()
    assert servers.settled(machine.host())
    assert time.monotonic() - began >= 0.3
    machine.forget_calls()
    machine.set_unit(Job="0")
    assert servers.settled(machine.host())
    assert len(machine.calls("systemctl")) == 1
