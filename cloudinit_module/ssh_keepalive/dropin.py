# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The text of the drop-in (or of the block in sshd's main file), held against what sshd reports."""

import json
import re
from typing import Dict, List, NamedTuple, Optional

from .openssh import Directives, Expression
from .policy import Entry, Policy, parse

NAME = "00-ssh-keepalive.conf"

_HEADER = "# Written by cloud-init's cc_ssh_keepalive and overwritten by it: change ssh_keepalive in user-data instead."
_POLICY = "# policy: "
_BEGIN, _END = "# BEGIN ssh-keepalive\n", "# END ssh-keepalive\n"
# A block whose end is gone is none: nothing of somebody else's must go with it.
_BLOCK = "(?m)^{}(?:(?!{}).*\n)*?{}(?:\n|\\Z)".format(_BEGIN, _BEGIN[:-1], _END[:-1])
# sshd -T says yes and no up to 10.5, true and false from 10.6 on, and none for a time-out of 0.
_SAME = {"true": "yes", "false": "no", "none": "0"}


class Mismatch(NamedTuple):
    """Tell a value that sshd reports (None: it reports none) from the one that was wanted."""

    keyword: str
    wanted: str
    reported: Optional[str]


def criterion(entry: Entry) -> str:
    """Return whom an entry is for, as its Match line says it."""
    return "{} {}".format(entry.criterion.capitalize(), ",".join(entry.patterns))


def render(policy: Policy, expression: Expression) -> str:
    """Return the text of the drop-in."""
    return _globals(policy, expression) + _matches(expression)


def _globals(policy: Policy, expression: Expression) -> str:
    lines = [_HEADER, _POLICY + json.dumps(policy.section(), sort_keys=True)]
    lines += ["{} {}".format(keyword, value) for keyword, value in expression.directives]
    return "\n".join(lines) + "\n"


def _matches(expression: Expression) -> str:
    lines = []
    for entry, directives in expression.blocks:
        lines.append("Match {}\n".format(criterion(entry)))
        lines += ["    {} {}\n".format(keyword, value) for keyword, value in directives]
    return "".join(lines)


def with_include(main: str, file: str) -> str:
    """Return the text of a main file with a marked block at its top that has sshd read a drop-in before all else."""
    return "{}Include {}\n{}{}".format(_BEGIN, file, _END, without_block(main))


def holds_policy(main: str) -> bool:
    """Return whether a block of a main file holds a policy, and not only an Include."""
    return _BEGIN in main and any(_POLICY in block for block in re.findall(_BLOCK, main))


def with_block(main: str, policy: Policy, expression: Expression) -> str:
    """Return the text of a main file with marked blocks, for an sshd that includes no drop-in: at its top and its end.

    What is for some goes to the end, since nothing but a Match ends a Match, and last comes one for all: what somebody
    appends is then for everybody (and comes before the file's own globals).
    """
    main = _BEGIN + _globals(policy, expression) + _END + without_block(main)
    if not expression.blocks:
        return main
    block = _BEGIN + _matches(expression) + "Match all\n" + _END
    return main + block if main.endswith("\n") else main + "\n" + block[:-1]


def without_block(main: str) -> str:
    """Return the text of a main file as it was before blocks were put into it, to the byte."""
    if _BEGIN not in main:
        return main
    bare = re.sub(_BLOCK, "", main)
    # with_block has put the last line's end there, where the file had none.
    return bare[:-1] if bare != main and main.endswith(_END[:-1]) else bare


def lines_before(main: str) -> int:
    """Return how many lines of a main file are the block at its top."""
    block = re.match(_BLOCK, main)
    return block.group().count("\n") if block else 0


def read_policy(text: str) -> Optional[Policy]:
    """Return the policy for which a drop-in or a block was rendered, None if it does not say."""
    for line in text.splitlines():
        if line.startswith(_POLICY):
            try:
                return parse(json.loads(line[len(_POLICY) :]))
            except (ValueError, RecursionError):
                return None
    return None


def mismatches(directives: Directives, report: str) -> List[Mismatch]:
    """Return the directives that the output of `sshd -T` does not bear out.

    Keywords are compared without case: sshd -T prints them in lower case up to 10.3 and in CamelCase from 10.4 on.
    """
    reported: Dict[str, str] = {}
    for line in report.splitlines():
        keyword, _, value = line.strip().partition(" ")
        reported.setdefault(keyword.lower(), value)
    found = [Mismatch(keyword, wanted, reported.get(keyword.lower())) for keyword, wanted in directives]
    return [one for one in found if one.reported is None or _SAME.get(one.reported, one.reported) != one.wanted]


def winner(keyword: str, trace: str, main: str) -> Optional[str]:
    """Return the `file:line` whose value for a keyword is in force, None if no line sets it.

    `trace` is what `sshd -T -ddd` says. It reads everything twice: once for the globals, then for the Match blocks that
    fit, whose values come before all globals. In each pass the first value wins, and in the second the main file is
    called "reprocess config" (servconf.c).
    """
    globals_pass, _, match_pass = trace.partition(": config reprocess config ")
    for lines in (match_pass, globals_pass):
        for line in lines.splitlines():
            place, setting, rest = line.partition(" setting ")
            if setting and rest.split(" ")[0].lower() == keyword.lower():
                return place.partition(": ")[2].replace("reprocess config:", main + ":")
    return None


def is_read(file: str, trace: str) -> bool:
    """Return whether a line of a file sets something, as `sshd -T -ddd` says."""
    return any(re.search(r": {}:[0-9]+ setting ".format(re.escape(file)), line) for line in trace.splitlines())
