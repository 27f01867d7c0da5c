"""What status says of what each server has read."""

import os
import time

import pytest
from ssh_keepalive.machine.apply import apply
from ssh_keepalive.machine.problem import SshdError
from ssh_keepalive.machine.status import note
from ssh_keepalive.policy import Policy
from states import POLICY, PROMISE, told

ENFORCED = "enforced: " + PROMISE
NAME = "ssh.service (process 5000001, port 22)"
SURVIVE = "remedy: systemctl restart ssh.service, open sessions survive"


def touch(file):
    """Give a file another time of its last change, and of its inode's."""
    time.sleep(0.03)
    os.utime(str(file))


def test_edits_of_other_keywords_are_a_note_where_it_was_noted_what_was_read(enforced):
    apply(POLICY, enforced.host())
    time.sleep(0.03)
    with enforced.main.open("a") as stream:
        stream.write("X11Forwarding no\n")
    lines = told(enforced, 0)
    assert lines[0] == ENFORCED
    assert "sshd: " + NAME + " has read the configuration before /etc/ssh/sshd_config changed" in lines
    assert "note: " + NAME + " has not read /etc/ssh/sshd_config since it changed, its next start reads it" in lines


def test_a_change_of_mode_or_time_is_no_change_where_it_was_noted_what_was_read(enforced):
    apply(POLICY, enforced.host())
    touch(enforced.main)
    enforced.main.chmod(0o640)
    touch(enforced.file.parent)
    lines = told(enforced, 0)
    assert "sshd: " + NAME + " has read the configuration as it is now" in lines


def test_a_file_that_has_changed_and_of_which_nothing_was_noted(enforced):
    enforced.record.unlink()
    touch(enforced.main)
    assert told(enforced, 2)[:2] == [
        "unknown: whether " + NAME + " has read /etc/ssh/sshd_config as it is now is not known",
        SURVIVE,
    ]


def test_a_file_that_others_took_away_is_seen_by_the_time_of_the_folder(enforced):
    enforced.record.unlink()
    touch(enforced.file.parent)
    assert told(enforced, 2)[0] == (
        "unknown: whether " + NAME + " has read /etc/ssh/sshd_config.d as it is now is not known"
    )


def test_a_restart_settles_it(enforced):
    enforced.record.unlink()
    touch(enforced.main)
    enforced.start()
    assert told(enforced, 0)[0] == ENFORCED


def test_another_policy_than_the_one_that_was_read(enforced):
    apply(POLICY, enforced.host())
    text, pid = enforced.file.read_text(), enforced.unit()["MainPID"]
    # Written by a run that could not restart it
    enforced.file.write_text(text.replace("180", "240").replace("CountMax 35", "CountMax 47"))
    lines = told(enforced, 1)
    assert lines[:2] == [
        "not enforced: ssh.service (process {}, port 22) has not read "
        "/etc/ssh/sshd_config.d/00-ssh-keepalive.conf since it changed".format(pid),
        SURVIVE,
    ]


@pytest.mark.parametrize(
    "lines",
    [
        "Match User root\n  ClientAliveInterval 7\n",
        "Match User bob\n  ClientAliveInterval 7\n",
        "Match User bob\n  Include /etc/ssh/for-bob\n",
    ],
)
def test_a_flaw_that_sshd_has_read_is_one_until_it_has_read_that_it_is_gone(enforced, lines):
    file = enforced.file.parent / "50-theirs.conf"
    file.write_text(lines)
    enforced.start()
    note(enforced.host())
    file.unlink()
    assert told(enforced, 1)[0].endswith("has not read /etc/ssh/sshd_config.d/50-theirs.conf since it changed")
    enforced.start()
    assert told(enforced, 0)[0] == ENFORCED


def test_a_match_of_others_that_changes_nothing_is_no_flaw(enforced):
    file = enforced.file.parent / "50-theirs.conf"
    file.write_text("Match User bob\n  X11Forwarding no\n  ClientAliveInterval 5\n")
    enforced.start()
    note(enforced.host())
    file.unlink()
    lines = told(enforced, 0)
    assert any("50-theirs.conf since it changed, its next start reads it" in line for line in lines)


def test_a_policy_of_which_nothing_is_left_is_in_effect_until_a_restart(enforced):
    apply(POLICY, enforced.host())
    enforced.file.unlink()
    pid = enforced.unit()["MainPID"]
    assert told(enforced, 1)[:2] == [
        "not enforced: ssh.service (process {}, port 22) has not read "
        "/etc/ssh/sshd_config.d/00-ssh-keepalive.conf since it changed".format(pid),
        SURVIVE,
    ]
    enforced.start()
    assert told(enforced, 0)[0] == "not configured"


def test_a_program_that_was_replaced_since_its_start(enforced):
    enforced.replace_program()
    lines = told(enforced, 2)
    assert lines[0] == (
        "unknown: whether "
        + NAME
        + " has read /usr/sbin/sshd (replaced since it was started) as it is now is not known"
    )


def test_a_title_that_is_cut_without_a_unit_is_unknown(enforced):
    enforced.stop()
    enforced.set_unit(LoadState="not-found")
    enforced.start_by_hand(title="sshd: {} -D -f /etc/ssh/sshd_config_ma")
    assert told(enforced, 2)[:2] == [
        "unknown: the command line of sshd (process 5000900, port 22) is cut off in /proc",
        "remedy: stop it, and start it from a unit of systemd's",
    ]


def test_a_unit_that_has_failed_serves_nobody(enforced):
    enforced.stop()
    enforced.set_unit(ActiveState="failed", SubState="failed", Result="exit-code")
    assert told(enforced, 1)[:2] == [
        "not enforced: ssh.service has failed (exit-code), it serves nobody",
        "remedy: systemctl status ssh.service says why, then systemctl restart ssh.service",
    ]


def test_a_second_server_that_does_not_read_the_drop_in(enforced):
    other = enforced.ssh / "sshd_config_mgmt"
    other.write_text("Port 2222\n")
    enforced.add_unit("sshd-mgmt.service", words="-D -f {}".format(other))
    enforced.start("sshd-mgmt.service", addresses=[("0.0.0.0", 2222)])
    lines = told(enforced, 1)
    assert lines[:2] == [
        "not enforced: ClientAliveInterval is 0 where 5 is expected: sshd-mgmt.service (process 5000002, port 2222) "
        "reads /etc/ssh/sshd_config_mgmt, which does not read /etc/ssh/sshd_config.d/00-ssh-keepalive.conf",
        "remedy: put 'Include /etc/ssh/sshd_config.d/00-ssh-keepalive.conf' on its first line, "
        "then systemctl restart sshd-mgmt.service",
    ]
    assert len([line for line in lines if line.startswith("sshd: ")]) == 2


def test_a_session_from_before(enforced):
    pid = int(enforced.unit()["MainPID"])
    enforced.proc.add(6, pid, "sshd: root@pts/0", began=time.time() - 3600)
    enforced.proc.add(7, pid, "sshd: anna [priv]", began=time.time() + 1)
    enforced.proc.add(8, 7, "sshd: anna@pts/1", began=time.time() + 1, uid=1000)
    (line,) = [line for line in told(enforced, 0) if line.startswith("older settings: ")]
    assert line.startswith("older settings: root, process 6, since ")


def older(machine, code):
    return [line.split(",")[0] for line in told(machine, code) if line.startswith("older settings: ")]


def test_all_sessions_have_older_settings_where_sshd_has_not_read_its_files(enforced):
    apply(POLICY, enforced.host())
    time.sleep(0.03)
    with enforced.main.open("a") as stream:
        stream.write("X11Forwarding no\n")
    enforced.proc.add(6, int(enforced.unit()["MainPID"]), "sshd: root@pts/0", began=time.time() + 1)
    assert older(enforced, 0) == ["older settings: root"]


def test_sessions_of_one_process_for_each_connection(machine):
    machine.set_unit(LoadState="not-found")
    machine.add_unit("ssh@x.service", words="-i")
    machine.add_unit("ssh.socket", Accept="yes", ActiveState="active", Triggers="")
    (machine.run / "sshd").mkdir()
    apply(POLICY, machine.host())
    machine.proc.add(6, 1, "sshd: root@pts/0", began=time.time() - 50)
    machine.proc.add(7, 1, "sshd: anna@pts/0", began=time.time() + 1)
    assert older(machine, 0) == ["older settings: root"]


def test_a_session_from_before_a_reload_has_older_settings(enforced):
    pid = enforced.start(began=time.time() - 10)
    enforced.record.unlink()
    touch(enforced.main)
    time.sleep(0.03)
    enforced.proc.add(6, pid, "sshd: root@pts/0")
    time.sleep(0.03)
    enforced.proc.listen(pid, ("0.0.0.0", 22), ("::", 22))
    (enforced.run / "sshd.pid").write_text("{}\n".format(pid))
    time.sleep(0.03)
    enforced.proc.add(7, pid, "sshd: anna@pts/0")
    assert older(enforced, 0) == ["older settings: root"]


def test_one_that_was_started_between_a_change_and_its_end_has_read_what_was_there_then(enforced, monkeypatch):
    rename = os.rename

    def started_meanwhile(source, target):
        rename(source, target)
        if target == str(enforced.file) and source.endswith(".new"):
            enforced.start()

    monkeypatch.setattr(os, "rename", started_meanwhile)
    enforced.set("sshd", answers={"-ddd": (1, "", "no luck")})
    with pytest.raises(SshdError):
        apply(Policy(unresponsive_timeout=240), enforced.host())
    monkeypatch.undo()
    enforced.set("sshd", answers={})
    assert "35" in enforced.file.read_text()
    lines = told(enforced, 2)
    assert lines[0].startswith("unknown: whether ssh.service (process 5000002, port 22) has read ")
