# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The Match lines in sshd's files whose blocks may set something, to be asked about; what they set is not read here."""

import re
from typing import Iterable, Set

_LINE = re.compile(r'\s*"?([A-Za-z0-9]+)"?(?:\s*=\s*|\s+|$)(.*)')


def that_set(texts: Iterable[str], keywords: Iterable[str]) -> Set[str]:
    """Return the criteria of Match lines in whose blocks one of the keywords stands, or an Include, normalized."""
    wanted = {keyword.lower() for keyword in keywords} | {"include"}
    found = set()
    for text in texts:
        current = None
        for line in text.splitlines():
            parts = _LINE.match(line)
            if not parts:
                continue
            keyword = parts.group(1).lower()
            if keyword == "match":
                current = normalized(parts.group(2))
            elif current is not None and keyword in wanted:
                found.add(current)
    return found


def all_of(texts: Iterable[str]) -> Set[str]:
    """Return the criteria of all Match lines, normalized."""
    matches = (_LINE.match(line) for text in texts for line in text.splitlines())
    return {normalized(parts.group(2)) for parts in matches if parts and parts.group(1).lower() == "match"}


def normalized(criteria: str) -> str:
    """Return criteria as they can be compared with what sshd traces: without quotes, comments and double blanks."""
    return " ".join(re.sub(r"(^|\s)#.*", "", criteria).replace('"', "").replace("=", " ").split()).lower()
