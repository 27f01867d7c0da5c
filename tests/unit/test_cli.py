"""The command line: what it takes, what it says of the rest, and the exit code of a refusal."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from ssh_keepalive import __version__
from ssh_keepalive.cli import main, parser
from ssh_keepalive.openssh import DISTRIBUTIONS

SOURCE = str(Path(__file__).resolve().parents[2] / "cloudinit_module")


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


UNKNOWN = "argument --openssh: 'x': expected a version such as 9.2p1, or one of " + ", ".join(DISTRIBUTIONS)
MISSING = "the following arguments are required: --openssh"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["check", "--openssh", "x", "file"], UNKNOWN),
        (["render", "file"], MISSING),
        (["explain", "file"], MISSING),
    ],
)
def test_an_openssh_that_is_not_known_is_wrong_usage(capsys, argv, message):
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == "ssh-keepalive {}: error: {}".format(argv[0], message)


def test_every_command_has_examples_that_it_takes():
    for name, command in commands().items():
        title, *examples = command.epilog.splitlines()
        assert title == "examples:"
        for example in examples:
            program, *arguments = shlex.split(re.sub(" (<|>|2>|[|]).*", "", example))
            assert program == "ssh-keepalive"
            assert arguments[0] == name
            parser().parse_args(arguments)


def commands():
    return next(action for action in parser()._actions if action.dest == "command").choices
