# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The Match lines in sshd's files whose blocks may set something, to be asked about; what they set is not read here."""

import re
from typing import Any, Dict, Iterable, List, Set

from ..openssh import Connection
from ..patterns import Patterns, example_addresses, examples
from . import accounts, trace
from .host import Host

_FIELDS = {"address": "address", "localaddress": "local_address", "host": "host", "localport": "local_port"}
_LINE = re.compile(r'\s*"?([A-Za-z0-9]+)"?(?:\s*=\s*|\s+|$)(.*)')


def that_set(texts: Iterable[str], keywords: Iterable[str]) -> Set[str]:
    """Return the criteria of Match lines in whose blocks one of the keywords stands, or an Include, normalized."""
    wanted = {keyword.lower() for keyword in keywords} | {"include"}
    found = set()
    for text in texts:
        current = None
        for line in text.split("\n"):
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
    matches = (_LINE.match(line) for text in texts for line in text.split("\n"))
    return {normalized(parts.group(2)) for parts in matches if parts and parts.group(1).lower() == "match"}


def normalized(criteria: str) -> str:
    """Return criteria as they can be compared with what sshd traces: without quotes, comments and double blanks."""
    return " ".join(re.sub(r"(^|\s)#.*", "", criteria).replace('"', "").replace("=", " ").split()).lower()


def connections_for(match: str, like: Connection, host: Host) -> List[Connection]:
    """Return connections that a Match line fits, one or two for each of its patterns; none where nobody is found."""
    alternatives: List[List[Connection]] = []
    names: Dict[str, Patterns] = {}
    for criterion, patterns in trace.criteria(match):
        if criterion in ("user", "group"):
            names[criterion] = patterns
            continue
        values = example_addresses(patterns) if criterion.endswith("address") else examples(patterns)
        if criterion == "localport":
            values = [value for value in values if value.isdigit()]
        if criterion not in _FIELDS or not values:
            return []
        typed: List[Any] = [int(value) if criterion == "localport" else value for value in values]
        alternatives.append([like._replace(**{_FIELDS[criterion]: value}) for value in typed])
    if names:
        people = _people(names.get("user", ()), names.get("group", ()), host)
        alternatives.append([like._replace(user=one.user, groups=one.groups) for one in people])
    if not all(alternatives):
        return []
    # Each value of each criterion once, with the first of all others
    found = []
    for position, ones in enumerate(alternatives):
        for one in ones:
            chosen = [one if number == position else others[0] for number, others in enumerate(alternatives)]
            found.append(_merged(like, chosen))
    return list(dict.fromkeys(found or [like]))


def _people(users: Patterns, groups: Patterns, host: Host) -> List[accounts.Account]:
    """Return users whom patterns fit, one for each pattern of groups if there are any."""
    if not groups:
        # sshd compares names: there need be no such user.
        made_up = [accounts.Account(user, ()) for user in examples(users)]
        found = accounts.fitting([(users, ())], host)
        return [*filter(None, found or ()), *made_up]
    excluded = tuple(pattern for pattern in groups if pattern.startswith("!"))
    wanted = [(users, (pattern, *excluded)) for pattern in groups if not pattern.startswith("!")]
    return [account for account in accounts.fitting(wanted, host) or () if account]


def _merged(like: Connection, connections: Iterable[Connection]) -> Connection:
    """Return a connection with all that others have and one like them has not."""
    changes: Dict[str, Any] = {}
    for one in connections:
        changes.update({name: value for name, value in one._asdict().items() if value != getattr(like, name)})
    return like._replace(**changes)
