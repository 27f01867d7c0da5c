# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""What `sshd -T -ddd` tells about the files that it reads and the Match lines in them."""

import re
from typing import Dict, List, Tuple


def files(trace: str) -> Tuple[str, ...]:
    """Return the files that sshd has read, in their order, each once."""
    found = re.findall(r"^debug2: load_server_config: filename (.+?)\r?$", trace, re.MULTILINE)
    return tuple(dict.fromkeys(found))


def matches(trace: str) -> Dict[str, bool]:
    """Return the criteria of each Match line, and whether they fit the connection that was asked about.

    The answer of one that stands in two places is that it fits if it does in one.
    """
    found: Dict[str, bool] = {}
    current = None
    for line in trace.splitlines():
        checked = re.match(r"debug3: checking match for '(.*)' user ", line)
        if checked:
            current = checked.group(1).strip()
            found.setdefault(current, False)
        elif current is not None and re.match("debug3: match (not )?found", line):
            found[current] = found[current] or line.startswith("debug3: match found")
            current = None
    return found


def criteria(match: str) -> List[Tuple[str, Tuple[str, ...]]]:
    """Return the criteria of a Match line in lower case, each with its patterns; sshd_config(5), Match."""
    words = [word.replace('"', "") for word in re.findall(r'(?:"[^"]*"|[^\s="])+', match)]
    return [(words[i].lower(), tuple(words[i + 1].split(","))) for i in range(0, len(words) - 1, 2)]


def complaint(trace: str) -> str:
    """Return what a failed sshd said, without the trace before it."""
    return "\n".join(line for line in trace.splitlines() if not re.match("debug[1-3]: ", line))
