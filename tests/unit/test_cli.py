import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft4Validator
from ssh_keepalive import __version__, image, inspection, sshd
from ssh_keepalive.cli import main
from ssh_keepalive.policy import Policy
from ssh_keepalive.state import State

TOP = Path(__file__).resolve().parents[2]
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


def test_status_of_an_image_says_what_register_would_mend(monkeypatch, capsys, tmp_path):
    root = str(tmp_path)
    monkeypatch.setattr(image, "status", lambda root: [])
    assert main(["status", "--root", root]) == 0
    monkeypatch.setattr(image, "status", lambda root: ["/etc/x"])
    assert main(["status", "--root", root]) == 1
    assert capsys.readouterr().out == (
        "registered\n"
        "not registered: /etc/x is not as it was registered\n"
        "remedy: ssh-keepalive register --root {}\n".format(root)
    )


def test_status_of_what_is_no_image(capsys, tmp_path):
    assert main(["status", "--root", str(tmp_path)]) == 2
    assert capsys.readouterr().out == (
        "cannot tell: no cloud-init in /usr/lib/python3* or /usr/local/lib/python3*, install it first\n"
        "remedy: correct that, and ask again\n"
    )


def test_status_as_json(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(image, "status", lambda root: ["/etc/x"])
    assert main(["status", "--json", "--root", str(tmp_path)]) == 1
    found = json.loads(capsys.readouterr().out)
    Draft4Validator(json.loads((TOP / "schema/status.schema.json").read_text())).validate(found)
    assert (found["verdict"], found["unregistered"]) == ("not-registered", ["/etc/x"])


def test_status_of_this_machine(monkeypatch, capsys):
    monkeypatch.setattr(inspection, "inspect", lambda machine: State("nothing-asked"))
    assert main(["status"]) == 0
    assert capsys.readouterr().out == "nothing asked\n"


@pytest.mark.parametrize(
    ("text", "policy"),
    [("true", Policy(unresponsive_timeout=180)), ("{enabled: false}", Policy(enabled=False))],
)
def test_apply_keeps_the_policy_of_a_file(monkeypatch, capsys, tmp_path, text, policy):
    monkeypatch.setattr(sshd, "apply", lambda policy, machine: "in force: {!r}".format(policy))
    (tmp_path / "x").write_text("#cloud-config\nssh_keepalive: {}\n".format(text))
    assert main(["apply", str(tmp_path / "x")]) == 0
    assert capsys.readouterr().out == "in force: {!r}\n".format(policy)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "#cloud-config\nssh_keepalive: 7\n",
            "ssh_keepalive: 7: expected true, false or a mapping of keys, for example",
        ),
        ("#cloud-config\n{}\n", "{}: has no ssh_keepalive\n"),
        ("ssh_keepalive: true\n", "ssh_keepalive: the first line is not #cloud-config\n"),
        ("#cloud-config\n{", "ssh_keepalive: while parsing a flow node"),
    ],
)
def test_apply_refuses_a_file(done, capsys, tmp_path, text, message):
    file = tmp_path / "x"
    file.write_text(text)
    assert main(["apply", str(file)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("ssh-keepalive: " + message.replace("{}", str(file)))
    assert done == []


def test_apply_of_a_file_that_is_not_there(done, capsys, tmp_path):
    assert main(["apply", str(tmp_path / "x")]) == 2
    said = "ssh-keepalive: [Errno 2] No such file or directory: '{}'\n".format(tmp_path / "x")
    assert capsys.readouterr().err == said
    assert done == []
