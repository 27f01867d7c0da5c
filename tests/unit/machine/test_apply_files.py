"""What is written, in which steps, and what of it stays when a run fails, is killed or meets others."""

import contextlib
import os
import re
import stat
import subprocess

import pytest
from ssh_keepalive.machine import files, host, record
from ssh_keepalive.machine.apply import apply
from ssh_keepalive.machine.problem import SshdError
from ssh_keepalive.policy import Policy

POLICY = Policy(unresponsive_timeout=180)
OFF = Policy(enabled=False)
BOTH_FILES = POLICY._replace(idle_timeout=900, idle_fallback="tmout")
TEXT = """\
# Managed by cloud-init's cc_ssh_keepalive; change ssh_keepalive in user-data instead.
# policy: {"unresponsive_timeout": 180}
ClientAliveInterval 5
ClientAliveCountMax 35
"""


# What changes something; a run may be killed before or after each.
STEPS = [
    (os, "open"),
    (os, "link"),
    (os, "rename"),
    (os, "unlink"),
    (os, "fsync"),
    (os, "mkdir"),
    (subprocess, "Popen"),
]


def killed_at(step, policy, machine):
    """Run apply in a child that dies before its step-th call that changes something; return whether it did."""
    child = os.fork()
    if child == 0:
        left = [step]

        def dying(call):
            def wrapped(*args, **kwargs):
                left[0] -= 1
                if left[0] < 0:
                    os._exit(9)
                return call(*args, **kwargs)

            return wrapped

        for module, name in STEPS:
            setattr(module, name, dying(getattr(module, name)))
        with contextlib.suppress(BaseException):
            apply(policy, machine.host())
            os._exit(0)
        os._exit(1)
    status = os.waitpid(child, 0)[1] >> 8
    assert status in (0, 9)
    return status == 9


PENDING = re.compile(
    r"/etc/ssh/sshd_config\.d/00-ssh-keepalive\.conf is written, but ssh\.service \(process \d+, port 22\) was not "
    r"restarted: /etc/ssh/sshd_config\.d may have changed since it read that: "
    r"systemctl restart ssh\.service puts all of that into effect$"
    r"|whether ssh\.service \(process \d+, port 22\) has read /etc/ssh/sshd_config\.d as it is now is not known: "
    r"systemctl restart ssh\.service, open sessions survive$"
)


# Each run begins with a machine like the last one's, so that what one leaves is not there for the next.
@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.slow) for part in (1, 2, 3))])
@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        (None, POLICY, TEXT),
        pytest.param(BOTH_FILES, POLICY, TEXT, marks=pytest.mark.slow),
        (BOTH_FILES, OFF, ""),
    ],
    ids=["first", "change-of-both-files", "removal-of-both-files"],
)
def test_a_run_that_was_killed_anywhere_is_made_good_by_the_next(machine, before, after, text, part):
    apply(before or OFF, machine.host())
    machine.start()
    old = machine.file.read_text() if before else ""
    snapshot = machine.snapshot()
    step = part
    while True:
        died = killed_at(step, after, machine)
        assert (machine.file.read_text() if machine.file.exists() else "") in (old, text)
        try:
            apply(after, machine.host())
        except SshdError as error:
            said = machine.shown(error)
        else:
            said = ""
        # Who has changed the folder, we or others, does not show.
        if died and PENDING.match(said):
            machine.start()
            said = ""
        assert said == ""
        assert machine.sshd_has_read() == text
        assert os.listdir(str(machine.file.parent)) == [machine.file.name] * bool(text)
        assert os.listdir(str(machine.profile)) == []
        assert os.listdir(str(machine.ssh)) == ["sshd_config", "sshd_config.d"]
        if not died:
            break
        machine.restore(snapshot)
        step += 4
    assert step > 10


def test_what_a_killed_run_left_behind_is_cleared(machine):
    for purpose in ("new", "old", "main"):
        (machine.file.parent / ".{}.{}".format(machine.file.name, purpose)).write_text("Broken yes\n")
    for purpose in ("new", "old", "key", "key.pub"):
        (machine.ssh / ".{}.main.{}".format(machine.file.name, purpose)).write_text("Broken yes\n")
    apply(POLICY, machine.host())
    assert sorted(os.listdir(str(machine.ssh))) == ["sshd_config", "sshd_config.d"]
    assert os.listdir(str(machine.file.parent)) == [machine.file.name]


def test_what_cannot_be_taken_away_at_the_end_is_no_failure(machine, monkeypatch):
    unlink = os.unlink

    def refuse(file, *arguments, **options):
        if str(file).endswith(".main") and os.path.exists(file):
            raise PermissionError(1, "Operation not permitted", file)
        unlink(file, *arguments, **options)

    monkeypatch.setattr(os, "unlink", refuse)
    apply(POLICY, machine.host())
    assert machine.file.read_text() == TEXT
    monkeypatch.undo()
    apply(POLICY, machine.host())
    assert os.listdir(str(machine.file.parent)) == [machine.file.name]


@pytest.mark.parametrize("how", ["mode", "link"])
def test_the_same_text_in_other_hands_is_taken_back(machine, how):
    apply(POLICY, machine.host())
    if how == "mode":
        machine.file.chmod(0o640)
    else:
        machine.file.rename(machine.root / "elsewhere")
        machine.file.symlink_to(machine.root / "elsewhere")
    assert apply(POLICY, machine.host()).changed
    assert not machine.file.is_symlink()
    assert stat.S_IMODE(machine.file.stat().st_mode) == 0o600
    assert not apply(POLICY, machine.host()).changed


@pytest.mark.parametrize("policy", [POLICY, OFF], ids=["on", "off"])
def test_a_dangling_link_in_the_drop_ins_place_goes(machine, policy):
    machine.file.symlink_to(machine.root / "nowhere")
    apply(policy, machine.host())
    assert not machine.file.is_symlink()
    assert machine.file.exists() == policy.enabled
    assert not (machine.root / "nowhere").exists()


def test_a_folder_in_the_drop_ins_place_is_named(machine, refused):
    machine.file.mkdir()
    assert refused() == "/etc/ssh/sshd_config.d/00-ssh-keepalive.conf: is no regular file: move it away"


def test_a_pipe_in_the_main_files_place_is_not_waited_for(machine, refused):
    machine.main.unlink()
    os.mkfifo(str(machine.main))
    assert refused() == "/etc/ssh/sshd_config: is no regular file: move it away"


def test_a_main_file_that_is_a_device_stays_one(machine, refused):
    machine.main.unlink()
    machine.main.symlink_to("/dev/null")
    with pytest.raises(SshdError) as caught:
        apply(POLICY, machine.host())
    assert str(caught.value) == "{}: is no regular file: move it away".format(machine.main)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_folder_of_drop_ins_that_is_a_dangling_link_is_named(machine, refused):
    machine.file.parent.rmdir()
    machine.file.parent.symlink_to("/nowhere")
    assert refused() == (
        "/etc/ssh/sshd_config.d is a link to /nowhere, which is not there: "
        "make that folder, or rm /etc/ssh/sshd_config.d"
    )


def test_where_no_shell_reads_a_profile_nothing_is_written(machine, refused):
    machine.profile.rmdir()
    assert refused(BOTH_FILES) == "/etc/profile.d is not there: mkdir /etc/profile.d"


def test_a_second_run_waits_for_the_first(machine, refused, monkeypatch):
    monkeypatch.setattr(host, "TOTAL_SECONDS", host.WAY_BACK_SECONDS + 1)
    first = machine.host()
    with files.exclusive(first):
        assert refused() == "another run holds /run/ssh-keepalive.lock for too long"


def test_a_disk_that_fails_is_named_by_its_file(machine, refused, monkeypatch):
    def fsync(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    assert refused() == "/etc/ssh/sshd_config.d/.00-ssh-keepalive.conf.new: No space left on device"


def test_a_refused_run_is_no_change_of_the_folder(machine, refused):
    apply(POLICY, machine.host())
    machine.start()
    folder = str(machine.file.parent)
    pristine = machine.main.read_text()
    machine.main.write_text("ClientAliveCountMax 7\n" + pristine)
    refused(Policy(unresponsive_timeout=240))
    machine.main.write_text(pristine)
    now = record.identify([], [folder])
    assert [entry.inputs.folders[folder] for entry in record.load(machine.host()).entries] == [now.folders[folder]]


def test_a_refused_run_does_not_hide_that_others_took_files_away(machine):
    other = machine.file.parent / "50-other.conf"
    other.touch()
    apply(POLICY, machine.host())
    folder = str(machine.file.parent)
    before = record.identify([], [folder])
    machine.main.write_text("ClientAliveCountMax 7\n" + machine.main.read_text())
    machine.set("sshd", meanwhile=[("-T", str(other), None)])
    with pytest.raises(SshdError):
        apply(Policy(unresponsive_timeout=240), machine.host())
    assert not other.exists()
    assert [entry.inputs.folders[folder] for entry in record.load(machine.host()).entries] == [before.folders[folder]]


def test_an_edit_of_the_main_file_takes_the_drop_in_back_too(machine, monkeypatch):
    apply(POLICY, machine.host())
    old = machine.file.read_text()
    machine.main.write_text("UsePAM yes\n")
    written = []
    rename = os.rename

    def edited_meanwhile(source, target):
        rename(source, target)
        if target == str(machine.file) and source.endswith(".new"):
            written.append("UsePAM yes\nPort {}\n".format(len(written)))
            machine.main.write_text(written[-1])

    monkeypatch.setattr(os, "rename", edited_meanwhile)
    with pytest.raises(SshdError) as caught:
        apply(Policy(unresponsive_timeout=240), machine.host())
    assert machine.shown(caught.value) == "/etc/ssh/sshd_config was changed during this run: try again"
    # With a drop-in that nobody reads first, then three times with a block
    assert len(written) == 4
    assert (machine.file.read_text(), machine.main.read_text()) == (old, written[-1])


def test_what_somebody_changes_in_the_main_file_during_a_run_stays(machine):
    machine.main.write_text("UsePAM yes\n")
    # While the candidate is verified that goes with a block in the main file
    theirs = "X11Forwarding no\n"
    staged = machine.ssh / ".00-ssh-keepalive.conf.main.new"
    machine.set("sshd", version="OpenSSH_8.0p1", meanwhile=[(str(staged), str(machine.main), theirs)])
    apply(POLICY, machine.host())
    assert machine.main.read_text() == "# BEGIN ssh-keepalive\n" + TEXT + "# END ssh-keepalive\n" + theirs


def test_a_main_file_that_somebody_changes_all_the_time_is_told(machine, monkeypatch):
    machine.openssh("8.0p1")
    staged = machine.ssh / ".00-ssh-keepalive.conf.main.new"
    machine.main.write_text("UsePAM yes\nPermitRootLogin no\n")
    written = []
    text = files.text

    def changing(path):
        if path == str(machine.main) and staged.exists():
            written.append("UsePAM yes\nPort {}\n".format(len(written)))
            machine.main.write_text(written[-1])
        return text(path)

    monkeypatch.setattr(files, "text", changing)
    with pytest.raises(SshdError) as caught:
        apply(POLICY, machine.host())
    assert machine.shown(caught.value) == "/etc/ssh/sshd_config was changed during this run: try again"
    assert machine.main.read_text() == written[-1]
    assert os.listdir(str(machine.ssh)) == ["sshd_config", "sshd_config.d"]


def test_what_somebody_changes_in_the_main_file_after_it_was_replaced_stays_when_the_run_fails(machine):
    machine.openssh("8.0p1")
    machine.main.write_text("UsePAM yes\n")
    theirs = "# BEGIN ssh-keepalive\n" + TEXT + "# END ssh-keepalive\nUsePAM yes\nMatch all\nClientAliveCountMax 9\n"
    machine.set("sshd", meanwhile=[("-T -ddd -C", str(machine.main), theirs)])
    with pytest.raises(SshdError) as caught:
        apply(POLICY, machine.host())
    assert machine.shown(caught.value) == (
        "ClientAliveCountMax is 9 where 35 is expected, /etc/ssh/sshd_config:3 overrides it: "
        "remove that line and restart sshd"
    )
    assert machine.main.read_text() == "UsePAM yes\nMatch all\nClientAliveCountMax 9\n"
    assert os.listdir(str(machine.ssh)) == ["sshd_config", "sshd_config.d"]


def test_both_files_come_back_when_sshd_does_not(machine, refused):
    apply(
        BOTH_FILES._replace(unresponsive_timeout=None, client_alive_interval=99, client_alive_count_max=2),
        machine.host(),
    )
    machine.start()
    machine.set("systemctl", dies_of="Interval 5")
    assert refused(POLICY._replace(idle_timeout=60, idle_fallback="tmout")).endswith("sshd is active")
    assert refused(POLICY).endswith("sshd is active")
    assert "TMOUT=900" in (machine.profile / "zz-ssh-keepalive.sh").read_text()
