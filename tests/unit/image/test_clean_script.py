"""The script for cloud-init clean, run on a root."""

import os
import subprocess

import pytest
from images import make
from ssh_keepalive.image import clean_script
from ssh_keepalive.openssh import Settings
from ssh_keepalive.policy import Entry, Policy
from ssh_keepalive.sshd_config import with_block, with_include

# Of another's, and of ours: in place, staged, and staged for the main file
OTHERS = {"etc/ssh/sshd_config.d/50-cloud-init.conf", "etc/ssh/ssh_host_key", "etc/profile.d/gawk.sh"}
OURS = {
    "etc/ssh/sshd_config.d/00-ssh-keepalive.conf",
    "etc/ssh/sshd_config.d/.00-ssh-keepalive.conf.old",
    "etc/ssh/sshd_config.d/.00-ssh-keepalive.conf.key.pub",
    "etc/ssh/.00-ssh-keepalive.conf.main.new",
    "etc/profile.d/zz-ssh-keepalive.sh",
    "etc/profile.d/.zz-ssh-keepalive.sh.new",
}
MAIN = "Include /etc/ssh/sshd_config.d/*.conf\nPort 22\n"
BLOCKS = ((Entry("user", ("alice",)), (("ClientAliveInterval", "60"),)),)
WITH_BLOCKS = with_block(MAIN, Settings(Policy(), (8, 1), (("TCPKeepAlive", "no"),), None, BLOCKS))


def run(folder):
    """Run the script on a folder in the place of /, return what it prints and the names of the files that are left."""
    text = clean_script.render()
    assert text.count("/etc/") == 7
    script = folder / "script"
    script.write_text(text.replace("/etc/", "{}/etc/".format(folder)))
    script.chmod(0o755)
    said = subprocess.run([str(script)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True).stdout
    script.unlink()
    files = {
        os.path.relpath(os.path.join(where, name), str(folder))
        for where, _, names in os.walk(str(folder))
        for name in names
    }
    return said, files


def test_what_holds_a_policy_goes_and_what_is_others_stays(tmp_path):
    make(tmp_path, dict.fromkeys(OTHERS | OURS, ""))
    for _ in ("all are there", "none is there"):
        assert run(tmp_path) == (b"", OTHERS)


def test_a_machine_without_the_folders_is_nothing_to_complain_about(tmp_path):
    assert run(tmp_path) == (b"", set())


@pytest.mark.parametrize(
    "with_policy",
    [WITH_BLOCKS, with_include(MAIN, "/etc/ssh/sshd_config.d/00-ssh-keepalive.conf")],
    ids=["blocks", "include"],
)
def test_blocks_go_from_the_main_file(tmp_path, with_policy):
    main = tmp_path / "etc/ssh/sshd_config"
    make(tmp_path, {"etc/ssh/sshd_config": with_policy})
    assert with_policy != MAIN
    for _ in ("with blocks", "without"):
        assert run(tmp_path)[0] == b""
        assert main.read_text() == MAIN


def test_a_main_file_that_is_a_link_stays_one(tmp_path):
    make(tmp_path, {"srv/sshd_config": WITH_BLOCKS, "etc/ssh/ssh_host_key": ""})
    (tmp_path / "etc/ssh/sshd_config").symlink_to("../../srv/sshd_config")
    run(tmp_path)
    assert (tmp_path / "etc/ssh/sshd_config").is_symlink()
    assert (tmp_path / "srv/sshd_config").read_text() == MAIN


def test_a_block_whose_end_is_gone_stays(tmp_path):
    end = "# END ssh-keepalive\n"
    assert WITH_BLOCKS.count(end) == 2
    damaged = WITH_BLOCKS.replace(end, "", 1)
    make(tmp_path, {"etc/ssh/sshd_config": damaged})
    run(tmp_path)
    assert (tmp_path / "etc/ssh/sshd_config").read_text() == damaged
