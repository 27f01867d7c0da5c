# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""Write what bash and zsh complete, from the command's parser, into a folder: completion.py FOLDER.

PYTHONPATH tells where ssh_keepalive is.
"""

import argparse
import shlex
import sys
from pathlib import Path
from typing import Dict, List

from ssh_keepalive.check.distributions import DISTRIBUTIONS
from ssh_keepalive.cli import parser

BASH = """\
# Generated from the parser of ssh-keepalive by packaging/completion.py
_ssh_keepalive() {{
    local word=$2 command=${{COMP_WORDS[1]}}
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        command=
    fi
    case "$command $3" in
{values}
    *)
        case $command in
{options}
        esac
        ;;
    esac
}}
complete -F _ssh_keepalive ssh-keepalive
"""
ZSH = """\
#compdef ssh-keepalive
# Generated from the parser of ssh-keepalive by packaging/completion.py
local -a commands=(
{commands}
)
_arguments -C {top} '1:command:{{_describe command commands}}' '*::argument:->rest'
[[ $state == rest ]] || return
case $words[1] in
{cases}
esac
"""


def values(action: argparse.Action) -> List[str]:
    """Return what an argument may be where that is a choice."""
    return list(DISTRIBUTIONS) if action.dest == "openssh" else list(action.choices or ())


def bash(top: argparse.ArgumentParser) -> str:
    """Return the completion for bash."""
    arms, options = [], []
    commands = named(top)
    for name, command in commands.items():
        for action in command._actions:
            if action.nargs != 0 and action.option_strings:
                reply = 'compgen -W "{}" -- "$word"'.format(" ".join(values(action)))
                if not values(action):
                    reply = 'compgen {} -- "$word"'.format("-d" if action.metavar == "DIR" else "-f")
                arms.append(arm("|".join(f'"{name} {option}"' for option in action.option_strings), reply, 4))
        flags = " ".join(option for action in command._actions for option in action.option_strings)
        reply = f'compgen -W "{flags}" -- "$word"'
        if any(action.metavar == "FILE" and not action.option_strings for action in command._actions):
            reply = f'if [[ $word == -* ]]; then {reply}; else compgen -f -- "$word"; fi'
        options.append(arm(name, reply, 8))
    flags = " ".join(option for action in top._actions for option in action.option_strings)
    options.append(arm('""', 'compgen -W "{} {}" -- "$word"'.format(" ".join(commands), flags), 8))
    return BASH.format(values="\n".join(arms), options="\n".join(options))


def arm(pattern: str, reply: str, indent: int) -> str:
    """Return an arm of a case, which takes each line of a command's output for a reply."""
    lines = [f"{pattern})", f"    mapfile -t COMPREPLY < <({reply})"]
    if "compgen -f" in reply or "compgen -d" in reply:
        lines.append("    compopt -o filenames 2>/dev/null")
    return "\n".join(" " * indent + line for line in [*lines, "    ;;"])


def zsh(top: argparse.ArgumentParser) -> str:
    """Return the completion for zsh."""
    helps = {choice.dest: choice.help for choice in chooser(top)._choices_actions}
    commands = ["    " + shlex.quote(f"{name}:{escaped(helps[name])}") for name in helps]
    cases = [
        "{})\n    _arguments {}\n    ;;".format(name, " ".join(specifications(command)))
        for name, command in named(top).items()
    ]
    return ZSH.format(commands="\n".join(commands), cases="\n".join(cases), top=" ".join(specifications(top)))


def specifications(command: argparse.ArgumentParser) -> List[str]:
    """Return the arguments of a command as zsh's _arguments takes them."""
    found = []
    for action in command._actions:
        takes = "_files -/" if action.metavar == "DIR" else "_files"
        if values(action):
            takes = "({})".format(" ".join(values(action)))
        takes = f":{action.metavar or action.dest}:{takes}"
        for option in action.option_strings:
            found.append("{}[{}]{}".format(option, escaped(action.help), "" if action.nargs == 0 else takes))
        if not action.option_strings and action.dest != "command":
            found.append(("*" if action.nargs == "+" else "1") + takes)
    return [shlex.quote(one) for one in found]


def escaped(text: str) -> str:
    """Return a help text that zsh takes for nothing else."""
    for char in "\\[]:":
        text = text.replace(char, "\\" + char)
    return text


def chooser(top: argparse.ArgumentParser) -> argparse.Action:
    """Return the argument that is the command."""
    return next(action for action in top._actions if action.dest == "command")


def named(top: argparse.ArgumentParser) -> Dict[str, argparse.ArgumentParser]:
    """Return the parsers of the commands."""
    return dict(chooser(top).choices)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    # The names by which the shells find them
    (folder / "ssh-keepalive").write_text(bash(parser()), encoding="utf-8")
    (folder / "_ssh-keepalive").write_text(zsh(parser()), encoding="utf-8")
