# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The connections that an sshd is asked about: nobody's, root's, one of each match entry.

Most policies have no match entries: a boot imports what those need only with them.
"""

import re
from typing import Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from .. import sshd_config
from ..openssh import NOBODY, Connection, Settings
from .host import Host
from .processes import WILDCARDS

# Asked about beside the first
_MOST_ADDRESSES = 3
# Entries that are asked about where sshd is about to be, or not to be, restarted
MOST_ENTRIES = 16


class Chosen(NamedTuple):
    """Hold connections that fit match entries, and what is to be said of entries that none was found for."""

    connections: Tuple[Connection, ...]
    notes: Tuple[str, ...]


def nobody(values: Mapping[str, Sequence[str]]) -> Connection:
    """Return nobody, who connects to an address and a port that sshd reports; `values` are lists by keyword."""
    port = next(iter(values.get("port", ())), str(NOBODY.local_port))
    for listened in _listened(values):
        address, _, own_port = listened.rpartition(":")
        if own_port.isdigit():
            port = own_port
        if address.strip("[]") not in WILDCARDS:
            return NOBODY._replace(local_address=address.strip("[]"), local_port=int(port))
    return NOBODY._replace(local_port=int(port))


def elsewhere(values: Mapping[str, Sequence[str]], like: Connection, matches: Iterable[str]) -> List[Connection]:
    """Return nobody at the other addresses that sshd reports, where a Match line tells those apart; some of them."""
    if not any(re.search(r"\blocal(address|port)\b", match, re.IGNORECASE) for match in matches):
        return []
    found = [nobody({"listenaddress": [listened], "port": values.get("port", ())}) for listened in _listened(values)]
    return [one for one in dict.fromkeys(found) if one != like][:_MOST_ADDRESSES]


def _listened(values: Mapping[str, Sequence[str]]) -> List[str]:
    # What follows an address is a routing domain.
    return [listened.split()[0] for listened in values.get("listenaddress", ())]


def root(connection: Connection, settings: Settings, host: Host) -> Optional[Connection]:
    """Return root in another's place; None where it is not known in which groups root is, and that matters."""
    if not any(entry.criterion == "group" for entry, _ in settings.blocks):
        return connection._replace(user="root")
    from . import accounts

    found = accounts.fitting([(("root",), ())], host)
    return connection._replace(user="root", groups=found[0].groups) if found and found[0] else None


def of_entries(settings: Settings, like: Connection, host: Host, most: Optional[int] = None) -> Chosen:
    """Return a connection like another one for each match entry, or for `most` of them: first those that differ."""
    if not settings.blocks:
        return Chosen((), ())
    from ..patterns import example, example_address
    from . import accounts

    numbered = list(enumerate(settings.blocks))
    if most is not None and len(numbered) > most:
        # One of each set of values, then those that come first
        first = {directives: number for number, (_, directives) in reversed(numbered)}
        numbered.sort(key=lambda one: (first[one[1][1]] != one[0], one[0]))
        numbered = sorted(numbered[:most])
    patterns = [pattern for _, (entry, _) in numbered if entry.criterion == "group" for pattern in entry.patterns]
    people = accounts.fitting([((), (pattern,)) for pattern in patterns], host)
    in_group = dict(zip(patterns, people or ()))
    connections: List[Connection] = []
    notes = []
    for position, (entry, _) in numbered:
        account = next(filter(None, map(in_group.get, entry.patterns)), None)
        if entry.criterion == "address":
            connections.append(like._replace(address=example_address(entry.patterns) or like.address))
        elif entry.criterion == "user":
            # sshd compares names, there need be no such user.
            connections.append(like._replace(user=example(entry.patterns) or like.user))
        elif account:
            connections.append(like._replace(user=account.user, groups=account.groups))
        else:
            why = "fits nobody who is known here yet" if people is not None else "needs names that nothing here answers"
            notes.append(f"match[{position}] is not verified, Match {sshd_config.criterion(entry)} {why}")
    return Chosen(tuple(dict.fromkeys(connections)), tuple(notes))
