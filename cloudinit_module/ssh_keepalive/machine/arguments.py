# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The arguments of an sshd's command line, as its getopt reads them; sshd(8)."""

import re
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

# sshd.c, 8.0 to 10.6
_WITH_VALUE = "CEbcfghkopu"
# What says how a server reads and serves, and is handed on to one that is asked; the rest says what it does.
_HANDED_ON = "46chop"
_TELLING = "clientalive|(tcp)?keepalive|channeltimeout|unusedconnection|port|listenaddress|addressfamily|include|match"


class Arguments(NamedTuple):
    """Hold the command line of an sshd.

    `main` is its main file, None for the program's own. `options` are those that an sshd gets, too, that is asked in
    its place. `serves_one` says that it serves one connection (-i), `stays` that it stays in the foreground (-D, -d).
    """

    main: Optional[str] = None
    options: Tuple[str, ...] = ()
    serves_one: bool = False
    stays: bool = False

    @property
    def telling(self) -> Tuple[str, ...]:
        """Return the options without those for keywords that say nothing of a policy or of where sshd listens."""
        pairs = list(zip(self.options, (*self.options[1:], "")))
        quiet = {
            number
            for number, (flag, value) in enumerate(pairs)
            if flag == "-o" and not re.match(_TELLING, value.strip(), re.IGNORECASE)
        }
        return tuple(word for number, word in enumerate(self.options) if not {number, number - 1} & quiet)

    def settings(self) -> Dict[str, str]:
        """Return what `-o` sets, by keyword in lower case. It overrides all files, the first one the others."""
        found: Dict[str, str] = {}
        for flag, value in zip(self.options, self.options[1:]):
            if flag == "-o":
                words = re.match(r"\s*([A-Za-z0-9]+)(?:\s*=\s*|\s+)(.*)", value)
                if words:
                    found.setdefault(words.group(1).lower(), words.group(2))
        return found


def parse(words: Sequence[str]) -> Arguments:
    """Return what the words after the program's name say; flags may be bundled (`-4oX=1`, `-ef FILE`).

    A title in /proc and systemd's argv are joined by blanks: a word that nothing asks for belongs to the value before.
    """
    main: Optional[str] = None
    options: List[str] = []
    flags = ""
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or word == "-":
            if options and options[-2:-1] == ["-o"]:
                options[-1] += " " + word
            continue
        for position, letter in enumerate(word[1:], 2):
            if letter not in _WITH_VALUE:
                if letter in _HANDED_ON:
                    options.append("-" + letter)
                flags += letter
                continue
            value = word[position:] or (rest.pop(0) if rest else "")
            if letter == "f":
                main = value
            elif letter in _HANDED_ON:
                options += ["-" + letter, value]
            break
    return Arguments(main, tuple(options), "i" in flags, bool(set("Dd") & set(flags)))


def expanded(words: Sequence[str], environment: Dict[str, str]) -> List[str]:
    """Return the words of a unit's command with its variables in them; systemd.service(5), COMMAND LINES."""
    found: List[str] = []
    for word in words:
        whole = re.match(r"\$([A-Za-z_][A-Za-z0-9_]*)$", word)
        if whole:
            found += _words(environment.get(whole.group(1), ""))
        else:
            found.append(
                re.sub(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", lambda name: environment.get(name.group(1), ""), word)
            )
    return found


def environment(text: str) -> Dict[str, str]:
    """Return what a unit's property Environment sets, which systemctl shows with the shell's quotes."""
    found = {}
    for assignment in _words(text):
        name, _, value = assignment.partition("=")
        found[name] = value
    return found


def variables(text: str, is_for_shell: bool = False) -> Dict[str, str]:
    """Return what a file of assignments sets, of systemd's EnvironmentFile or the shell's; systemd.exec(5).

    systemd ignores a line with `export`.
    """
    found = {}
    export = r"(?:export\s+)?" if is_for_shell else ""
    for line in text.replace("\\\n", "").split("\n"):
        assignment = re.match(rf"\s*{export}([A-Za-z_][A-Za-z0-9_]*)=(.*)", line)
        if assignment:
            found[assignment.group(1)] = " ".join(_words(assignment.group(2).strip()))
    return found


def _words(text: str) -> List[str]:
    """Return the words of a text, without their quotes."""
    import shlex

    try:
        return shlex.split(text)
    except ValueError:
        return text.split()
