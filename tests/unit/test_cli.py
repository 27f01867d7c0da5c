import os
import subprocess
import sys

import pytest
from ssh_keepalive import __version__, image, sshd
from ssh_keepalive.cli import main
from ssh_keepalive.policy import Policy

SOURCE = os.path.dirname(os.path.dirname(image.__file__))
ROOTED = ["install", "uninstall", "register", "unregister"]


@pytest.fixture
def done(monkeypatch):
    """Note what the command would do, in the order in which it would."""
    notes = []
    for name in ROOTED:
        monkeypatch.setattr(image, name, lambda root, name=name: notes.append((name, root.real("/"))))
    monkeypatch.setattr(sshd, "apply", lambda policy, machine: notes.append((policy, machine.file)))
    return notes


@pytest.mark.parametrize("command", ROOTED)
def test_what_is_done_to_an_image_knows_its_root(done, tmp_path, command):
    root = os.path.realpath(str(tmp_path))
    assert main([command, "--root", root]) == 0
    assert done == [(command, root)]


@pytest.mark.parametrize("command", ["install", "register", "unregister"])
def test_no_root_is_this_machine(done, command):
    assert main([command]) == 0
    assert done == [(command, "/")]


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


def test_uninstall_goes_on_where_sshd_gives_no_answer(done, monkeypatch, capsys):
    def no_answer(policy, machine):
        raise sshd.SshdError("sshd is not on this machine")

    monkeypatch.setattr(sshd, "apply", no_answer)
    assert main(["uninstall"]) == 0
    assert done == [("uninstall", "/")]
    assert capsys.readouterr().err == (
        "ssh-keepalive: sshd keeps the policy until it is restarted: sshd is not on this machine\n"
    )


def test_status_says_what_register_would_mend(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(image, "status", lambda root: [])
    assert main(["status", "--root", str(tmp_path)]) == 0
    monkeypatch.setattr(image, "status", lambda root: ["/etc/x"])
    assert main(["status", "--root", str(tmp_path)]) == 1
    assert capsys.readouterr().out == "/etc/x: not as it was registered, run ssh-keepalive register\n"
