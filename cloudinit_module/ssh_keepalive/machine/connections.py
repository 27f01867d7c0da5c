# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The connections that an sshd is asked about: nobody's, root's, those of some match entries.

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
# Match entries that are asked about: a boot starts at most twelve processes for them all
_MOST_ENTRIES = 6


class Chosen(NamedTuple):
    """Hold the connections to ask about; `notes` name the match entries that are not asked about.

    `root` is None if a match entry is for a group, and root's groups are not known.
    """

    root: Optional[Connection]
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


def at_other_addresses(
    values: Mapping[str, Sequence[str]], like: Connection, matches: Iterable[str]
) -> List[Connection]:
    """Return nobody at the other addresses that sshd reports, where a Match line tells those apart; some of them."""
    if not any(re.search(r"\blocal(address|port)\b", match, re.IGNORECASE) for match in matches):
        return []
    found = [nobody({"listenaddress": [listened], "port": values.get("port", ())}) for listened in _listened(values)]
    return [one for one in dict.fromkeys(found) if one != like][:_MOST_ADDRESSES]


def _listened(values: Mapping[str, Sequence[str]]) -> List[str]:
    # What follows an address is a routing domain.
    return [listened.split()[0] for listened in values.get("listenaddress", ())]


def chosen(settings: Settings, like: Connection, host: Host, has_others: bool) -> Chosen:
    """Return connections of root and of people that match entries fit, a bounded number of them.

    All are made from the connection `like`. There is one for each set of times. Where others have Match lines, too
    (`has_others`), which may override ours, there are as many as the bound allows.
    """
    if not settings.blocks:
        return Chosen(like._replace(user="root"), (), ())
    from ..patterns import example, example_address
    from . import accounts

    numbered = list(enumerate(settings.blocks))
    first = {directives: number for number, (_, directives) in reversed(numbered)}
    numbered.sort(key=lambda one: (first[one[1][1]] != one[0], one[0]))
    asked = sorted(numbered[: _MOST_ENTRIES if has_others else min(len(first), _MOST_ENTRIES)])
    names = {number: example(entry.patterns) or like.user for number, (entry, _) in asked if entry.criterion == "user"}
    wanted: List[Tuple[Sequence[str], Sequence[str]]] = []
    if any(entry.criterion == "group" for entry, _ in settings.blocks):
        # In which groups root is matters, and those whom other entries name.
        wanted = [((name,), ()) for name in ("root", *names.values())]
        groups = [entry.patterns for _, (entry, _) in asked if entry.criterion == "group"]
        wanted += [((), (pattern,)) for patterns in groups for pattern in patterns]
    people = accounts.fitting(wanted, host)
    known = dict(zip(wanted, people or ()))
    account = known.get((("root",), ()))
    root = like._replace(user="root", groups=account.groups if account else ()) if account or not wanted else None
    connections: List[Connection] = []
    notes = []
    for position, (entry, _) in asked:
        account = next(filter(None, (known.get(((), (pattern,))) for pattern in entry.patterns)), None)
        if entry.criterion == "address":
            connections.append(like._replace(address=example_address(entry.patterns) or like.address))
        elif entry.criterion == "user" and (people is not None or not wanted):
            # sshd compares names, there need be no such user.
            account = known.get(((names[position],), ()))
            connections.append(like._replace(user=names[position], groups=account.groups if account else ()))
        elif account:
            connections.append(like._replace(user=account.user, groups=account.groups))
        else:
            why = "fits nobody who is known here yet" if people is not None else "needs names that nothing here answers"
            notes.append(f"match[{position}] is not verified, Match {sshd_config.criterion(entry)} {why}")
    if len(asked) < len(numbered):
        notes.append(f"{len(numbered) - len(asked)} of {len(numbered)} match entries are read, not asked about")
    return Chosen(root, tuple(dict.fromkeys(connections)), tuple(notes))
