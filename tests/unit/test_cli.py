"""The command line: what it takes, what it says of the rest, and the exit code of a refusal."""

import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ssh_keepalive import __version__
from ssh_keepalive.check.distributions import DISTRIBUTIONS
from ssh_keepalive.cli import main, parser

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


COMMAND = "{} -c 'import sys; from ssh_keepalive.cli import main; sys.exit(main())' ".format(sys.executable)


def shell(words, folder, **options):
    """Run ssh-keepalive with words of a shell's in a folder with a file of each kind."""
    (folder / "good").write_text("#cloud-config\nssh_keepalive: true\n")
    (folder / "bad").write_text("#cloud-config\nssh_keepalive: 1\n" + "x: &x\n" * 20000)
    pipe = subprocess.PIPE
    options = {"stdin": pipe, "stdout": pipe, "stderr": pipe, "universal_newlines": True, **options}
    environment = {"PYTHONPATH": SOURCE, "PATH": "/usr/bin:/bin"}
    return subprocess.Popen(["sh", "-c", "exec " + COMMAND + words], cwd=str(folder), env=environment, **options)


NO_SPACE = "ssh-keepalive: standard output: No space left on device\n"


@pytest.mark.parametrize(
    ("words", "code", "out", "err"),
    [
        ("check good <&-", 0, "", ""),
        ("check - <&-", 1, "stdin: error: empty\n", ""),
        ("check good >&-", 0, "", ""),
        ("check bad >&- 2>&-", 1, "", ""),
        ("check absent 2>&-", 2, "", ""),
        ("render good --openssh 9.2 2>&-", 0, "ClientAliveInterval", ""),
        ("explain bad --openssh 9.2 <&- >&- 2>&-", 1, "", ""),
        ("chekc 2>&-", 2, "", ""),
        ("--help >&-", 0, "", ""),
        ("schema >/dev/full", 1, "", NO_SPACE),
        ("check bad >/dev/full", 1, "", NO_SPACE),
        ("--help >/dev/full", 1, "", NO_SPACE),
        ("--version >/dev/full", 1, "", NO_SPACE),
        ("check absent 2>/dev/full", 2, "", ""),
        ("schema >/dev/full 2>/dev/full", 1, "", ""),
    ],
)
def test_streams_that_cannot_be_written_to_or_read(tmp_path, words, code, out, err):
    process = shell(words, tmp_path)
    said, complaints = process.communicate()
    assert (process.returncode, complaints) == (code, err)
    assert out in said
    assert bool(out) == bool(said)


def test_nobody_who_reads_is_no_reason_for_words(tmp_path):
    with shell("check bad", tmp_path) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


def test_ctrl_c(tmp_path):
    process = shell("check -", tmp_path)
    while "S (sleeping)" not in Path("/proc/{}/status".format(process.pid)).read_text() or is_starting(process.pid):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.communicate() == ("", "ssh-keepalive: interrupted\n")
    assert process.returncode == 130


def is_starting(pid):
    """Return whether a process waits for anything but its standard input."""
    return Path("/proc/{}/syscall".format(pid)).read_text().split()[:2] != ["0", "0x0"]


UNKNOWN = "argument --openssh: 'x': expected a version (9.2p1, what ssh -V prints) or one of " + ", ".join(
    DISTRIBUTIONS
)
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
