"""What systemd and init scripts tell, and what they are told."""

import os
import time

import pytest
from ssh_keepalive.machine import init_scripts, processes, service
from ssh_keepalive.machine.problem import SshdError
from ssh_keepalive.machine.service import Unit


def unit(machine, name="ssh.service"):
    return next(one for one in service.units(machine.host()) if one.name == name)


def test_what_systemd_tells_of_a_unit(machine):
    defaults = machine.root / "etc/default/ssh"
    defaults.parent.mkdir()
    defaults.write_text("SSHD_OPTS='-4 -o UseDNS=no'\n")
    machine.set_unit(EnvironmentFiles="/etc/default/ssh (ignore_errors=yes)", Environment="A=1 B=2")
    began = time.time() - 100
    pid = machine.start(began=began)
    found = unit(machine)
    assert found == Unit(
        "ssh.service",
        "active",
        "running",
        pid,
        "{:032x}".format(pid),
        "success",
        str(machine.bin / "sshd"),
        ("-D", "-4", "-o", "UseDNS=no"),
        ("/etc/default/ssh",),
        False,
        float(int(began)),
        False,
    )


def test_variables_of_a_unit_and_of_its_files(machine):
    machine.add_unit("ssh.service", words="-D $OPTIONS ${PORT}", Environment="OPTIONS=-6 PORT=-p22")
    assert unit(machine).words == ("-D", "-6", "-p22")
    file = machine.root / "etc/sysconfig/sshd"
    file.parent.mkdir()
    file.write_text("OPTIONS=-4\n")
    machine.set_unit(
        EnvironmentFiles="/etc/none (ignore_errors=yes)\nEnvironmentFiles=/etc/sysconfig/sshd (ignore_errors=no)"
    )
    assert unit(machine).words == ("-D", "-4", "-p22")


def test_of_several_commands_the_last_one_stays(machine):
    found = machine.unit()["ExecStart"]
    machine.set_unit(ExecStart=found.replace("/usr/sbin/sshd", "/bin/true") + "\nExecStart=" + found)
    assert os.path.basename(unit(machine).program) == "sshd"


@pytest.mark.parametrize("shown", ["", "n/a", "yesterday"])
def test_a_time_that_is_none(machine, shown):
    machine.set_unit(ExecMainStartTimestamp=shown)
    assert unit(machine).started is None


@pytest.mark.parametrize(
    ("state", "substate", "is_starting"),
    [
        ("activating", "start", True),
        ("activating", "start-pre", True),
        ("activating", "auto-restart", False),
        ("active", "running", False),
        ("failed", "failed", False),
    ],
)
def test_whether_a_unit_is_on_its_way_up(state, substate, is_starting):
    assert Unit("x", state, substate).is_starting is is_starting


def test_a_unit_that_is_gone_meanwhile(machine):
    machine.start()
    found = unit(machine)
    machine.set_unit(LoadState="not-found")
    with pytest.raises(SshdError, match=r"^ssh.service is gone$"):
        service.restart(found, machine.host())
    assert service.recover(found, machine.host()) == "in an unknown state"


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


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("default/ssh", "SSHD_OPTS=-4\n", ("-4",)),
        ("sysconfig/sshd", 'OPTIONS="-o UseDNS=no"\n', ("-o", "UseDNS=no")),
        ("conf.d/sshd", "SSHD_OPTS=''\n", ()),
        ("default/ssh", "OPTIONS=-4\n", ()),
    ],
)
def test_arguments_of_an_init_script(machine, file, text, words):
    path = machine.root / "etc" / file
    path.parent.mkdir()
    path.write_text(text)
    assert init_scripts.default_words(machine.host()) == words


def test_no_manager_of_services(machine):
    assert init_scripts.script(machine.host()) is None


def test_the_names_of_the_service_are_asked_in_their_order(machine):
    machine.have("service")
    machine.start_by_hand()
    assert init_scripts.script(machine.host()) == init_scripts.Script("ssh", "service")
    assert init_scripts.script(machine.host(services=("sshd",))) is None
    machine.set("service", names=["ssh", "sshd"])
    assert init_scripts.script(machine.host(services=("sshd",))) == init_scripts.Script("sshd", "service")
