"""What packaging/completion.py generates, in the shells that are to complete it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ssh_keepalive.check.distributions import DISTRIBUTIONS

TOP = Path(__file__).resolve().parents[2]

# Calls the function as bash does: $1 the command, $2 the word, $3 the one before.
BASH = """\
source completion/ssh-keepalive
COMP_WORDS=(ssh-keepalive "$@") COMP_CWORD=$#
_ssh_keepalive ssh-keepalive "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""
# A terminal in which somebody types and presses tab; control-x shows the line.
ZSHRC = """\
PS1= fpath=($ZDOTDIR/completion $fpath)
autoload -Uz compinit
compinit -u -D
bindkey '^I' complete-word
zle-line-init() print READY
show() print -r -- "[$BUFFER]"
zle -N zle-line-init
zle -N show
bindkey '^X' show
"""
ZSH = """\
zmodload zsh/zpty
zpty terminal zsh -d -i
zpty -r terminal said '*READY*'
zpty -w -n terminal "ssh-keepalive $1"$'\\t\\x18'
zpty -r terminal said '*[[]*[]]*' && print -r -- $said
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with some files, and the completions in one of its own."""
    folder = tmp_path_factory.mktemp("completion")
    environment = {**os.environ, "PYTHONPATH": str(TOP / "cloudinit_module")}
    command = [sys.executable, "-B", TOP / "packaging/completion.py", folder / "completion"]
    subprocess.run(command, env=environment, check=True)
    (folder / "user data").write_text("")
    (folder / "image").mkdir()
    (folder / ".zshrc").write_text(ZSHRC)
    return folder


@pytest.mark.parametrize(
    ("words", "replies"),
    [
        (["un"], ["uninstall", "unregister"]),
        (["--v"], ["--version"]),
        (["check", "--o"], ["--openssh"]),
        (["check", "--openssh", "debian-"], ["debian-11", "debian-12", "debian-13"]),
        (["render", "user-data", "--openssh", ""], list(DISTRIBUTIONS)),
        (["check", "--format", ""], ["text", "json"]),
        (["check", "--format", "json", "u"], ["user data"]),
        (["explain", "--openssh", "9.2", "u"], ["user data"]),
        (["install", "--root", "i"], ["image"]),
        (["install", "--root", "u"], [""]),
        (["schema", "--with-cloud-init", "u"], ["user data"]),
        (["install", "u"], [""]),
        (["reapply", "-"], ["-h", "--help"]),
        (["no-such-command", ""], [""]),
    ],
)
def test_bash(folder, words, replies):
    done = subprocess.run(
        ["bash", "-c", BASH, "bash", *words], cwd=folder, stdout=subprocess.PIPE, text=True, check=True
    )
    assert done.stdout.splitlines() == replies


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not here (make host)")
@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("rend", "render "),
        ("check --ope", "check --openssh "),
        ("check --openssh ubuntu-20", "check --openssh ubuntu-20.04 "),
        ("check --openssh debian", "check --openssh debian-1"),
        ("check --format j", "check --format json "),
        ("check u", "check user\\ data "),
        ("explain --openssh 9.2 u", "explain --openssh 9.2 user\\ data "),
        ("install --root i", "install --root image/"),
        ("install u", "install u"),
    ],
)
def test_zsh(folder, typed, completed):
    done = subprocess.run(
        ["zsh", "-f", "-c", ZSH, "zsh", typed],
        cwd=folder,
        env={**os.environ, "ZDOTDIR": str(folder), "TERM": "dumb"},
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert re.search(r"\[(ssh-keepalive .*?)\]", done.stdout).group(1) == "ssh-keepalive " + completed
