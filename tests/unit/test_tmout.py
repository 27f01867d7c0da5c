"""TMOUT in the shells that people log in with; each is started as one that reads /etc/profile.d."""

import os
import shutil
import subprocess

import pytest
from ssh_keepalive import paths, tmout
from ssh_keepalive.sshd_config import is_same

SSH = {"SSH_CONNECTION": "192.0.2.1 50000 192.0.2.2 22"}
SHOW = 'echo "TMOUT=${TMOUT-unset}"; (TMOUT=1) 2>/dev/null && echo writable || echo readonly'


def test_the_header_is_that_of_the_drop_in():
    text = tmout.render(900)
    assert text.splitlines()[0] == paths.HEADER
    assert is_same(text.replace(paths.HEADER, paths.OLD_HEADER), text)
    assert not is_same(text, tmout.render(901))


def shell(name):
    """Return a shell's path."""
    path = shutil.which(name)
    if path is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("{} is not here (apt install {})".format(name, name))
    return path


def read(tmp_path, command, environment=SSH, before="", after=SHOW):
    """Have a shell read what comes before, the profile and what comes after; return its words and its errors."""
    profile, script = tmp_path / "profile.sh", tmp_path / "script"
    profile.write_text(tmout.render(900))
    script.write_text("{}\n. {}\n{}\n".format(before, profile, after))
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **environment}
    command = [shell(command[0]), *command[1:], "-c", ". {}".format(script)]
    out, err = spoken_to(command, environment)
    # Without a terminal each complains in its own words.
    noise = ("terminal process group", "tty", "job control")
    return out.split(), [line for line in err.splitlines() if not any(map(line.__contains__, noise))]


def spoken_to(command, environment, text=""):
    """Return what a shell says to a text, and its errors; on Python 3.6, too."""
    pipe = subprocess.PIPE
    shell = subprocess.Popen(
        command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True, encoding="utf-8"
    )
    return shell.communicate(text)


INTERACTIVE = [["bash", "-i"], ["bash", "--posix", "-i"], ["zsh", "-i"], ["ksh93", "-i"], ["mksh", "-i"]]
NAMES = [" ".join(command) for command in INTERACTIVE]


@pytest.mark.parametrize("command", INTERACTIVE, ids=NAMES)
def test_an_interactive_shell_over_ssh_gets_a_time_out_that_stays(tmp_path, command):
    assert read(tmp_path, command) == (["TMOUT=900", "readonly"], [])


@pytest.mark.parametrize("command", INTERACTIVE, ids=NAMES)
def test_a_time_out_that_is_readonly_already_stays_as_it_is(tmp_path, command):
    assert read(tmp_path, command, before="TMOUT=60; readonly TMOUT") == (["TMOUT=60", "readonly"], [])


@pytest.mark.parametrize("command", INTERACTIVE, ids=NAMES)
def test_a_time_out_that_is_not_readonly_gives_way(tmp_path, command):
    assert read(tmp_path, command, before="TMOUT=5000") == (["TMOUT=900", "readonly"], [])


@pytest.mark.parametrize("command", INTERACTIVE, ids=NAMES)
def test_one_who_sets_it_later_can_still_log_in(tmp_path, command):
    profile = tmp_path / "own-profile"
    profile.write_text("TMOUT=0\n")
    read(tmp_path, command)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **SSH}
    text = ". {}\n. {}\necho still here\n".format(tmp_path / "profile.sh", profile)
    assert "still here" in spoken_to([shell(command[0]), *command[1:]], environment, text)[0]


@pytest.mark.parametrize(
    ("command", "environment"),
    [
        (["bash"], SSH),
        (["zsh"], SSH),
        (["ksh93"], SSH),
        (["bash", "-i"], {}),
        (["bash", "-i"], {**SSH, "TMUX": "/tmp/tmux-0/default,1,0"}),
        (["bash", "-i"], {**SSH, "STY": "1.pts-0.machine"}),
        (["dash", "-i"], SSH),
        (["dash"], SSH),
    ],
    ids=["script", "zsh-script", "ksh-script", "no-ssh", "tmux", "screen", "dash", "dash-script"],
)
def test_others_get_none(tmp_path, command, environment):
    (value, writable), errors = read(tmp_path, command, environment)
    # ksh starts with 0, which is none.
    assert (value in ("TMOUT=unset", "TMOUT=0"), writable, errors) == (True, "writable", [])


@pytest.mark.parametrize("environment", [{}, SSH], ids=["no-ssh", "ssh"])
@pytest.mark.parametrize(
    "command",
    [["bash", "--norc", "-eu"], ["bash", "--norc", "-eui"], ["ksh93", "-eui"], ["mksh", "-eui"], ["dash", "-eui"]],
    ids=" ".join,
)
def test_strict_shells_are_not_ended(tmp_path, command, environment):
    said, errors = read(tmp_path, command, environment, after="echo done")
    assert (said, errors) == (["done"], [])
