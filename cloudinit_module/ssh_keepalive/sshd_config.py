# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The text of the drop-in, or of the blocks in sshd's main file, and back."""

import json
import re
from typing import Optional

from .openssh import Settings
from .paths import BEGIN, END, HEADER, OLD_HEADER
from .policy import Entry, Policy, parse

_POLICY = "# policy: "
# A block whose end is gone is none: nothing of somebody else's must go with it.
_BLOCK = f"(?m)^{BEGIN}\n(?:(?!{BEGIN}).*\n)*?{END}(?:\n|\\Z)"


def criterion(entry: Entry) -> str:
    """Return the criterion of a match entry as its Match line has it."""
    return f"{entry.criterion.capitalize()} {','.join(entry.patterns)}"


def render(settings: Settings) -> str:
    """Return the text of the drop-in."""
    return _globals(settings) + _matches(settings)


def _globals(settings: Settings) -> str:
    lines = [HEADER, _POLICY + json.dumps(settings.policy.section(), sort_keys=True)]
    lines += [f"{keyword} {value}" for keyword, value in settings.directives]
    return "\n".join(lines) + "\n"


def _matches(settings: Settings) -> str:
    lines = []
    for entry, directives in settings.blocks:
        lines.append(f"Match {criterion(entry)}\n")
        lines += [f"    {keyword} {value}\n" for keyword, value in directives]
    return "".join(lines)


def with_include(main: str, file: str) -> str:
    """Return the text of a main file with a marked block at its top that has sshd read a drop-in before all else."""
    return f"{BEGIN}\nInclude {file}\n{END}\n{without_block(main)}"


def holds_policy(main: str) -> bool:
    """Return whether a block of a main file holds a policy, and not only an Include."""
    return BEGIN in main and any(_POLICY in block for block in re.findall(_BLOCK, main))


def with_block(main: str, settings: Settings) -> str:
    """Return the text of a main file with marked blocks, for an sshd that includes no drop-in: at its top and its end.

    What is for some goes to the end, since nothing but a Match ends a Match, and last comes one for all: what somebody
    appends is then for everybody (and comes before the file's own globals).
    """
    main = f"{BEGIN}\n{_globals(settings)}{END}\n{without_block(main)}"
    if not settings.blocks:
        return main
    block = f"{BEGIN}\n{_matches(settings)}Match all\n{END}\n"
    return main + block if main.endswith("\n") else main + "\n" + block[:-1]


def without_block(main: str) -> str:
    """Return the text of a main file as it was before blocks were put into it, to the byte."""
    if BEGIN not in main:
        return main
    bare = re.sub(_BLOCK, "", main)
    # with_block has put the last line's end there, where the file had none.
    return bare[:-1] if bare != main and main.endswith(END) else bare


def lines_before(main: str) -> int:
    """Return how many lines of a main file are the block at its top."""
    block = re.match(_BLOCK, main)
    return block.group().count("\n") if block else 0


def is_in_block(main: str, line: int) -> bool:
    """Return whether a line of a main file, counted from 1, is in a block."""
    return any(
        0 < line - main.count("\n", 0, block.start()) <= block.group().count("\n")
        for block in re.finditer(_BLOCK, main)
    )


def read_policy(text: str) -> Optional[Policy]:
    """Return the policy for which a drop-in or a block was rendered, None if it does not say."""
    for line in text.splitlines():
        if line.startswith(_POLICY):
            try:
                return parse(json.loads(line[len(_POLICY) :]))
            except (ValueError, RecursionError):
                return None
    return None


def is_same(text: str, other: str) -> bool:
    """Return whether two texts are the same but for the header, which 0.1.0's first packages wrote in other words."""
    return text.replace(OLD_HEADER, HEADER) == other.replace(OLD_HEADER, HEADER)
