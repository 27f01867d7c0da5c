"""What systemd tells of the units that run an sshd, and which these are."""

import os
import time

import pytest
from ssh_keepalive.machine import units
from ssh_keepalive.machine.units import Unit


def unit(machine, name="ssh.service"):
    return next(one for one in units.of_sshd(machine.host()) if one.name == name)


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
        ("",),
        kill_mode="",
        started=float(int(began)),
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


def test_variables_of_systemd_itself(machine):
    machine.set("systemctl", environment="LANG=C.UTF-8\nPORT=-p23\nEXTRA=$'-o UseDNS=no'")
    machine.add_unit("ssh.service", words="-D ${PORT}", Environment="PORT=-p22")
    assert (unit(machine).words, machine.calls("systemctl")[1:]) == (("-D", "-p22"), [])
    machine.add_unit("ssh.service", words="-D $EXTRA ${PORT}", Environment="PORT=-p22")
    assert unit(machine).words == ("-D", "-o", "UseDNS=no", "-p22")


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        ("OPTIONS=-6", ("-D", "-6")),
        ('"OPTIONS=-o ClientAliveInterval=7" OTHER=1', ("-D", "-o", "ClientAliveInterval=7")),
        ('"OPTIONS=-o \\"Banner /a b\\""', ("-D", "-o", "Banner /a b")),
        ("", ("-D",)),
    ],
)
def test_variables_with_blanks(machine, shown, words):
    machine.add_unit("ssh.service", words="-D $OPTIONS", Environment=shown)
    assert unit(machine).words == words


def test_files_of_variables_by_a_pattern_and_a_pipe_among_them(machine):
    folder = machine.root / "etc/default"
    folder.mkdir()
    (folder / "ssh-a").write_text("OPTIONS=-4\n")
    (folder / "ssh-b").write_text("OPTIONS=-6\n")
    os.mkfifo(str(folder / "ssh-c"))
    machine.add_unit("ssh.service", words="-D $OPTIONS", EnvironmentFiles="/etc/default/ssh-* (ignore_errors=yes)")
    assert unit(machine).words == ("-D", "-6")
    assert unit(machine).files == ("/etc/default/ssh-a", "/etc/default/ssh-b", "/etc/default/ssh-c")


def test_the_service_of_one_connection_is_no_server_and_an_instance_that_listens_is(machine):
    machine.add_unit("ssh@1-10.0.0.1:22-10.0.0.2:5.service", words="-i", ActiveState="active")
    machine.add_unit("sshd@mgmt.service", words="-D -f /etc/ssh/mgmt", ActiveState="active")
    machine.start()
    assert [(one.name, one.is_template) for one in units.of_sshd(machine.host())] == [
        ("ssh.service", False),
        ("sshd@mgmt.service", False),
    ]


def test_the_template_of_another_socket(machine):
    machine.add_unit("mgmt@x.service", words="-i -f /etc/ssh/mgmt")
    assert [one.name for one in units.of_sshd(machine.host())] == ["ssh.service"]
    socket = {"ActiveState": "active", "SubState": "listening", "Listen": "[::]:2222 (Stream)"}
    machine.add_unit("mgmt.socket", Accept="yes", Triggers="", **socket)
    machine.have_systemd_listen(2222)
    assert [(one.name, one.is_template) for one in units.of_sshd(machine.host())] == [
        ("ssh.service", False),
        ("mgmt@.service", True),
    ]
    assert units.of_sshd(machine.host())[1].addresses == (("::", 2222),)


def test_an_enabled_unit_with_another_name(machine):
    file = machine.root / "etc/systemd/system/multi-user.target.wants/access.service"
    file.parent.mkdir(parents=True)
    file.write_text("[Service]\nExecStart=/usr/sbin/sshd -D -f /etc/ssh/access\n")
    machine.add_unit("access.service", words="-D -f /etc/ssh/access")
    assert [one.name for one in units.of_sshd(machine.host())] == ["ssh.service", "access.service"]


@pytest.mark.parametrize(
    ("link", "text", "drop_in"),
    [
        ("etc/systemd/system/multi-user.target.requires", "ExecStart=/usr/sbin/sshd -D\n", None),
        ("usr/lib/systemd/system/multi-user.target.wants", "ExecStart=/usr/sbin/sshd -D\n", None),
        ("etc/systemd/system/multi-user.target.wants", "  ExecStart=\\\n  /usr/sbin/sshd -D\n", None),
        ("etc/systemd/system/multi-user.target.wants", "ExecStart=/bin/true\n", "ExecStart=/usr/sbin/sshd -D\n"),
        ("etc/systemd/system/multi-user.target.wants", "ExecStart=/bin/true\n", None),
        ("etc/systemd/system/multi-user.target.wants", "Before=sshd.service\n", None),
        (None, "", "ExecStart=/usr/sbin/sshd -D\n"),
    ],
)
def test_ways_to_be_enabled(machine, link, text, drop_in):
    machine.add_unit("access.service", words="-D")
    if link:
        file = machine.root / link / "access.service"
        file.parent.mkdir(parents=True)
        file.write_text("[Service]\n" + text)
    if drop_in:
        file = machine.root / "etc/systemd/system/access.service.d/x.conf"
        file.parent.mkdir(parents=True)
        file.write_text("[Service]\n" + drop_in)
    is_found = link is not None and "sshd -D" in text + (drop_in or "")
    assert [one.name for one in units.of_sshd(machine.host())] == ["ssh.service"] + ["access.service"] * is_found


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
