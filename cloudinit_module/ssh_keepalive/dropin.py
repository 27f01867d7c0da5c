# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The text of the drop-in, held against what sshd reports."""

import json
from typing import Dict, List, NamedTuple, Optional

from .openssh import Directives, Expression
from .policy import Policy, parse

NAME = "00-ssh-keepalive.conf"

_HEADER = "# Written by cloud-init's cc_ssh_keepalive and overwritten by it: change ssh_keepalive in user-data instead."
_POLICY = "# policy: "
# sshd -T says yes and no up to 10.5, true and false from 10.6 on, and none for a time-out of 0.
_SAME = {"true": "yes", "false": "no", "none": "0"}


class Mismatch(NamedTuple):
    """Tell a value that sshd reports (None: it reports none) from the one that was wanted."""

    keyword: str
    wanted: str
    reported: Optional[str]


def render(policy: Policy, expression: Expression) -> str:
    """Return the text of the drop-in."""
    lines = [_HEADER, _POLICY + json.dumps(policy.section(), sort_keys=True)]
    lines += ["{} {}".format(keyword, value) for keyword, value in expression.directives]
    for entry, directives in expression.blocks:
        lines.append("Match {} {}".format(entry.criterion.capitalize(), ",".join(entry.patterns)))
        lines += ["    {} {}".format(keyword, value) for keyword, value in directives]
    return "\n".join(lines) + "\n"


def read_policy(text: str) -> Optional[Policy]:
    """Return the policy for which a drop-in was rendered, None if it does not say."""
    for line in text.splitlines():
        if line.startswith(_POLICY):
            try:
                return parse(json.loads(line[len(_POLICY) :]))
            except (ValueError, RecursionError):
                return None
    return None


def mismatches(directives: Directives, report: str) -> List[Mismatch]:
    """Return the directives that the output of `sshd -T` does not bear out.

    Keywords are compared without case: sshd -T prints them in lower case up to 10.4 and in CamelCase from 10.5 on.
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
