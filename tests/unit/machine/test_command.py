import sys
import time

import pytest
from ssh_keepalive.machine import command
from ssh_keepalive.machine.command import Answer, CommandError


def run(script, seconds=30):
    return command.run((sys.executable, "-S", "-c", script), seconds, {})


def test_what_it_says_and_how_it_ends():
    answer = run("import os, sys; os.write(1, b'out \\xff'); os.write(2, b'err'); sys.exit(3)")
    assert answer == Answer(3, "out \ufffd", "err")


def test_it_is_not_asked_anything_and_gets_no_environment_but_its_own():
    script = "import os, sys; print(repr(sys.stdin.read()), sorted(os.environ))"
    said = run(script).out
    assert said.startswith("'' [")
    assert "PATH" not in said


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(1, "", ""), "exit 1 without a word"),
        (Answer(-11, "", " \n"), "killed by SIGSEGV without a word"),
        (Answer(-40, "", ""), "killed by signal 40 without a word"),
        (Answer(1, "out", ""), "out"),
        (Answer(1, "out", "a\nb\n\nc\n d \n"), "b / c / d"),
        (Answer(1, "", "\x1b[2Jgone\x00"), "?[2Jgone?"),
        (Answer(1, "", "x" * 500), "x" * 400),
    ],
)
def test_last_words(answer, words):
    assert answer.last_words() == words


def test_much_is_heard_out():
    assert len(run("import os; os.write(2, b'e'); print('x' * 3000000)").out) == 3000001


def test_what_says_too_much_is_ended():
    with pytest.raises(CommandError, match=r"^said more than 4 MB$"):
        run("while True: print('y' * 1000)")


def test_what_closes_its_streams_and_stays_is_ended():
    began = time.monotonic()
    with pytest.raises(CommandError, match=r"^did not answer within 0\.5 s$"):
        run("import os, time; os.close(1); os.close(2); time.sleep(60)", 0.5)
    assert time.monotonic() - began < 20
