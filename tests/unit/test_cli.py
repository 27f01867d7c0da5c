import os
import subprocess
import sys

import pytest
from ssh_keepalive import __version__, image, sshd
from ssh_keepalive.cli import main
from ssh_keepalive.policy import Policy

SOURCE = os.path.dirname(os.path.dirname(image.__file__))


@pytest.fixture
def done(monkeypatch):
    """Note what the command would do, in the order in which it would."""
    notes = []
    monkeypatch.setattr(image, "install", lambda root: notes.append(("install", root.real("/"))))
    monkeypatch.setattr(image, "uninstall", lambda root: notes.append(("uninstall", root.real("/"))))
    monkeypatch.setattr(sshd, "apply", lambda policy, machine: notes.append((policy, machine.file)))
    return notes


def test_install_and_uninstall_know_their_root(done, tmp_path):
    root = os.path.realpath(str(tmp_path))
    assert main(["install", "--root", root]) == 0
    assert main(["uninstall", "--root", root]) == 0
    assert done == [("install", root), ("uninstall", root)]


def test_uninstall_from_this_machine_takes_the_policy_off_its_sshd_first(done):
    assert main(["uninstall"]) == 0
    assert done == [(Policy(enabled=False), "/etc/ssh/sshd_config.d/00-ssh-keepalive.conf"), ("uninstall", "/")]


def test_a_refusal_is_one_line_and_exit_1(capsys, tmp_path):
    assert main(["install", "--root", str(tmp_path / "x")]) == 1
    assert capsys.readouterr().err == "ssh-keepalive: {}: no such folder\n".format(tmp_path / "x")


@pytest.mark.parametrize("argv", [[], ["instal"], ["install", "--rot", "/x"], ["install", "extra"]])
def test_wrong_usage_is_exit_2(argv, capsys):
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    assert "usage: ssh-keepalive" in capsys.readouterr().err


def test_the_version(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == "ssh-keepalive {}\n".format(__version__)


def test_it_starts_without_yaml_and_jsonschema():
    code = (
        "import sys; sys.modules.update(yaml=None, jsonschema=None); from ssh_keepalive.cli import main; main(['-h'])"
    )
    answer = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": SOURCE}, stdout=subprocess.PIPE)
    assert answer.returncode == 0
    assert b"uninstall" in answer.stdout


def test_reapply_says_what_is_in_force(monkeypatch, capsys):
    monkeypatch.setattr(sshd, "reapply", lambda machine: "ssh_keepalive: in force")
    assert main(["reapply"]) == 0
    monkeypatch.setattr(sshd, "reapply", lambda machine: None)
    assert main(["reapply"]) == 0
    assert capsys.readouterr().out == "ssh_keepalive: in force\nno policy on this machine\n"
