"""What the commands for user-data print and return."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft4Validator
from ssh_keepalive import sshd_config, tmout
from ssh_keepalive.check.explanation import explain
from ssh_keepalive.cli import main
from ssh_keepalive.openssh import translate
from ssh_keepalive.policy import SCHEMA_FILE, Policy
from user_data_files import BAD, FILES, GOOD, IDLE, mime

TOP = Path(__file__).resolve().parents[2]
SOURCE = str(TOP / "cloudinit_module")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Enter a folder with files of every verdict."""
    for name, content in (("good", GOOD), ("bad", BAD), ("note", "#cloud-config\na: 1\n"), ("empty", "")):
        (tmp_path / name).write_text(content)
    monkeypatch.chdir(tmp_path)
    return tmp_path


SAID = {
    "bad": (
        "bad:4:25: error: ssh_keepalive.unresponsive_timeout: '10s': expected a time from 15s to 1d, for example 3m\n"
        "      unresponsive_timeout: 10s\n"
        "                            ^^^\n"
    ),
    "note": "note: note: no ssh_keepalive in it\n",
    "empty": "empty: error: empty\n",
}


@pytest.mark.parametrize(
    ("names", "code", "out", "err"),
    [
        ("good", 0, [], ""),
        ("note", 0, ["note"], ""),
        ("bad", 1, ["bad"], ""),
        ("empty", 1, ["empty"], ""),
        ("bad good note empty", 1, ["bad", "note", "empty"], ""),
        ("absent bad", 2, ["bad"], "ssh-keepalive: absent: No such file or directory\n"),
        (". note", 2, ["note"], "ssh-keepalive: .: Is a directory\n"),
    ],
)
def test_check(folder, capsys, names, code, out, err):
    assert main(["check", *names.split()]) == code
    assert tuple(capsys.readouterr()) == ("".join(SAID[name] for name in out), err)


@pytest.mark.parametrize("file", FILES, ids=[file.name for file in FILES])
def test_the_exit_code_of_check(tmp_path, file, capsys):
    (tmp_path / "f").write_bytes(file.content)
    assert main(["check", str(tmp_path / "f"), *file.options]) == file.code
    assert capsys.readouterr().err == ""


def test_check_of_standard_input(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(BAD.encode())))
    assert main(["check", "-"]) == 1
    assert capsys.readouterr().out == SAID["bad"].replace("bad:", "stdin:", 1)


def test_check_as_json(folder, capsys):
    assert main(["check", "--format", "json", "good", "absent", "bad"]) == 2
    out, err = capsys.readouterr()
    report = json.loads(out)
    Draft4Validator(json.loads((TOP / "schema/check.schema.json").read_text())).validate(report)
    assert [(file["file"], file["verdict"]) for file in report["files"]] == [
        ("good", "clean"),
        ("absent", "unreadable"),
        ("bad", "problems"),
    ]
    assert report["files"][1]["reason"] == "No such file or directory"
    assert err == "ssh-keepalive: absent: No such file or directory\n"


def test_check_reads_no_more_than_it_takes(capsys):
    assert main(["check", "/dev/zero"]) == 1
    assert capsys.readouterr().out == "/dev/zero: error: more than 4 MiB, not checked: clouds take 16 to 256 KiB\n"


@pytest.mark.parametrize(
    ("terminal", "environment", "coloured"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),
        (True, {"TERM": "dumb"}, False),
    ],
)
def test_colours_are_for_terminals(folder, capsys, monkeypatch, terminal, environment, coloured):
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    assert main(["check", "bad"]) == 1
    assert ("\033[" in capsys.readouterr().out) == coloured


def test_check_speaks_in_any_locale(folder):
    (folder / "日本").write_text("#cloud-config\nssh_keepalive: {語: 1}\n", encoding="utf-8")
    code = "import sys; from ssh_keepalive.cli import main; sys.exit(main(['check', *sys.argv[1:]]))"
    environment = {"PYTHONPATH": SOURCE, "PYTHONIOENCODING": "ascii:strict", "LC_ALL": "C.UTF-8"}
    answer = subprocess.run([sys.executable, "-c", code, "日本"], env=environment, stdout=subprocess.PIPE)
    assert answer.returncode == 1
    assert answer.stdout.startswith(b"\\u65e5\\u672c:2:17: error: ssh_keepalive.\\u8a9e: unknown key")


@pytest.mark.parametrize(
    ("content", "missing"),
    [
        (b"#cloud-config\nhostname: a\n", ["jsonschema", "email", "gzip"]),
        (b"#!", ["email"]),
    ],
)
def test_check_imports_only_what_a_file_needs(tmp_path, content, missing):
    (tmp_path / "f").write_bytes(content)
    code = (
        "import sys; sys.modules.update(dict.fromkeys({!r})); from ssh_keepalive.cli import main; "
        "sys.exit(main(['check', sys.argv[1]]))"
    ).format([*missing, "ssh_keepalive.image", "ssh_keepalive.machine"])
    answer = subprocess.run([sys.executable, "-c", code, str(tmp_path / "f")], env={"PYTHONPATH": SOURCE})
    assert answer.returncode == 0


@pytest.mark.parametrize(("version", "code"), [("debian-11", 1), ("8.4p1", 1), ("debian-12", 0)])
def test_check_for_an_openssh(folder, capsys, version, code):
    (folder / "idle").write_bytes(IDLE)
    assert main(["check", "--openssh", version, "idle", "good"]) == code
    out, err = capsys.readouterr()
    assert (out[:16], err) == ("idle:4:17: error" * code, "")


DROP_IN = "ssh-keepalive: /etc/ssh/sshd_config.d/00-ssh-keepalive.conf:\n"


def test_render_prints_what_would_be_written(folder, capsys):
    policy = Policy(unresponsive_timeout=180, idle_timeout=900)
    (folder / "idle").write_bytes(IDLE)
    assert main(["render", "idle", "--openssh", "debian-12"]) == 0
    assert tuple(capsys.readouterr()) == (sshd_config.render(translate(policy, (9, 2))), DROP_IN)


def test_render_prints_the_file_for_tmout_too(folder, capsys):
    policy = Policy(unresponsive_timeout=180, idle_timeout=900, idle_fallback="tmout")
    (folder / "idle").write_bytes(IDLE + b"  idle_fallback: tmout\n")
    assert main(["render", "idle", "--openssh", "8.4"]) == 0
    out, err = capsys.readouterr()
    assert out == sshd_config.render(translate(policy, (8, 4))) + tmout.render(900)
    assert err == DROP_IN + "ssh-keepalive: /etc/profile.d/zz-ssh-keepalive.sh:\n"


def test_render_prints_blocks_where_sshd_reads_no_drop_ins(folder, capsys):
    policy = Policy(unresponsive_timeout=180)
    assert main(["render", "good", "--openssh", "rhel-8"]) == 0
    out, err = capsys.readouterr()
    assert out == sshd_config.with_block("", translate(policy, (8, 0)))
    assert err == ("ssh-keepalive: /etc/ssh/sshd_config, the marked blocks (with match a second one, at its end):\n")


def test_render_of_a_policy_that_is_taken_off(folder, capsys):
    (folder / "off").write_text("#cloud-config\nssh_keepalive: false\n")
    assert main(["render", "off", "--openssh", "8.4"]) == 0
    assert tuple(capsys.readouterr()) == ("", "ssh-keepalive: no file, enabled: false takes the policy off\n")


@pytest.mark.parametrize(("columns", "width"), [("66", 66), ("", 80)])
def test_explain(folder, capsys, monkeypatch, columns, width):
    def is_no_terminal(_):
        raise OSError

    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr(os, "get_terminal_size", is_no_terminal)
    assert main(["explain", "good", "--openssh", "9.2"]) == 0
    assert tuple(capsys.readouterr()) == (explain(Policy(unresponsive_timeout=180), (9, 2), width), "")


@pytest.mark.parametrize("command", ["render", "explain"])
@pytest.mark.parametrize(
    ("name", "code", "err"),
    [
        ("bad", 1, SAID["bad"]),
        ("note", 1, SAID["note"]),
        ("blank", 1, "ssh-keepalive: blank: has no ssh_keepalive\n"),
        ("empty", 1, SAID["empty"]),
        ("absent", 2, "ssh-keepalive: absent: No such file or directory\n"),
    ],
)
def test_problems_go_where_they_are_in_nobodys_way(folder, capsys, command, name, code, err):
    (folder / "blank").write_bytes(mime(("Content-Type: text/plain", "")))
    assert main([command, name, "--openssh", "9.2"]) == code
    assert tuple(capsys.readouterr()) == ("", err)


@pytest.mark.parametrize("command", ["render", "explain"])
def test_warnings_keep_nobody_from_an_answer(folder, capsys, command):
    (folder / "pair").write_text("#cloud-config\nssh_keepalive: {client_alive_interval: 60}\n")
    assert main([command, "pair", "--openssh", "9.2"]) == 0
    out, err = capsys.readouterr()
    assert err.startswith("pair:2:40: warning: ssh_keepalive.client_alive_interval: 60 x 3 reads like 180 s")
    assert "8m" in out or "ClientAliveInterval 60" in out


def test_schema_is_the_one_that_is_shipped(capsys):
    assert main(["schema"]) == 0
    assert capsys.readouterr().out == Path(SCHEMA_FILE).read_text(encoding="utf-8")


CLOUD_INITS = {
    "$schema": "http://json-schema.org/draft-04/schema#",
    "$defs": {"cc_a": {"type": "object", "properties": {"a": {"type": "integer"}}}},
    "allOf": [{"$ref": "#/$defs/cc_a"}],
    "properties": {"a": {}},
    "additionalProperties": False,
}


def test_schema_with_that_of_cloud_init_judges_both(capsys, tmp_path):
    (tmp_path / "schema.json").write_text(json.dumps(CLOUD_INITS))
    assert main(["schema", "--with-cloud-init", str(tmp_path / "schema.json")]) == 0
    validator = Draft4Validator(json.loads(capsys.readouterr().out))
    assert validator.is_valid({"a": 1, "ssh_keepalive": {"unresponsive_timeout": "3m"}})
    for wrong in ({"a": "1"}, {"b": 1}, {"ssh_keepalive": {"unresponsive_timeout": 3}}):
        assert not validator.is_valid(wrong)


@pytest.mark.parametrize(
    ("content", "message"), [("{}", "it has no $defs or no allOf"), ("[", "Expecting value: line 1 column 2 (char 1)")]
)
def test_schema_with_another_file(capsys, tmp_path, content, message):
    (tmp_path / "f").write_text(content)
    assert main(["schema", "--with-cloud-init", str(tmp_path / "f")]) == 1
    out, err = capsys.readouterr()
    assert (out, err) == ("", "ssh-keepalive: {}: not cloud-init's schema: {}\n".format(tmp_path / "f", message))


def test_the_commit_hook_runs_check_on_what_looks_like_user_data(folder, capsys):
    (hook,) = yaml.safe_load((TOP / ".pre-commit-hooks.yaml").read_text())
    assert (hook["id"], hook["language"]) == ("ssh-keepalive-check", "python")
    command, *arguments = hook["entry"].split()
    assert command == "ssh-keepalive"
    assert main([*arguments, "good", "bad"]) == 1
    assert capsys.readouterr().out == SAID["bad"]
    user_data = [
        "user-data",
        "a/user_data.yaml",
        "cloud-config.yml",
        "b/cloud-init.cfg",
        "userdata.mime",
        "user-data.web.yaml",
        "web-user-data.yaml",
        "hosts/web.cloud-config.yml",
        "cloud_init.yml",
        "cloudinit.yaml",
        "cloud-init-web.yaml",
        "user-data/web.yaml",
        "user-data.mime.gz",
        "web-userdata",
    ]
    assert [name for name in user_data if not re.search(hook["files"], name)] == []
    others = ["cloud-init.tf", "docs/cloud-init.md", "my-user-data-notes.md", "user-data/main.tf", "values.yaml"]
    others += [".github/workflows/cloud-init.yml", "roles/cloud-init/tasks/main.yml", "user-data.sh", "network-config"]
    assert [name for name in others if re.search(hook["files"], name)] == []
