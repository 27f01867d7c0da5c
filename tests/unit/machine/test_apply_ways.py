"""How sshd is made to read a policy: by a drop-in, by an Include of it, or by blocks in the main file."""

import os
import stat

import pytest
from ssh_keepalive.machine.apply import apply, reapply
from ssh_keepalive.policy import Entry, Policy

POLICY = Policy(unresponsive_timeout=180)
TEXT = """\
# Managed by cloud-init's cc_ssh_keepalive; change ssh_keepalive in user-data instead.
# policy: {"unresponsive_timeout": 180}
ClientAliveInterval 5
ClientAliveCountMax 35
"""
BLOCK = "# BEGIN ssh-keepalive\n" + TEXT + "# END ssh-keepalive\n"
NOT_READ = [
    "UsePAM yes\n",
    "",
    "UsePAM yes\r\nClientAliveInterval 7\r\n",
    "UsePAM yes\nMatch User alice\nInclude {folder}/*.conf",
]
BACKUP = Entry("user", ("backup-*",), None, 62, 3)


def include_block(machine):
    return "# BEGIN ssh-keepalive\nInclude {}\n# END ssh-keepalive\n".format(machine.file)


@pytest.mark.parametrize("text", NOT_READ, ids=["no-include", "empty", "crlf-and-a-value", "conditional"])
def test_a_main_file_that_reads_no_drop_ins_gets_a_block_that_does(machine, text):
    text = text.replace("{folder}", str(machine.file.parent))
    machine.main.write_bytes(text.encode())
    machine.main.chmod(0o640)
    machine.start()
    report = apply(POLICY, machine.host())
    assert machine.main.read_bytes().decode() == include_block(machine) + text
    assert stat.S_IMODE(machine.main.stat().st_mode) == 0o640
    assert sorted(os.listdir(str(machine.ssh))) == ["sshd_config", "sshd_config.d"]
    assert os.listdir(str(machine.file.parent)) == [machine.file.name]
    assert machine.file.read_text() == TEXT
    assert str(report).endswith("/00-ssh-keepalive.conf changed, sshd restarted")
    assert str(apply(POLICY, machine.host())).endswith("/00-ssh-keepalive.conf unchanged")

    machine.openssh("9.2")
    assert reapply(machine.host()).changed
    assert "ClientAliveInterval 3\n" in machine.file.read_text()
    assert machine.main.read_bytes().decode() == include_block(machine) + text
    assert reapply(machine.host()).changed is False
    apply(Policy(enabled=False), machine.host())
    assert not machine.file.exists()
    assert machine.main.read_bytes().decode() == text


def test_a_block_that_somebody_took_out_comes_back(machine):
    machine.main.write_text("UsePAM yes\n")
    apply(POLICY, machine.host())
    machine.main.write_text("UsePAM yes\n")
    assert reapply(machine.host()).changed
    assert machine.main.read_text() == include_block(machine) + "UsePAM yes\n"


def test_entries_that_fit_nobody_yet_are_read_nevertheless(machine):
    machine.main.write_text("UsePAM yes\n")
    nobody = Policy(match=(Entry("group", ("no-such-group",), None, 60, 3),))
    report = apply(nobody, machine.host())
    assert machine.main.read_text() == include_block(machine) + "UsePAM yes\n"
    assert report.notes == ("match[0] is not verified, Match Group no-such-group fits nobody who is known here yet",)


def test_an_sshd_that_knows_no_include_gets_a_block_and_no_folder(machine):
    machine.openssh("8.0p1")
    machine.file.parent.rmdir()
    machine.main.write_text("UsePAM yes\n")
    report = apply(POLICY, machine.host())
    assert machine.main.read_text() == BLOCK + "UsePAM yes\n"
    assert os.listdir(str(machine.ssh)) == ["sshd_config"]
    assert machine.shown(report).endswith("; /etc/ssh/sshd_config changed, sshd reads it when it starts")
    assert machine.shown(apply(Policy(enabled=False), machine.host())).endswith(
        "; /etc/ssh/sshd_config changed, sshd reads it when it starts"
    )
    assert machine.main.read_text() == "UsePAM yes\n"


def test_a_link_to_the_main_file_stays_one(machine):
    real = machine.root / "etc/site/sshd_config"
    real.parent.mkdir()
    machine.main.unlink()
    machine.main.symlink_to(real)
    real.write_text("UsePAM yes\n")
    apply(POLICY, machine.host())
    assert machine.main.is_symlink()
    assert real.read_text() == include_block(machine) + "UsePAM yes\n"
    assert os.listdir(str(real.parent)) == ["sshd_config"]


def test_the_vendors_main_file_gets_no_block(machine, refused):
    vendor = machine.root / "usr/etc/ssh/sshd_config"
    vendor.parent.mkdir(parents=True)
    machine.main.unlink()
    vendor.write_text("UsePAM yes\n")
    machine.set("sshd", main="/usr/etc/ssh/sshd_config")
    assert refused() == (
        "ClientAliveInterval is 0 where 5 is expected, ClientAliveCountMax is 3 where 35 is expected: "
        "/usr/etc/ssh/sshd_config does not read "
        "/etc/ssh/sshd_config.d/00-ssh-keepalive.conf: "
        "put 'Include /etc/ssh/sshd_config.d/00-ssh-keepalive.conf' on its first line, and restart sshd"
    )
    machine.openssh("8.0p1")
    assert refused() == "OpenSSH 8.0 reads no drop-ins, and /usr/etc/ssh/sshd_config is not ours to change"
    assert vendor.read_text() == "UsePAM yes\n"


@pytest.fixture
def built_in(machine):
    """Return the main file that is built into a running sshd, and that is another than the machine's."""
    main = machine.root / "opt/ssh/sshd_config"
    main.parent.mkdir(parents=True)
    machine.set("sshd", main="/opt/ssh/sshd_config")
    main.write_text("UsePAM yes\n")
    machine.start()
    return main


def test_an_sshd_that_reads_another_main_file_is_told_of_and_only_once_tried(machine, built_in, refused):
    assert refused() == (
        "ssh.service (process 5000001, port 22) reads /opt/ssh/sshd_config, which does not read "
        "/etc/ssh/sshd_config.d/00-ssh-keepalive.conf: put 'Include /etc/ssh/sshd_config.d/00-ssh-keepalive.conf' on "
        "its first line, then systemctl restart ssh.service"
    )
    assert len([call for call in machine.calls("sshd") if " -f " in call]) == 1
    assert built_in.read_text() == "UsePAM yes\n"


def test_an_sshd_that_reads_the_policy_by_another_main_file(machine, built_in, refused):
    built_in.write_text("Include {}\nUsePAM yes\n".format(machine.file))
    machine.start()
    assert apply(POLICY, machine.host()).restarted
    built_in.write_text("ClientAliveInterval 7\nInclude {}\n".format(machine.file))
    assert refused() == (
        "ClientAliveInterval is 7 where 5 is expected, /opt/ssh/sshd_config:1 overrides it: "
        "remove that line and restart sshd"
    )


def test_a_main_file_of_another_name_gets_its_block(machine, built_in):
    built_in.unlink()
    built_in.symlink_to(machine.main)
    machine.main.write_text("UsePAM yes\n")
    machine.start()
    assert apply(POLICY, machine.host()).restarted
    assert machine.main.read_text() == include_block(machine) + "UsePAM yes\n"


def test_the_vendors_main_file_that_reads_drop_ins_is_left_as_it_is(machine):
    vendor = machine.root / "usr/etc/ssh/sshd_config"
    vendor.parent.mkdir(parents=True)
    machine.main.rename(vendor)
    machine.set("sshd", main="/usr/etc/ssh/sshd_config")
    before = vendor.read_text()
    apply(POLICY, machine.host())
    assert machine.file.read_text() == TEXT
    assert (vendor.read_text(), machine.main.exists()) == (before, False)


@pytest.mark.parametrize("main", ["UsePAM yes\n", None], ids=["no-include", "include"])
def test_an_sshd_that_skips_match_in_included_files_gets_a_block_at_the_end_of_its_main_file(machine, main):
    machine.set("sshd", skips_match_in_includes=True)
    if main:
        machine.main.write_text(main)
    before = machine.main.read_text()
    apply(POLICY._replace(match=(BACKUP,)), machine.host())
    top, middle, end = machine.main.read_text().partition(before)
    assert (top.count("\n"), middle) == (6, before)
    assert end == (
        "# BEGIN ssh-keepalive\nMatch User backup-*\n    ClientAliveInterval 62\n    ClientAliveCountMax 3\n"
        "Match all\n# END ssh-keepalive\n"
    )
    assert not machine.file.exists()
    apply(Policy(enabled=False), machine.host())
    assert machine.main.read_text() == before


def test_a_policy_in_the_main_file_stays_there(machine):
    machine.openssh("8.0p1")
    machine.main.write_text("UsePAM yes\n")
    apply(POLICY, machine.host())
    machine.openssh("9.9p1")
    apply(Policy(unresponsive_timeout=240), machine.host())
    assert machine.main.read_text() == include_block(machine) + "UsePAM yes\n"
    assert "ClientAliveCountMax 47\n" in machine.file.read_text()


def test_a_chain_of_includes_that_is_as_deep_as_sshd_reads_is_no_obstacle(machine):
    for depth in range(16):
        following = machine.ssh / "{}.conf".format(depth + 1)
        (machine.ssh / "{}.conf".format(depth)).write_text("Include {}\n".format(following))
    following.write_text("UsePAM yes\n")
    machine.main.write_text("Include {0}/sshd_config.d/*.conf\nInclude {0}/1.conf\n".format(machine.ssh))
    apply(POLICY, machine.host())
    assert machine.file.read_text() == TEXT
