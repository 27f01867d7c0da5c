"""The unit that notes what sshd has read."""

import base64
import re
import shlex
import subprocess

import pytest
from ssh_keepalive.image import note_unit
from user_data_files import zipped

POLICY = b"#cloud-config\nssh_keepalive: {}\n"


def is_run(root, name, content):
    """Return whether systemd would start the command with a file below a root."""
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    (line,) = [line for line in note_unit.render().splitlines() if line.startswith("ExecCondition=")]
    shell, option, script = shlex.split(
        line.partition("=")[2].replace("\\x1f", "\x1f").replace("$$", "$").replace("%%", "%")
    )
    script = re.sub("(?<= )/", str(root) + "/", script)
    code = subprocess.run([shell, option, script]).returncode
    assert code in (0, 1)
    return code == 0


USER_DATA = "var/lib/cloud/instance/user-data.txt"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("etc/ssh/sshd_config.d/00-ssh-keepalive.conf", b"# Managed by cloud-init's cc_ssh_keepalive; change\n"),
        ("etc/ssh/sshd_config", b"UsePAM yes\n# BEGIN ssh-keepalive\n"),
        ("etc/cloud/cloud.cfg", b'"ssh_keepalive": true\n'),
        ("etc/cloud/cloud.cfg.d/95_x.cfg", b"{ssh_keepalive : true}\n"),
        ("run/cloud-init/cloud.cfg", b"ssh_keepalive: true\n"),
        ("proc/cmdline", b"quiet cc: ssh_keepalive: true end_cc\n"),
        ("proc/1/cmdline", b"init\0cc: ssh_keepalive: true\0"),
        (USER_DATA, POLICY),
        (USER_DATA, zipped(POLICY)),
        (USER_DATA, base64.b64encode(POLICY)),
        (USER_DATA, base64.b64encode(zipped(POLICY))),
        (USER_DATA, b"MIME-Version: 1.0\n\n--X\r\n\r\n" + base64.b64encode(POLICY) + b"\r\n"),
        ("proc/cmdline", b"quiet cc:ssh_keepalive%3A%20true\n"),
        # Of what #include has fetched
        ("var/lib/cloud/instance/cloud-config.txt", POLICY),
        ("var/lib/cloud/instance/vendor-cloud-config.txt", POLICY),
        ("var/lib/cloud/instance/vendor2-cloud-config.txt", POLICY),
        ("var/lib/cloud/instance/vendor-data.txt", POLICY),
        ("var/lib/cloud/instance/vendor-data2.txt", POLICY),
    ],
    ids=str,
)
def test_it_runs_where_a_policy_is_or_may_be_asked_for(tmp_path, name, content):
    assert is_run(tmp_path, name, content)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (USER_DATA, b""),
        (USER_DATA, b"#cloud-config\nruncmd: [ls]\nssh_authorized_keys:\n- ssh-ed25519 " + b"A" * 60 + b" a@b\n"),
        (USER_DATA, b"#!/bin/sh\necho\n"),
        ("etc/cloud/cloud.cfg.d/99_zz_ssh_keepalive.cfg", b"# Written by ssh-keepalive: a\n- [ssh_keepalive]\n"),
    ],
    ids=str,
)
def test_it_does_not_run_where_there_is_none(tmp_path, name, content):
    assert not is_run(tmp_path, name, content)


def test_it_is_skipped_where_the_command_is_gone():
    unit = note_unit.render().partition("[Service]")[0]
    assert [line for line in unit.splitlines() if line.startswith("Condition")] == [
        "ConditionFileIsExecutable=/usr/bin/ssh-keepalive"
    ]


def test_it_fails_for_what_is_not_in_effect_and_not_for_what_is_unknown():
    lines = note_unit.render().splitlines()
    assert [line for line in lines if line.startswith(("ExecStart", "Success", "Timeout"))] == [
        "ExecStart=/usr/bin/ssh-keepalive note",
        "SuccessExitStatus=2",
        "TimeoutStartSec=30",
    ]
