"""What the commands for a machine or an image do, print and return; these rooms have tests of their own."""

import json
import os
from pathlib import Path
from typing import NamedTuple

import pytest
from jsonschema import Draft4Validator
from ssh_keepalive.cli import main
from ssh_keepalive.machine.apply import Report
from ssh_keepalive.machine.problem import Problem as SshdProblem
from ssh_keepalive.machine.problem import SshdError
from ssh_keepalive.machine.state import State
from ssh_keepalive.openssh import translate
from ssh_keepalive.policy import Policy, PolicyError, Problem

STATUS_SCHEMA = Path(__file__).resolve().parents[2] / "schema/status.schema.json"
ROOTED = {
    "install": "installation.install",
    "uninstall": "installation.uninstall",
    "register": "registration.register",
    "unregister": "registration.unregister",
}
APPLY = "ssh_keepalive.machine.apply.apply"
HAS_TRACES = "ssh_keepalive.image.installation.has_traces"
REAPPLY = "ssh_keepalive.machine.apply.reapply"
OFF = Policy(enabled=False)


class ThisMachine(str):
    """A word that stands for this machine, and notes what its systemd is told, if that is what it runs."""

    runs_systemd = False

    def __init__(self, _):
        self.told = []
        self.answer = None

    def run(self, *command):
        self.told.append(command)
        if self.answer:
            raise self.answer


@pytest.fixture(autouse=True)
def this_machine(monkeypatch):
    """Have a word stand for this machine, to which nothing is done, and be root on it."""
    machine = ThisMachine("this machine")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("ssh_keepalive.machine.host.Host", lambda *_, **__: machine)
    return machine


@pytest.fixture
def done(monkeypatch):
    """Note what the command would do, in the order in which it would."""
    notes = []
    for name, function in ROOTED.items():
        note = lambda root, name=name: notes.append((name, root.real("/")))  # noqa: E731
        monkeypatch.setattr("ssh_keepalive.image." + function, note)
    monkeypatch.setattr(APPLY, lambda policy, host: notes.append((policy, host)))
    monkeypatch.setattr(HAS_TRACES, lambda root: True)
    return notes


@pytest.mark.parametrize("command", ROOTED)
def test_what_is_done_to_an_image_knows_its_root(done, tmp_path, command):
    root = os.path.realpath(str(tmp_path))
    assert main([command, "--root", root]) == 0
    assert done == [(command, root)]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (SshdError("no"), "no"),
        (PolicyError([Problem(("a",), "no")]), "a: no"),
        (OSError(2, "no", "f"), "f: no"),
        (OSError("no"), "no"),
        (PermissionError(13, "no", "f"), "f: no"),
    ],
)
def test_every_refusal_of_a_command_is_one_line_and_exit_1(monkeypatch, capsys, error, words):
    def refuse(host):
        raise error

    monkeypatch.setattr(REAPPLY, refuse)
    assert main(["reapply"]) == 1
    assert tuple(capsys.readouterr()) == ("", "ssh-keepalive: {}\n".format(words))


@pytest.mark.parametrize("command", [*ROOTED, "apply", "reapply", "note"])
def test_who_is_not_root_is_told_so_before_anything_else(done, monkeypatch, capsys, tmp_path, command):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    (tmp_path / "root").symlink_to("/")
    for root in ([], ["--root", "/"], ["--root", str(tmp_path / "root")]) if command in ROOTED else ([],):
        assert main([command, *root, *(["/no/such/file"] if command == "apply" else [])]) == 1
        assert tuple(capsys.readouterr()) == ("", "ssh-keepalive: run as root\n")
    assert done == []


@pytest.mark.parametrize("command", ROOTED)
def test_an_image_may_be_anybodys(done, monkeypatch, tmp_path, command):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main([command, "--root", str(tmp_path)]) == 0
    assert len(done) == 1


def test_an_image_that_is_anothers_is_for_root(monkeypatch, capsys, tmp_path):
    def refuse(root):
        raise PermissionError(13, "Permission denied", "/x/etc")

    monkeypatch.setattr("ssh_keepalive.image.installation.install", refuse)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["install", "--root", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "ssh-keepalive: /x/etc: Permission denied, run as root\n"


def test_status_of_this_machine_is_for_root(monkeypatch, capsys):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["status"]) == 2
    assert tuple(capsys.readouterr()) == ("unknown: not root\nremedy: run as root\n", "")
    assert main(["status", "--json"]) == 2
    found = json.loads(capsys.readouterr().out)
    Draft4Validator(json.loads(STATUS_SCHEMA.read_text())).validate(found)
    assert found["problems"] == [{"message": "not root", "remedy": "run as root"}]


@pytest.mark.parametrize("command", sorted(set(ROOTED) - {"uninstall"}))
def test_an_interrupted_change_of_an_image_is_to_be_done_again(monkeypatch, capsys, tmp_path, command):
    def interrupted(root):
        raise KeyboardInterrupt

    monkeypatch.setattr("ssh_keepalive.image." + ROOTED[command], interrupted)
    assert main([command, "--root", str(tmp_path)]) == 130
    words = "ssh-keepalive: interrupted: not all is done, run ssh-keepalive {} --root {} again\n"
    said = words.format(command, tmp_path)
    assert tuple(capsys.readouterr()) == ("", said)


@pytest.mark.parametrize("command", ["install", "register", "unregister"])
def test_no_root_is_this_machine(done, command):
    assert main([command]) == 0
    assert done == [(command, "/")]


def test_uninstall_from_this_machine_takes_the_policy_off_its_sshd_first(done):
    assert main(["uninstall"]) == 0
    assert done == [(Policy(enabled=False), "this machine"), ("uninstall", "/")]


def test_uninstall_without_a_policy_asks_nothing_of_sshd(done, monkeypatch, capsys):
    monkeypatch.setattr(HAS_TRACES, lambda root: False)
    assert main(["uninstall"]) == 0
    assert done == [("uninstall", "/")]
    assert tuple(capsys.readouterr()) == ("", "")


RELOAD = ("systemctl", "daemon-reload")
RESET = ("systemctl", "reset-failed", "ssh-keepalive-note.service", "ssh-keepalive-register.service")


@pytest.mark.parametrize(
    ("command", "told"),
    [("install", [RELOAD]), ("uninstall", [RELOAD, RESET]), ("register", []), ("unregister", [])],
)
def test_systemd_is_told_of_its_units(done, this_machine, tmp_path, command, told):
    assert main([command]) == 0
    assert this_machine.told == []
    this_machine.runs_systemd = True
    assert main([command, "--root", str(tmp_path)]) == 0
    assert this_machine.told == []
    assert main([command]) == 0
    assert this_machine.told == told


@pytest.mark.parametrize("command", ["install", "uninstall"])
@pytest.mark.parametrize("answer", [SshdError("systemctl is not on this machine"), OSError("no")], ids=repr)
def test_a_systemd_that_cannot_be_told_is_no_failure(done, this_machine, capsys, command, answer):
    this_machine.runs_systemd, this_machine.answer = True, answer
    assert main([command]) == 0
    assert tuple(capsys.readouterr()) == ("", "")
    assert RELOAD in this_machine.told


def test_reapply_says_what_is_in_effect(monkeypatch, capsys):
    monkeypatch.setattr(REAPPLY, lambda host: Report(host, OFF, None, (), False, False, False))
    assert main(["reapply"]) == 0
    monkeypatch.setattr(REAPPLY, lambda host: None)
    assert main(["reapply"]) == 0
    assert capsys.readouterr().out == (
        "off, sshd keeps its other settings\nthis machine unchanged\nno policy on this machine\n"
    )


A_B = SshdProblem("a", "b")


@pytest.mark.parametrize(
    ("state", "code", "said"),
    [
        (State("enforced"), 0, ""),
        (State("not-configured"), 0, ""),
        (
            State("not-enforced", (SshdProblem("a", "b"), SshdProblem("c", "d"))),
            1,
            "not enforced: a: b\nnot enforced: c: d\n",
        ),
        (State("unknown", (SshdProblem("a", "b"),)), 2, "unknown: a: b\n"),
    ],
)
def test_note_says_what_is_not_as_it_was_asked(monkeypatch, capsys, state, code, said):
    monkeypatch.setattr("ssh_keepalive.machine.status.note", lambda host: state)
    assert main(["note"]) == code
    assert tuple(capsys.readouterr()) == (
        "",
        said.replace("not e", "ssh-keepalive: not e").replace("unk", "ssh-keepalive: unk"),
    )


def test_what_note_cannot_find_out_is_unknown(monkeypatch, capsys):
    def refuse(host):
        raise OSError(30, "Read-only file system", "/run/x")

    monkeypatch.setattr("ssh_keepalive.machine.status.note", refuse)
    assert main(["note"]) == 2
    said = (
        "ssh-keepalive: unknown: [Errno 30] Read-only file system: '/run/x': correct that, then ssh-keepalive status\n"
    )
    assert capsys.readouterr().err == said


def test_uninstall_goes_on_where_sshd_gives_no_answer(done, monkeypatch, capsys):
    def no_answer(policy, host):
        raise SshdError("sshd is not on this machine")

    monkeypatch.setattr(APPLY, no_answer)
    assert main(["uninstall"]) == 0
    assert done == [("uninstall", "/")]
    assert capsys.readouterr().err == (
        "ssh-keepalive: sshd may enforce the policy until it is restarted: sshd is not on this machine\n"
    )


MODULE_LIST = "/etc/cloud/cloud.cfg.d/99_zz_ssh_keepalive.cfg"


@pytest.fixture
def image(tmp_path):
    """Make an image with the module in it."""
    packages = "usr/lib/python3/dist-packages/"
    for name, text in (
        ("usr/bin/cloud-init", "#!/usr/bin/python3\n"),
        (packages + "cloudinit/version.py", ""),
        ("etc/cloud/cloud.cfg", "cloud_init_modules: [ssh]\n"),
        ("etc/cloud/cloud.cfg.d/README", ""),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    root = os.path.realpath(str(tmp_path))
    assert main(["install", "--root", root]) == 0
    return root


def test_status_of_an_image_says_what_register_would_mend(capsys, image):
    assert main(["status", "--root", image]) == 0
    os.unlink(image + MODULE_LIST)
    assert main(["status", "--root", image]) == 1
    assert capsys.readouterr().out == (
        "registered\nnot registered: {} is not as it was registered\nremedy: ssh-keepalive register --root {}\n".format(
            MODULE_LIST, image
        )
    )


@pytest.mark.parametrize("name", ["cc_ssh_keepalive.py", "ssh_keepalive/machine/apply.py"])
def test_status_of_an_image_without_the_module_or_a_part_of_it(capsys, image, name):
    file = "/usr/lib/python3/dist-packages/" + name
    os.unlink(image + file)
    assert main(["status", "--root", image]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "not registered: the module is not installed, there is no " + file
    assert said[1:] == ["remedy: ssh-keepalive install --root " + image]
    # The remedy works as it stands.
    assert main(said[1].split()[2:]) == 0
    assert main(["status", "--root", image]) == 0


def test_status_of_an_image_that_never_had_the_module(capsys, image):
    assert main(["uninstall", "--root", image]) == 0
    assert main(["status", "--root", image]) == 1
    assert capsys.readouterr().out == (
        "not registered: the module is not installed, there is no /usr/lib/python3/dist-packages/cc_ssh_keepalive.py\n"
        "remedy: ssh-keepalive install --root {}\n".format(image)
    )


TEMPLATE = "## template: jinja\n{% if x %}\ncloud_init_modules: []\n{% endif %}\n"
UNREAD = "note: /etc/cloud/cloud.cfg.d/50_x.cfg: what it says of cloud_init_modules is left out: it is a template\n"


@pytest.mark.parametrize("command", ["install", "register"])
def test_what_could_not_be_read_is_noted(capsys, image, command):
    Path(image, "etc/cloud/cloud.cfg.d/50_x.cfg").write_text(TEMPLATE)
    assert main([command, "--root", image]) == 0
    assert tuple(capsys.readouterr()) == ("", "ssh-keepalive: " + UNREAD)
    assert main(["status", "--root", image]) == 0
    assert capsys.readouterr().out == "registered\n" + UNREAD


def test_status_of_what_is_no_image(capsys, tmp_path):
    assert main(["status", "--root", str(tmp_path)]) == 2
    assert capsys.readouterr().out == (
        "unknown: no cloud-init in /usr/lib/python3* or /usr/local/lib/python3*, install it first\n"
        "remedy: correct that, then ssh-keepalive status --root {}\n".format(tmp_path)
    )


def test_status_as_json(capsys, image):
    os.unlink(image + MODULE_LIST)
    assert main(["status", "--json", "--root", image]) == 1
    found = json.loads(capsys.readouterr().out)
    Draft4Validator(json.loads(STATUS_SCHEMA.read_text())).validate(found)
    assert (found["verdict"], found["unregistered"]) == ("not-registered", [MODULE_LIST])


class State(NamedTuple):
    """A state that a machine is said to have."""

    words: str
    exit_code: int


@pytest.mark.parametrize("code", [0, 1, 2])
def test_status_of_this_machine(monkeypatch, capsys, code):
    monkeypatch.setattr("ssh_keepalive.machine.status.status", lambda host: State("asked of " + host, code))
    monkeypatch.setattr("ssh_keepalive.machine.report.as_text", lambda state: state.words)
    monkeypatch.setattr("ssh_keepalive.machine.report.as_json", lambda state: {"words": state.words})
    assert main(["status"]) == code
    assert capsys.readouterr().out == "asked of this machine\n"
    assert main(["status", "--json"]) == code
    assert capsys.readouterr().out == '{\n  "words": "asked of this machine"\n}\n'


@pytest.mark.parametrize("error", [SshdError(SshdProblem("no answer")), OSError("no answer")], ids=repr)
def test_status_of_a_machine_that_cannot_be_looked_at(monkeypatch, capsys, error):
    def no_answer(host):
        raise error

    monkeypatch.setattr("ssh_keepalive.machine.status.status", no_answer)
    assert main(["status"]) == 2
    assert capsys.readouterr().out.startswith("unknown: no answer\n")


@pytest.mark.parametrize(
    ("text", "policy", "notes", "does", "said"),
    [
        (
            "{unresponsive_timeout: 3m, idle_timeout: 15m}",
            Policy(unresponsive_timeout=180, idle_timeout=900),
            (),
            (True, True, False),
            """\
enforced on OpenSSH 9.2:
  a client that stopped answering is disconnected 180 s after its last sign of life
  a session without traffic ends after 900 s
this machine changed, sshd restarted
""",
        ),
        (
            "true",
            Policy(unresponsive_timeout=180),
            ("one", "two"),
            (True, False, True),
            """\
written for OpenSSH 9.2:
  a client that stopped answering is disconnected 180 s after its last sign of life
note: one
note: two
this machine changed, sshd reads it when it starts
""",
        ),
        (
            "{enabled: false}",
            OFF,
            (),
            (False, False, False),
            "off, sshd keeps its other settings\nthis machine unchanged\n",
        ),
    ],
)
def test_apply_says_what_it_did_in_short_lines(monkeypatch, capsys, tmp_path, text, policy, notes, does, said):
    def applied(asked, host):
        assert asked == policy
        return Report(host, asked, translate(asked, (9, 2)) if asked.enabled else None, notes, *does)

    monkeypatch.setattr(APPLY, applied)
    (tmp_path / "x").write_text("#cloud-config\nssh_keepalive: {}\n".format(text))
    assert main(["apply", str(tmp_path / "x")]) == 0
    assert capsys.readouterr().out == said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "#cloud-config\nssh_keepalive: 7\n",
            "{}:2:16: error: ssh_keepalive: 7: expected true, false or a mapping of keys, for example",
        ),
        ("#cloud-config\n{}\n", "{}: note: no ssh_keepalive in it\n"),
        (
            "ssh_keepalive: true\n",
            "{}:1:1: error: the first line is not #cloud-config: cloud-init would ignore all of it\n",
        ),
        ("#cloud-config\n{", "{}:2:2: error: not YAML: "),
    ],
)
def test_apply_refuses_a_file(done, capsys, tmp_path, text, message):
    file = tmp_path / "x"
    file.write_text(text)
    assert main(["apply", str(file)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(message.replace("{}", str(file)))
    assert done == []


def test_apply_of_a_file_that_is_not_there(done, capsys, tmp_path):
    assert main(["apply", str(tmp_path / "x")]) == 2
    said = "ssh-keepalive: {}: No such file or directory\n".format(tmp_path / "x")
    assert capsys.readouterr().err == said
    assert done == []
