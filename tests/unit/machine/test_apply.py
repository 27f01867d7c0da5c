"""The way of a policy to a machine on which all is as it should be."""

import os
import stat

import pytest
from ssh_keepalive.machine import files, record
from ssh_keepalive.machine.apply import apply, reapply
from ssh_keepalive.machine.problem import SshdError
from ssh_keepalive.policy import Policy

POLICY = Policy(unresponsive_timeout=180)
OFF = Policy(enabled=False)
TEXT = """\
# Managed by cloud-init's cc_ssh_keepalive; change ssh_keepalive in user-data instead.
# policy: {"unresponsive_timeout": 180}
ClientAliveInterval 5
ClientAliveCountMax 35
"""
NOBODY = "-T{} -C user=.invalid,host=.invalid,addr=192.0.2.1,laddr=192.0.2.1,lport=22"
ROOT = "-T{} -C user=root,host=.invalid,addr=192.0.2.1,laddr=192.0.2.1,lport=22"


def test_first_boot_writes_the_drop_in_and_restarts_nothing(machine):
    report = apply(POLICY, machine.host())
    assert machine.file.read_text() == TEXT
    assert stat.S_IMODE(machine.file.stat().st_mode) == 0o600
    assert os.listdir(str(machine.file.parent)) == [machine.file.name]
    assert machine.verbs() == []
    assert len(machine.calls("systemctl")) == 1
    assert machine.shown(report) == (
        "ssh_keepalive: a client that stopped answering is disconnected 180 s after its last sign of life "
        "(ClientAliveInterval 5, ClientAliveCountMax 35 on OpenSSH 8.4); "
        "/etc/ssh/sshd_config.d/00-ssh-keepalive.conf changed, sshd reads it when it starts"
    )


def test_a_running_sshd_is_restarted_once(machine):
    machine.start()
    report = apply(POLICY, machine.host())
    assert machine.calls("systemctl")[2] == "--job-mode=ignore-dependencies --no-block try-restart ssh.service"
    assert machine.verbs() == ["try-restart ssh.service"]
    assert machine.sshd_has_read() == TEXT
    assert str(report).endswith("00-ssh-keepalive.conf changed, sshd restarted")


def test_the_same_text_is_verified_again_and_restarts_nothing(machine):
    machine.start()
    apply(POLICY, machine.host())
    inode = machine.file.stat().st_ino
    machine.forget_calls()
    report = apply(POLICY, machine.host())
    assert machine.file.stat().st_ino == inode
    assert machine.verbs() == []
    assert machine.calls("sshd") == ["-V", NOBODY.format(" -ddd")]
    assert str(report).endswith("00-ssh-keepalive.conf unchanged")


def test_nobody_is_asked_about_and_root_where_a_match_line_may_be_for_root(machine):
    apply(POLICY, machine.host())
    candidate = " -f {}/.00-ssh-keepalive.conf.main".format(machine.file.parent)
    expected = ["-V", NOBODY.format(candidate), NOBODY.format(" -ddd")]
    assert machine.calls("sshd") == expected
    machine.forget_calls()
    with machine.main.open("a") as stream:
        stream.write("Match User ro*\nX11Forwarding no\n")
    apply(POLICY, machine.host())
    assert machine.calls("sshd") == ["-V", NOBODY.format(" -ddd"), ROOT.format("")]


def test_they_connect_to_an_address_and_a_port_that_sshd_listens_on(machine):
    machine.main.write_text("ListenAddress 192.0.2.7\nPort 2222\n" + machine.main.read_text())
    apply(POLICY, machine.host())
    assert [call.split(",addr=192.0.2.1,")[1] for call in machine.calls("sshd")[1:]] == [
        "laddr=192.0.2.1,lport=22",
        "laddr=192.0.2.1,lport=22",
        "laddr=192.0.2.7,lport=2222",
    ]


def test_a_missing_drop_in_folder_is_made_and_goes_again_on_failure(machine, refused):
    machine.file.parent.rmdir()
    (machine.ssh / "broken.conf").write_text("Broken yes\n")
    include = "Include {}/*.conf\n".format(machine.file.parent)
    machine.main.write_text("{}Include {}/broken.conf\n".format(include, machine.ssh))
    assert "Broken" in refused()
    assert not machine.file.parent.exists()
    machine.main.write_text(include)
    apply(POLICY, machine.host())
    assert machine.file.read_text() == TEXT
    assert stat.S_IMODE(machine.file.parent.stat().st_mode) == 0o755


def test_a_disabled_policy_takes_the_drop_in_away(machine):
    apply(POLICY, machine.host())
    machine.start()
    report = apply(OFF, machine.host())
    assert os.listdir(str(machine.file.parent)) == []
    assert machine.sshd_has_read() == ""
    assert [entry.policy for entry in record.load(machine.host()).entries] == [False]
    assert machine.shown(report) == (
        "ssh_keepalive: off, sshd keeps its other settings; "
        "/etc/ssh/sshd_config.d/00-ssh-keepalive.conf changed, sshd restarted"
    )


def test_a_disabled_policy_asks_sshd_nothing_where_there_is_no_drop_in(machine):
    machine.file.parent.rmdir()
    report = apply(OFF, machine.host())
    assert machine.calls("sshd") == machine.verbs() == []
    assert str(report).endswith("00-ssh-keepalive.conf unchanged")
    assert not machine.file.parent.exists()


def test_where_nothing_starts_services_nothing_is_restarted(machine):
    apply(POLICY, machine.host())
    (machine.run / "systemd/system").rmdir()
    assert not apply(OFF, machine.host()).restarted
    assert not machine.file.exists()
    assert len(machine.calls("systemctl")) == 1


def test_other_settings_are_not_spoken_for(machine):
    report = str(apply(Policy(tcp_keep_alive=False), machine.host()))
    assert report.startswith(
        "ssh_keepalive: sshd keeps its own setting for silent clients (TCPKeepAlive no on OpenSSH 8.4); "
    )
    report = str(apply(Policy(client_alive_interval=0, client_alive_count_max=3), machine.host()))
    assert report.startswith(
        "ssh_keepalive: sshd disconnects no silent client (ClientAliveInterval 0, ClientAliveCountMax 3 on"
    )


def test_what_is_new_gets_the_selinux_context_of_its_name(machine):
    machine.have("restorecon")
    machine.file.parent.rmdir()
    apply(POLICY, machine.host())
    labelled = [machine.shown(call) for call in machine.calls("restorecon")]
    assert labelled == ["/etc/ssh/sshd_config.d", "/run/sshd", "/etc/ssh/sshd_config.d/00-ssh-keepalive.conf"]


def test_a_context_that_cannot_be_set_is_no_failure(machine, caplog):
    machine.have("restorecon")
    machine.set("restorecon", answers={str(machine.file): (1, "", "no policy")})
    apply(POLICY, machine.host())
    assert [machine.shown(record.message) for record in caplog.records] == [
        "restorecon /etc/ssh/sshd_config.d/00-ssh-keepalive.conf: no policy"
    ]


def test_another_openssh_gets_the_same_policy_in_other_numbers(machine):
    assert reapply(machine.host()) is None
    apply(POLICY, machine.host())
    machine.start()
    assert not reapply(machine.host()).changed
    machine.openssh("9.2p1")
    report = reapply(machine.host())
    assert (report.policy, report.restarted) == (POLICY, True)
    assert "ClientAliveInterval 3\nClientAliveCountMax 29\n" in machine.file.read_text()
    assert machine.sshd_has_read() == machine.file.read_text()


def test_a_drop_in_that_does_not_say_its_policy_stays(machine):
    machine.file.write_text("ClientAliveInterval 5\n")
    with pytest.raises(SshdError) as caught:
        reapply(machine.host())
    assert machine.shown(caught.value) == (
        "/etc/ssh/sshd_config.d/00-ssh-keepalive.conf: has no policy line that can be read: "
        "cloud-init single --name ssh_keepalive --frequency always, or ssh-keepalive apply FILE"
    )
    assert machine.file.read_text() == "ClientAliveInterval 5\n"


def test_the_first_packages_header_is_no_change(machine):
    machine.file.write_text(TEXT.replace("Managed by", "Written by").replace(";", " and overwritten by it:"))
    machine.file.chmod(0o600)
    assert not apply(POLICY, machine.host()).changed


def test_where_the_policy_is(machine):
    assert files.policy_file(machine.host()) == str(machine.file)
    machine.openssh("8.0")
    machine.main.write_text("UsePAM yes\n")
    apply(POLICY, machine.host())
    assert files.policy_file(machine.host()) == str(machine.main)
