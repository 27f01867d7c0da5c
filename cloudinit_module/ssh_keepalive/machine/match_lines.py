# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The Match lines in sshd's files whose blocks may set something, to be asked about; what they set is not read here."""

import re
from typing import Dict, Iterable, Optional, Set

from ..openssh import Connection
from . import accounts, trace
from .host import Host
from .patterns import Patterns, example, example_address

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


def connection_for(match: str, like: Connection, host: Host) -> Optional[Connection]:
    """Return a connection that a Match line fits, None where nobody is found whom it could."""
    connection = like
    names: Dict[str, Patterns] = {}
    for criterion, patterns in trace.criteria(match):
        if criterion in ("user", "group"):
            names[criterion] = patterns
            continue
        value = example_address(patterns) if criterion.endswith("address") else example(patterns)
        if criterion == "address" and value:
            connection = connection._replace(address=value)
        elif criterion == "localaddress" and value:
            connection = connection._replace(local_address=value)
        elif criterion == "host" and value:
            connection = connection._replace(host=value)
        elif criterion == "localport" and value and value.isdigit():
            connection = connection._replace(local_port=int(value))
        else:
            return None
    if not names:
        return connection
    users, groups = names.get("user", ()), names.get("group", ())
    found = accounts.fitting([(users, groups)], host)
    # sshd compares names: there need be no such user, unless groups count.
    user = None if groups else example(users)
    account = found[0] if found and found[0] else user and accounts.Account(user, ())
    return connection._replace(user=account.user, groups=account.groups) if account else None
