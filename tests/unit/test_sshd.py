import contextlib
import os
import re
import stat
import subprocess
import time

import pytest
from ssh_keepalive import sshd as sshd_module
from ssh_keepalive.policy import Entry, Policy, PolicyError
from ssh_keepalive.sshd import SshdError, apply, reapply

POLICY = Policy(unresponsive_timeout=180)
TEXT = """\
# Written by cloud-init's cc_ssh_keepalive and overwritten by it: change ssh_keepalive in user-data instead.
# policy: {"unresponsive_timeout": 180}
ClientAliveInterval 45
ClientAliveCountMax 3
"""


def refused(machine, policy=POLICY, **changes):
    """Apply a policy that cannot be kept; return the message after making sure that nothing changed."""
    before = machine.files()
    with pytest.raises(SshdError) as caught:
        apply(policy, machine.sshd(**changes))
    assert machine.files() == before
    assert len(caught.value.args) == 1
    return str(caught.value).replace(str(machine.root), "")


def test_first_boot_writes_the_drop_in_and_restarts_nothing(machine):
    report = apply(POLICY, machine.sshd())
    assert machine.file.read_text() == TEXT
    assert stat.S_IMODE(machine.file.stat().st_mode) == 0o600
    assert os.listdir(str(machine.file.parent)) == [machine.file.name]
    assert machine.calls("systemctl") == [
        "--job-mode=ignore-dependencies is-active ssh",
        "--job-mode=ignore-dependencies is-active sshd",
    ]
    assert str(report).replace(str(machine.root), "") == (
        "ssh_keepalive: a client that stopped answering is gone 180 s after its last sign of life "
        "(ClientAliveInterval 45, ClientAliveCountMax 3 on OpenSSH 8.4); "
        "/etc/ssh/sshd_config.d/00-ssh-keepalive.conf changed, sshd reads it when it starts"
    )


def test_a_running_sshd_is_restarted_once(machine):
    machine.sshd_is("active")
    report = apply(POLICY, machine.sshd())
    assert machine.calls("systemctl") == [
        "--job-mode=ignore-dependencies is-active ssh",
        "--job-mode=ignore-dependencies try-restart ssh",
        "--job-mode=ignore-dependencies is-active ssh",
    ]
    assert str(report).endswith("00-ssh-keepalive.conf changed, sshd restarted")


def test_the_same_text_is_proved_again_and_restarts_nothing(machine):
    machine.sshd_is("active")
    apply(POLICY, machine.sshd())
    inode = machine.file.stat().st_ino
    machine.calls_file.unlink()
    report = apply(POLICY, machine.sshd())
    assert machine.file.stat().st_ino == inode
    assert machine.calls("systemctl") == []
    assert len(machine.calls("sshd")) == 2
    assert str(report).endswith("00-ssh-keepalive.conf unchanged")


def test_the_same_text_that_no_longer_wins_is_an_error(machine):
    apply(POLICY, machine.sshd())
    (machine.ssh / "sshd_config.d/00-a.conf").write_text("ClientAliveInterval 7\n")
    assert refused(machine) == (
        "ClientAliveInterval is 7 where 45 is wanted: "
        "/etc/ssh/sshd_config.d/00-a.conf:1 sets it and wins, remove that line"
    )


def test_nobody_is_asked_for(machine):
    apply(POLICY, machine.sshd())
    nobody = "-T -C user=.invalid,host=.invalid,addr=192.0.2.1,laddr=192.0.2.1,lport=1"
    folder = str(machine.file.parent)
    assert machine.calls("sshd") == ["-V", nobody + " -f {}/.00-ssh-keepalive.conf.main".format(folder), nobody]


def test_the_folder_that_sshd_needs_is_made_and_stays(machine):
    apply(POLICY, machine.sshd())
    assert stat.S_IMODE((machine.run / "sshd").stat().st_mode) == 0o755


def test_a_missing_drop_in_folder_is_made_and_goes_again_on_failure(machine):
    machine.file.parent.rmdir()
    (machine.ssh / "broken.conf").write_text("Broken yes\n")
    include = "Include {}/*.conf\n".format(machine.file.parent)
    machine.main.write_text("{}Include {}/broken.conf\n".format(include, machine.ssh))
    assert "Broken" in refused(machine)
    assert not machine.file.parent.exists()
    machine.main.write_text(include)
    apply(POLICY, machine.sshd())
    assert machine.file.read_text() == TEXT


BLOCK = "# BEGIN ssh-keepalive\n" + TEXT + "# END ssh-keepalive\n"
NOT_READ = [
    "UsePAM yes\n",
    "",
    "UsePAM yes\r\nClientAliveInterval 7\r\n",
    "UsePAM yes\nMatch User alice\nInclude {folder}/*.conf",
]


def include_block(machine):
    return "# BEGIN ssh-keepalive\nInclude {}\n# END ssh-keepalive\n".format(machine.file)


@pytest.mark.parametrize("text", NOT_READ, ids=["no-include", "empty", "crlf-and-a-value", "conditional"])
def test_a_main_file_that_reads_no_drop_ins_gets_a_block_that_does(machine, text):
    text = text.replace("{folder}", str(machine.file.parent))
    with machine.main.open("w", newline="") as stream:
        stream.write(text)
    machine.main.chmod(0o640)
    machine.sshd_is("active")
    report = apply(POLICY, machine.sshd())
    assert machine.main.read_bytes().decode() == include_block(machine) + text
    assert stat.S_IMODE(machine.main.stat().st_mode) == 0o640
    assert sorted(os.listdir(str(machine.ssh))) == ["sshd_config", "sshd_config.d"]
    assert os.listdir(str(machine.file.parent)) == [machine.file.name]
    assert machine.file.read_text() == TEXT
    assert str(report).endswith("/00-ssh-keepalive.conf changed, sshd restarted")
    assert str(apply(POLICY, machine.sshd())).endswith("/00-ssh-keepalive.conf unchanged")

    machine.openssh("9.2")
    assert reapply(machine.sshd()).changed
    assert "ClientAliveInterval 18\n" in machine.file.read_text()
    assert machine.main.read_bytes().decode() == include_block(machine) + text
    machine.main.write_text(text)
    assert reapply(machine.sshd()).changed
    apply(Policy(enabled=False), machine.sshd())
    assert not machine.file.exists()
    assert machine.main.read_bytes().decode().replace("\r", "") == text.replace("\r", "")


def test_entries_that_fit_nobody_yet_are_read_nevertheless(machine):
    machine.main.write_text("UsePAM yes\n")
    nobody = Policy(match=(Entry("group", ("no-such-group",), None, 60, 3),))
    report = apply(nobody, machine.sshd())
    assert machine.main.read_text() == include_block(machine) + "UsePAM yes\n"
    assert report.unproved == ("match[0] is not proved, Match Group no-such-group fits nobody who is known here yet",)


def test_an_option_of_the_sshd_that_runs_is_named(machine):
    machine.sshd_is("active")
    process = machine.root / "proc/5"
    process.mkdir(parents=True)
    (machine.run / "sshd.pid").write_text("5\n")
    cmdline = "sshd: /usr/sbin/sshd -D -o ClientAliveInterval={} [listener] 0 of 10-100 startups"
    (process / "cmdline").write_text(cmdline.format(0))
    changes = {"proc": str(machine.root / "proc")}
    assert refused(machine, **changes) == (
        "ClientAliveInterval is 0 where 45 is wanted: sshd was started with -o ClientAliveInterval=0, which wins; "
        "remove that from its service (/etc/default/ssh, /etc/sysconfig/sshd), and restart it"
    )
    (process / "cmdline").write_text("sshd: /usr/sbin/sshd -D -f {} [listener]".format(machine.root / "other"))
    assert refused(machine, **changes) == (
        "sshd was started with -f /other, and does not read /etc/ssh/sshd_config; "
        "remove that from its service (/etc/default/ssh, /etc/sysconfig/sshd), and restart it"
    )
    for option in "-o ClientAliveInterval=45", "-f {}".format(machine.main):
        (process / "cmdline").write_text("sshd: /usr/sbin/sshd -D {} [listener]".format(option))
        apply(POLICY, machine.sshd(**changes))


def test_a_folder_that_the_end_of_a_connection_takes_along_is_made_again(machine):
    ended = """\
if "-T" in arguments and not os.path.exists("{run}/ended"):
    open("{run}/ended", "w").close()
    os.rmdir("{run}/sshd")
    sys.exit("Missing privilege separation directory: {run}/sshd")
""".format(run=machine.run)
    script = (machine.bin / "sshd").read_text()
    (machine.bin / "sshd").write_text(script.replace("who = ", ended + "who = ", 1))
    assert apply(POLICY, machine.sshd()).changed


def test_a_refused_run_leaves_the_time_of_the_folder_unless_others_took_files_away(machine):
    apply(POLICY, machine.sshd())
    folder = machine.file.parent
    os.utime(str(folder), (1000, 1000))
    machine.main.write_text("ClientAliveCountMax 7\n" + machine.main.read_text())
    refused(machine, Policy(unresponsive_timeout=240))
    assert folder.stat().st_mtime == 1000
    other = folder / "50-other.conf"
    other.touch()
    os.utime(str(folder), (1000, 1000))
    script = (machine.bin / "sshd").read_text()
    taken = "if os.path.exists({0!r}): os.unlink({0!r})\n".format(str(other))
    (machine.bin / "sshd").write_text(script.replace("who = ", taken + "who = ", 1))
    with pytest.raises(SshdError):
        apply(Policy(unresponsive_timeout=240), machine.sshd())
    assert folder.stat().st_mtime > 1000


def test_an_sshd_that_knows_no_include_gets_a_block_and_no_folder(machine):
    machine.openssh("8.0p1")
    machine.file.parent.rmdir()
    machine.main.write_text("UsePAM yes\n")
    apply(POLICY, machine.sshd())
    assert machine.main.read_text() == BLOCK + "UsePAM yes\n"
    assert os.listdir(str(machine.ssh)) == ["sshd_config"]


def test_a_link_to_the_main_file_stays_one(machine):
    real = machine.root / "etc/site/sshd_config"
    real.parent.mkdir()
    machine.main.unlink()
    machine.main.symlink_to(real)
    real.write_text("UsePAM yes\n")
    apply(POLICY, machine.sshd())
    assert machine.main.is_symlink()
    assert real.read_text() == include_block(machine) + "UsePAM yes\n"
    assert os.listdir(str(real.parent)) == ["sshd_config"]


def test_the_lines_of_others_are_counted_without_our_block(machine):
    machine.main.write_text("UsePAM yes\nMatch all\nClientAliveCountMax 9\n")
    expected = "ClientAliveCountMax is 9 where 3 is wanted: /etc/ssh/sshd_config:3 sets it and wins, remove that line"
    assert refused(machine) == expected
    machine.main.write_text("UsePAM yes\n")
    apply(POLICY, machine.sshd())
    with machine.main.open("a") as stream:
        stream.write("Match all\nClientAliveCountMax 9\n")
    assert refused(machine) == expected


def test_the_vendors_main_file_gets_no_block(machine):
    vendor = machine.root / "usr/etc/ssh/sshd_config"
    vendor.parent.mkdir(parents=True)
    machine.main.unlink()
    vendor.write_text("UsePAM yes\n")
    script = (machine.bin / "sshd").read_text()
    (machine.bin / "sshd").write_text(script.replace(str(machine.main), str(vendor)))
    assert refused(machine) == (
        "ClientAliveInterval is 0 where 45 is wanted: /usr/etc/ssh/sshd_config does not read "
        "/etc/ssh/sshd_config.d/00-ssh-keepalive.conf, put 'Include /etc/ssh/sshd_config.d/*.conf' on its first line"
    )
    machine.openssh("8.0p1")
    assert refused(machine) == "OpenSSH 8.0 reads no drop-ins, and /usr/etc/ssh/sshd_config is not ours to change"
    assert vendor.read_text() == "UsePAM yes\n"


def test_a_match_that_fits_everybody_is_named(machine):
    with machine.main.open("a") as stream:
        stream.write("Match all\nClientAliveCountMax 9\n")
    assert refused(machine) == (
        "ClientAliveCountMax is 9 where 3 is wanted: /etc/ssh/sshd_config:4 sets it and wins, remove that line"
    )


def test_every_value_that_does_not_win_is_named(machine):
    (machine.ssh / "sshd_config.d/00-a.conf").write_text("ClientAliveCountMax 1\nClientAliveInterval 7\n")
    message = refused(machine)
    assert "00-a.conf:1 sets it" in message
    assert "00-a.conf:2 sets it" in message


def test_somebody_elses_broken_drop_in_is_named_before_anything_lands(machine):
    (machine.ssh / "sshd_config.d/50-b.conf").write_text("Broken yes\n")
    assert refused(machine) == (
        "sshd refuses its configuration: /etc/ssh/sshd_config.d/50-b.conf: line 1: Bad configuration option: Broken"
    )


def test_the_vendors_main_file_counts_where_etc_has_none(machine):
    vendor = machine.root / "usr/etc/ssh/sshd_config"
    vendor.parent.mkdir(parents=True)
    machine.main.rename(vendor)
    assert machine.sshd().main == str(vendor)
    machine.main.write_text("")
    assert machine.sshd().main == str(machine.main)


@pytest.mark.parametrize("main", [None, "UsePAM yes\n"], ids=["drop-in", "included"])
def test_missing_host_keys_are_stood_in_for(machine, main):
    if main:
        machine.main.write_text(main)
    script = (machine.bin / "sshd").read_text()
    needs_key = "import sys\nif '-T' in sys.argv and '-h' not in sys.argv: sys.exit('sshd: no hostkeys available')\n"
    first, rest = script.split("\n", 1)
    (machine.bin / "sshd").write_text(first + "\n" + needs_key + rest)
    machine.fake("ssh-keygen", "import sys; open(sys.argv[-1], 'w'); open(sys.argv[-1] + '.pub', 'w')\n")
    apply(POLICY, machine.sshd())
    assert len(machine.calls("ssh-keygen")) == (2 if main else 1)
    assert os.listdir(str(machine.file.parent)) == [machine.file.name]


def test_no_host_key_can_be_made(machine):
    machine.fake("sshd", "import sys; sys.exit('OpenSSH_9.9 no hostkeys available')\n")
    machine.fake("ssh-keygen", "import sys; sys.exit('no entropy')\n")
    assert refused(machine) == "no host keys, and none can be made: no entropy"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("", "sshd -V names no OpenSSH version: exit 0 without a word"),
        ("import sys; sys.exit('rubbish\\n\\nOpenSSH_9.2')", "sshd refuses its configuration: rubbish / OpenSSH_9.2"),
        (
            "import os; os.write(2, b'OpenSSH_9.2 \\xff'); sys.exit(3)",
            "sshd refuses its configuration: OpenSSH_9.2 \ufffd",
        ),
        (
            "print('OpenSSH_9.2')",
            "sshd -T does not report ClientAliveInterval, 18 is wanted; "
            "sshd -T does not report ClientAliveCountMax, 4 is wanted",
        ),
    ],
    ids=["silent", "refuses", "not-text", "rubbish"],
)
def test_an_sshd_that_does_not_answer_as_it_should(machine, script, message):
    machine.fake("sshd", script)
    assert refused(machine) == message


def test_no_sshd_at_all(machine):
    (machine.bin / "sshd").unlink()
    assert refused(machine, path=str(machine.bin)) == "sshd is not on this machine (looked in /bin)"


def test_a_command_that_hangs_is_ended_with_its_children(machine, monkeypatch):
    monkeypatch.setattr(sshd_module, "_COMMAND_SECONDS", 0.5)
    machine.fake("sshd", "import subprocess; subprocess.call(['/bin/sleep', '60'])\n")
    began = time.monotonic()
    assert refused(machine) == "sshd -V did not answer within 0.5 s"
    assert time.monotonic() - began < 10


def test_a_child_that_escapes_the_kill_is_not_waited_for(machine, monkeypatch):
    monkeypatch.setattr(sshd_module, "_COMMAND_SECONDS", 0.5)
    machine.fake("sshd", "import subprocess\nsubprocess.call(['/bin/sleep', '6'], start_new_session=True)\n")
    began = time.monotonic()
    assert refused(machine) == "sshd -V did not answer within 0.5 s"
    assert time.monotonic() - began < 5


def test_time_runs_out(machine, monkeypatch):
    monkeypatch.setattr(sshd_module, "_TOTAL_SECONDS", sshd_module._WAY_BACK_SECONDS)
    assert refused(machine) == "no time left for sshd -V, the commands before took too long"


DIES_WITH_THE_NEW_TEXT = """\
import pathlib, sys
state, file = pathlib.Path("{run}/sshd.state"), pathlib.Path("{ssh}/sshd_config.d/00-ssh-keepalive.conf")
now = state.read_text()
if "is-active" in sys.argv:
    print(now)
    sys.exit(now != "active")
if "try-restart" in sys.argv and now == "active" and "45" in file.read_text():
    state.write_text("failed")
    sys.exit("Job for ssh.service failed.")
if "restart" in sys.argv and "45" not in file.read_text():
    state.write_text({after!r})
"""


@pytest.mark.parametrize("after", ["active", "failed"])
def test_an_sshd_that_does_not_come_back_gets_its_old_file(machine, after):
    apply(Policy(client_alive_interval=99, client_alive_count_max=2), machine.sshd())
    machine.sshd_is("active")
    machine.fake("systemctl", DIES_WITH_THE_NEW_TEXT.replace("{after!r}", repr(after)))
    machine.calls_file.unlink()
    assert refused(machine) == (
        "after its restart sshd is failed: Job for ssh.service failed.; the old configuration is back, sshd is " + after
    )
    assert (machine.run / "sshd.state").read_text() == after
    verbs = [call.split()[1] for call in machine.calls("systemctl")]
    assert verbs[:4] == ["is-active", "try-restart", "is-active", "try-restart"]
    assert verbs[4:] == ["is-active", "reset-failed", "restart", "is-active"]


def test_a_way_back_on_which_everything_hangs_still_tries_everything_and_says_how_it_ended(machine, monkeypatch):
    monkeypatch.setattr(sshd_module, "_COMMAND_SECONDS", 1)
    monkeypatch.setattr(sshd_module, "_WAY_BACK_SECONDS", 4)
    monkeypatch.setattr(sshd_module, "_TOTAL_SECONDS", 20)
    machine.fake("systemctl", "import sys, time\nif 'is-active' in sys.argv: sys.exit(0)\ntime.sleep(60)\n")
    began = time.monotonic()
    # is-active says that it runs, which is all that can be known: its restart did not end.
    assert refused(machine) == (
        "systemctl --job-mode=ignore-dependencies try-restart ssh did not answer within 1.0 s; "
        "the old configuration is back, sshd is active"
    )
    machine.fake(
        "systemctl",
        "import sys, time\nprint('activating') if 'is-active' in sys.argv else time.sleep(60)\nsys.exit(3)\n",
    )
    machine.calls_file.unlink()
    assert refused(machine).endswith("; the old configuration is back, sshd is activating")
    verbs = [call.split()[1] for call in machine.calls("systemctl")]
    assert verbs == ["is-active", "try-restart", "try-restart", "is-active", "reset-failed", "restart", "is-active"]
    assert time.monotonic() - began < 40


def test_what_is_left_of_the_time_limits_every_command(machine, monkeypatch):
    monkeypatch.setattr(sshd_module, "_TOTAL_SECONDS", sshd_module._WAY_BACK_SECONDS + 2)
    machine.fake("sshd", "import sys, time\ntime.sleep(1.2)\nsys.exit('OpenSSH_8.4')\n")
    began = time.monotonic()
    assert " did not answer within 0." in refused(machine)
    assert time.monotonic() - began < 5


def test_the_way_back_has_time_of_its_own(machine, monkeypatch):
    monkeypatch.setattr(sshd_module, "_WAY_BACK_SECONDS", 30)
    monkeypatch.setattr(sshd_module, "_TOTAL_SECONDS", 33)
    apply(Policy(client_alive_interval=99, client_alive_count_max=2), machine.sshd())
    machine.sshd_is("active")
    slow = DIES_WITH_THE_NEW_TEXT.replace("{after!r}", "'active'").replace(
        '    sys.exit("Job', '    time.sleep(60)\n    ("Job'
    )
    machine.fake("systemctl", "import time\n" + slow)
    assert refused(machine).endswith(" s; the old configuration is back, sshd is active")


def test_an_sshd_that_is_about_to_start_is_restarted(machine):
    machine.fake("systemctl", "import sys\nprint('activating')\nsys.exit(3 * ('is-active' in sys.argv))\n")
    assert refused(machine).startswith(
        "after its restart sshd is activating: activating; the old configuration is back"
    )


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
            apply(policy, machine.sshd())
            os._exit(0)
        os._exit(1)
    status = os.waitpid(child, 0)[1] >> 8
    assert status in (0, 9)
    return status == 9


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        (None, POLICY, TEXT),
        (POLICY._replace(idle_timeout=900, idle_fallback="tmout"), POLICY, TEXT),
        (POLICY._replace(idle_timeout=900, idle_fallback="tmout"), Policy(enabled=False), ""),
    ],
    ids=["first", "change-of-both-files", "removal-of-both-files"],
)
def test_a_run_that_was_killed_anywhere_is_made_good_by_the_next(machine, before, after, text):
    step = 0
    while True:
        machine.sshd_is("inactive")
        apply(before or Policy(enabled=False), machine.sshd())
        machine.sshd_is("active")
        old = machine.file.read_text() if before else ""
        (machine.run / "sshd.read").write_text(old)
        died = killed_at(step, after, machine)
        assert (machine.file.read_text() if machine.file.exists() else "") in (old, text)
        apply(after, machine.sshd())
        assert machine.sshd_has_read() == text
        assert os.listdir(str(machine.file.parent)) == [machine.file.name] * bool(text)
        assert os.listdir(str(machine.profile)) == []
        assert os.listdir(str(machine.ssh)) == ["sshd_config", "sshd_config.d"]
        if not died:
            break
        step += 1
    assert step > 10


def test_off_systemd_the_service_command_restarts_only_what_runs(machine):
    (machine.run / "systemd/system").rmdir()
    machine.fake("service", "import sys; sys.exit(0 if sys.argv[1] == 'sshd' else 3)\n")
    report = apply(POLICY, machine.sshd(path=str(machine.bin)))
    assert report.restarted
    assert machine.calls("service") == ["ssh status", "sshd status", "sshd restart", "sshd status"]


def test_openrc_is_asked_by_its_own_command(machine):
    (machine.run / "systemd/system").rmdir()
    machine.fake("rc-service", "import sys; sys.exit(3)\n")
    assert not apply(POLICY, machine.sshd(path=str(machine.bin))).restarted
    assert machine.calls("rc-service") == ["ssh status", "sshd status"]


# Seen on Debian with a script of OpenRC's own kind: an sshd that has died counts as started, and cannot be stopped.
OPENRC = """\
import os, pathlib, sys
pid_file, zapped = pathlib.Path("{run}/sshd.pid"), pathlib.Path("{run}/zapped")
verb = sys.argv[2]
if verb == "status":
    sys.exit(3 if zapped.exists() else 0)
if verb == "zap":
    zapped.touch()
if verb == "restart":
    if pid_file.exists():
        pid_file.unlink()
    elif not zapped.exists():
        sys.exit("sshd failed to stop")
    if "45" not in pathlib.Path("{ssh}/sshd_config.d/00-ssh-keepalive.conf").read_text():
        pid_file.write_text(str(os.getppid()))
        zapped.unlink()
"""


def test_an_sshd_that_openrc_believes_in_is_missed_and_brought_back(machine, monkeypatch):
    monkeypatch.setattr(sshd_module, "_PID_FILE_SECONDS", 0)
    apply(Policy(client_alive_interval=99, client_alive_count_max=2), machine.sshd())
    (machine.run / "systemd/system").rmdir()
    machine.fake("rc-service", OPENRC)
    (machine.run / "sshd.pid").write_text("{}\n".format(os.getpid()))
    said = refused(machine, path=str(machine.bin))
    assert said == (
        "after its restart sshd is down: exit 0 without a word; the old configuration is back, sshd is active"
    )
    verbs = [call.split()[1] for call in machine.calls("rc-service")]
    assert verbs == ["status", "restart", "status", "restart", "status", "zap", "restart", "status"]


@pytest.mark.parametrize("text", ["", "-", "999999999", "1" * 40])
def test_a_pid_file_that_was_wrong_before_the_restart_tells_nothing_after_it(machine, text):
    (machine.run / "systemd/system").rmdir()
    (machine.run / "sshd.pid").write_text(text)
    machine.fake("service", "")
    assert apply(POLICY, machine.sshd(path=str(machine.bin))).restarted


# It has left its parent, and then taken a while to write its PID file.
LATE = """import pathlib, sys
calls = pathlib.Path({calls!r})
asked = calls.read_text().count("ssh status")
sys.exit(3 if asked in (2, 3) else 0)
"""


def test_off_systemd_a_restarted_sshd_is_waited_for(machine):
    (machine.run / "systemd/system").rmdir()
    machine.fake("service", LATE.replace("{calls!r}", repr(str(machine.calls_file))))
    assert apply(POLICY, machine.sshd(path=str(machine.bin))).restarted
    assert machine.calls("service") == ["ssh status", "ssh restart", "ssh status", "ssh status", "ssh status"]


def test_a_disabled_policy_takes_the_drop_in_away(machine):
    apply(POLICY, machine.sshd())
    machine.sshd_is("active")
    report = apply(Policy(enabled=False), machine.sshd())
    assert os.listdir(str(machine.file.parent)) == []
    assert str(report).replace(str(machine.root), "") == (
        "ssh_keepalive: off, sshd keeps its other settings; "
        "/etc/ssh/sshd_config.d/00-ssh-keepalive.conf changed, sshd restarted"
    )


def test_a_disabled_policy_asks_nothing_where_there_is_no_drop_in(machine):
    machine.file.parent.rmdir()
    report = apply(Policy(enabled=False), machine.sshd())
    assert machine.calls("sshd") == machine.calls("systemctl") == []
    assert str(report).endswith("00-ssh-keepalive.conf unchanged")
    assert not machine.file.parent.exists()


def test_what_a_killed_run_left_behind_is_cleared(machine):
    for purpose in ("new", "old", "main"):
        (machine.file.parent / ".{}.{}".format(machine.file.name, purpose)).write_text("Broken yes\n")
    for purpose in ("new", "old", "key", "key.pub"):
        (machine.ssh / ".{}.main.{}".format(machine.file.name, purpose)).write_text("Broken yes\n")
    apply(POLICY, machine.sshd())
    assert sorted(os.listdir(str(machine.ssh))) == ["sshd_config", "sshd_config.d"]
    assert os.listdir(str(machine.file.parent)) == [machine.file.name]


def test_a_folder_in_the_drop_ins_place_is_named(machine):
    machine.file.mkdir()
    assert refused(machine) == "/etc/ssh/sshd_config.d/00-ssh-keepalive.conf: is no regular file"


def test_a_second_run_waits_for_the_first(machine, monkeypatch):
    monkeypatch.setattr(sshd_module, "_TOTAL_SECONDS", sshd_module._WAY_BACK_SECONDS + 1)
    with machine.sshd().alone():
        assert refused(machine) == "another run holds /run/ssh-keepalive.lock for too long"


def test_another_openssh_gets_the_same_policy_in_other_numbers(machine):
    assert reapply(machine.sshd()) is None
    apply(POLICY, machine.sshd())
    machine.sshd_is("active")
    assert not reapply(machine.sshd()).changed
    machine.openssh("9.2p1")
    report = reapply(machine.sshd())
    assert (report.policy, report.restarted) == (POLICY, True)
    assert "ClientAliveInterval 18\nClientAliveCountMax 4\n" in machine.file.read_text()


def test_a_drop_in_that_does_not_say_its_policy_stays(machine):
    machine.file.write_text("ClientAliveInterval 45\n")
    with pytest.raises(SshdError) as caught:
        reapply(machine.sshd())
    assert str(caught.value).replace(str(machine.root), "") == (
        "/etc/ssh/sshd_config.d/00-ssh-keepalive.conf: has no policy line that can be read, "
        "run cloud-init's module again"
    )
    assert machine.file.read_text() == "ClientAliveInterval 45\n"


def test_other_settings_are_not_spoken_for(machine):
    report = str(apply(Policy(tcp_keep_alive=False), machine.sshd()))
    assert report.startswith(
        "ssh_keepalive: sshd keeps its own setting for silent clients (TCPKeepAlive no on OpenSSH 8.4)"
    )
    report = str(apply(Policy(client_alive_interval=0, client_alive_count_max=3), machine.sshd()))
    assert report.startswith(
        "ssh_keepalive: sshd drops no silent client (ClientAliveInterval 0, ClientAliveCountMax 3 on"
    )


def test_where_nothing_starts_services_nothing_is_restarted(machine):
    apply(POLICY, machine.sshd())
    (machine.run / "systemd/system").rmdir()
    assert not apply(Policy(enabled=False), machine.sshd(path=str(machine.bin))).restarted
    assert not machine.file.exists()


def test_a_running_sshd_is_not_restarted_into_somebody_elses_mistake(machine):
    apply(POLICY, machine.sshd())
    machine.sshd_is("active")
    (machine.ssh / "sshd_config.d/50-b.conf").write_text("Broken yes\n")
    machine.calls_file.unlink()
    assert "Broken" in refused(machine, Policy(enabled=False))
    assert machine.calls("systemctl") == ["--job-mode=ignore-dependencies is-active ssh"]


IDLE = Policy(idle_timeout=900, idle_fallback="tmout")


def test_idle_sessions_end_by_an_sshd_that_knows_how(machine):
    machine.openssh("9.9")
    report = str(apply(IDLE, machine.sshd()))
    assert machine.file.read_text().endswith("\nChannelTimeout session:*=900 global=900\nUnusedConnectionTimeout 900\n")
    assert os.listdir(str(machine.profile)) == []
    assert report.startswith(
        "ssh_keepalive: sshd keeps its own setting for silent clients, a session without traffic ends after 900 s "
        "(ChannelTimeout session:*=900 global=900, UnusedConnectionTimeout 900 on OpenSSH 9.9); "
    )
    assert [call.split()[0] for call in machine.calls("sshd")] == ["-V", "-G", "-T"]
    assert len(machine.calls("systemctl")) == 2  # 1 where one service is asked about


def test_an_old_sshd_to_which_its_distribution_has_added_that_uses_it(machine):
    script = (machine.bin / "sshd").read_text()
    (machine.bin / "sshd").write_text(script.replace('"OpenSSH_8" not in version', "True"))
    apply(IDLE, machine.sshd())
    assert machine.calls("sshd")[1] == "-t -f /dev/null -o ChannelTimeout=session:*=60 -o UnusedConnectionTimeout=60"
    assert machine.file.read_text().endswith("\nChannelTimeout session:*=900 global=900\nUnusedConnectionTimeout 900\n")
    assert os.listdir(str(machine.profile)) == []


def test_what_this_sshd_cannot_keep_is_refused(machine):
    before = machine.files()
    with pytest.raises(PolicyError) as caught:
        apply(Policy(idle_timeout=900), machine.sshd())
    assert str(caught.value).startswith("ssh_keepalive.idle_timeout: 900: OpenSSH 8.4 has no ChannelTimeout: ")
    assert machine.files() == before


def test_tmout_comes_and_goes_with_the_drop_in(machine):
    machine.sshd_is("active")
    report = str(apply(IDLE, machine.sshd()))
    file = machine.profile / "zz-ssh-keepalive.sh"
    assert report.startswith(
        "ssh_keepalive: sshd keeps its own setting for silent clients, "
        "a shell that waits at its prompt ends after 900 s (OpenSSH 8.4); "
    )
    assert "        TMOUT=900\n        readonly TMOUT\n" in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert os.listdir(str(machine.profile)) == [file.name]

    file.unlink()
    machine.calls_file.unlink()
    report = apply(IDLE, machine.sshd())
    assert (file.exists(), report.changed, report.restarted) == (True, True, False)

    apply(Policy(idle_timeout=0), machine.sshd())
    assert not file.exists()
    apply(IDLE, machine.sshd())
    machine.openssh("9.2")
    reapply(machine.sshd())
    assert not file.exists()
    machine.openssh("9.2")
    apply(Policy(enabled=False), machine.sshd())
    assert os.listdir(str(machine.profile)) == os.listdir(str(machine.file.parent)) == []


def test_both_files_come_back_when_sshd_does_not(machine):
    apply(IDLE._replace(client_alive_interval=99, client_alive_count_max=2), machine.sshd())
    machine.sshd_is("active")
    machine.fake("systemctl", DIES_WITH_THE_NEW_TEXT.replace("{after!r}", "'active'"))
    assert refused(machine, POLICY._replace(idle_timeout=60, idle_fallback="tmout")).endswith("sshd is active")
    assert refused(machine, POLICY).endswith("sshd is active")
    assert "TMOUT=900" in (machine.profile / "zz-ssh-keepalive.sh").read_text()


def test_whoever_interrupts_a_restart_finds_sshd_with_the_old_policy(machine, monkeypatch):
    apply(POLICY, machine.sshd())
    machine.sshd_is("active")
    old = machine.file.read_text()
    restart = sshd_module.Sshd.restart

    def interrupted(sshd, service):
        restart(sshd, service)
        raise KeyboardInterrupt

    monkeypatch.setattr(sshd_module.Sshd, "restart", interrupted)
    with pytest.raises(KeyboardInterrupt):
        apply(Policy(unresponsive_timeout=240), machine.sshd())
    assert machine.file.read_text() == machine.sshd_has_read() == old


def test_an_sshd_that_has_not_read_what_others_changed_is_restarted(machine):
    machine.sshd_is("active")
    apply(POLICY, machine.sshd())
    pid_file, other = machine.run / "sshd.pid", machine.ssh / "sshd_config.d/50-other.conf"
    other.write_text("")
    pid_file.write_text(str(os.getpid()))

    def restarted(read, changed):
        for file, at in ((pid_file, read), (other, changed), (machine.main, 900), (machine.file, 900)):
            os.utime(str(file), (at, at))
        os.utime(str(other.parent), (900, 900))
        report = apply(POLICY, machine.sshd())
        assert not report.changed
        return report.restarted

    assert restarted(1000, 1001)
    assert not restarted(1001, 1000)
    assert not restarted(1000, time.time() + 60)
    other.rename(other.with_suffix(".off"))
    other = other.with_suffix(".off")
    assert not restarted(1000, 1001)
    pid_file.write_text("x")
    assert not restarted(1000, 1001)


def test_a_file_that_others_took_away_is_seen_by_the_time_of_the_folder(machine):
    machine.sshd_is("active")
    apply(POLICY, machine.sshd())
    pid_file = machine.run / "sshd.pid"
    pid_file.write_text(str(os.getpid()))
    for file in machine.main, machine.file, pid_file:
        os.utime(str(file), (1000, 1000))
    for changed, restarted in ((1014, False), (1016, True)):
        os.utime(str(machine.file.parent), (changed, changed))
        assert apply(POLICY, machine.sshd()).restarted == restarted


def test_files_of_more_than_sshd_takes_are_refused(machine):
    big = machine.ssh / "sshd_config.d/50-other.conf"
    big.write_text("#" * 249000)
    machine.openssh("10.0p2")
    apply(POLICY, machine.sshd())
    big.write_text("#" * 249800)
    assert re.match(
        "sshd's configuration would have 25[0-9]{4} bytes, above 256 KiB this version refuses every login: shorten it$",
        refused(machine, Policy(unresponsive_timeout=240)),
    )
    (machine.bin / "sshd").write_text((machine.bin / "sshd").read_text().replace("OpenSSH_10.0p2", "OpenSSH_10.3p1"))
    apply(Policy(unresponsive_timeout=240), machine.sshd())


def test_where_no_shell_reads_a_profile_nothing_lands(machine):
    machine.profile.rmdir()
    assert refused(machine, IDLE) == "/etc/profile.d/.zz-ssh-keepalive.sh.new: No such file or directory"


ROOT = Entry("group", ("no-such-group", "r?ot"), None, 60, 3)
OFFICE = Entry("address", ("10.0.0.0/8",), None, 61, 3)
BACKUP = Entry("user", ("backup-*",), None, 62, 3)


def test_the_proof_asks_for_one_of_each_entry(machine):
    apply(POLICY._replace(match=(ROOT, OFFICE, BACKUP)), machine.sshd())
    asked = ["user=.invalid addr=192.0.2.1", "user=root addr=192.0.2.1", "user=.invalid addr=10.0.0.0"]
    asked.append("user=backup- addr=192.0.2.1")
    calls = [call.split() for call in machine.calls("sshd") if call.startswith("-T")]
    assert [" ".join(call[2].split(",")[:3:2]) for call in calls] == asked * 2


def test_an_entry_that_another_file_overrides_is_named(machine):
    (machine.ssh / "sshd_config.d/00-a.conf").write_text("Match User root\nClientAliveInterval 7\n")
    assert refused(machine, POLICY._replace(match=(ROOT,))) == (
        "ClientAliveInterval is 7 where 60 is wanted for user root from 192.0.2.1: "
        "/etc/ssh/sshd_config.d/00-a.conf:2 sets it and wins, remove that line"
    )


def test_an_entry_behind_one_that_fits_the_same_people_has_no_say(machine):
    everybody = Entry("user", ("*",), None, 60, 3)
    apply(POLICY._replace(match=(everybody, OFFICE, BACKUP)), machine.sshd())
    assert machine.file.exists()


def test_an_entry_that_fits_nobody_yet_is_told(machine):
    nobody = Entry("group", ("no-such-group",), None, 60, 3)
    report = str(apply(POLICY._replace(match=(OFFICE, nobody)), machine.sshd()))
    assert report.replace(str(machine.root), "") == (
        "ssh_keepalive: a client that stopped answering is gone 180 s after its last sign of life, other times for "
        "those whom match names (ClientAliveInterval 45, ClientAliveCountMax 3 on OpenSSH 8.4); "
        "match[1] is not proved, Match Group no-such-group fits nobody who is known here yet; "
        "/etc/ssh/sshd_config.d/00-ssh-keepalive.conf changed, sshd reads it when it starts"
    )


def test_an_sshd_that_skips_match_in_included_files_gets_a_block_at_the_end_of_its_main_file(machine):
    skips = "active = matching and fits(*words[1:]) and name.endswith(('sshd_config', '.main.new'))"
    script = (machine.bin / "sshd").read_text()
    (machine.bin / "sshd").write_text(script.replace("active = matching and fits(*words[1:])", skips))
    before = machine.main.read_text()
    apply(POLICY._replace(match=(BACKUP,)), machine.sshd())
    top, main, end = machine.main.read_text().partition(before)
    assert (top.count("\n"), main) == (6, before)
    assert end == (
        "# BEGIN ssh-keepalive\nMatch User backup-*\n    ClientAliveInterval 62\n    ClientAliveCountMax 3\n"
        "Match all\n# END ssh-keepalive\n"
    )
    assert not machine.file.exists()
    apply(Policy(enabled=False), machine.sshd())
    assert machine.main.read_text() == before


def test_a_running_sshd_that_would_not_start_again_is_left_to_run(machine):
    machine.sshd_is("active")
    script = (machine.bin / "sshd").read_text()
    (machine.bin / "sshd").write_text(script.replace("sys.exit(0 if knows else", "sys.exit('no luck' if knows else"))
    assert refused(machine) == "sshd runs, but would not start again: no luck"
    assert not [call for call in machine.calls("systemctl") if "restart" in call]


def test_a_systemctl_that_does_not_say_whether_sshd_runs(machine):
    machine.fake("systemctl", "import sys; sys.exit('Failed to connect to bus')\n")
    assert refused(machine) == "systemctl is-active ssh does not say whether sshd runs: Failed to connect to bus"


@pytest.mark.parametrize("how", ["mode", "link"])
def test_the_same_text_in_other_hands_is_taken_back(machine, how):
    apply(POLICY, machine.sshd())
    if how == "mode":
        machine.file.chmod(0o640)
    else:
        machine.file.rename(machine.root / "elsewhere")
        machine.file.symlink_to(machine.root / "elsewhere")
    assert apply(POLICY, machine.sshd()).changed
    assert not machine.file.is_symlink()
    assert stat.S_IMODE(machine.file.stat().st_mode) == 0o600
    assert not apply(POLICY, machine.sshd()).changed


@pytest.mark.parametrize("policy", [POLICY, Policy(enabled=False)], ids=["on", "off"])
def test_a_dangling_link_in_the_drop_ins_place_goes(machine, policy):
    machine.file.symlink_to(machine.root / "nowhere")
    apply(policy, machine.sshd())
    assert not machine.file.is_symlink()
    assert machine.file.exists() == policy.enabled
    assert not (machine.root / "nowhere").exists()


def test_a_drop_in_that_is_damaged_is_replaced(machine):
    machine.file.write_text("Broken yes\n")
    apply(POLICY, machine.sshd())
    assert machine.file.read_text() == TEXT


def test_a_damaged_drop_in_comes_back_where_something_else_is_wrong_too(machine):
    machine.file.write_text("Broken yes\n")
    (machine.ssh / "sshd_config.d/50-b.conf").write_text("Broken yes\n")
    assert "/etc/ssh/sshd_config.d/50-b.conf: line 1" in refused(machine)


def test_a_main_file_that_is_a_device_stays_one(machine):
    machine.main.unlink()
    machine.main.symlink_to("/dev/null")
    with pytest.raises(SshdError) as caught:
        apply(POLICY, machine.sshd())
    assert str(caught.value) == "{}: is no regular file".format(machine.main)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_what_cannot_be_taken_away_at_the_end_is_no_failure(machine, monkeypatch):
    unlink = os.unlink

    def refuse(file, *arguments, **options):
        if str(file).endswith(".main"):
            raise PermissionError(1, "Operation not permitted", file)
        unlink(file, *arguments, **options)

    monkeypatch.setattr(os, "unlink", refuse)
    apply(POLICY, machine.sshd())
    assert machine.file.read_text() == TEXT
    monkeypatch.undo()
    apply(POLICY, machine.sshd())
    assert os.listdir(str(machine.file.parent)) == [machine.file.name]
