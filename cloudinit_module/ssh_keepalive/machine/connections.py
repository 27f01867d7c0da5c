# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The connections that an sshd is asked about: nobody's, root's, one of each match entry.

Most policies have no match entries: a boot imports what those need only with them.
"""

from typing import List, Mapping, NamedTuple, Optional, Sequence, Tuple

from .. import sshd_config
from ..openssh import NOBODY, Connection, Settings
from .host import Host
from .processes import WILDCARDS


class Chosen(NamedTuple):
    """Hold connections that fit match entries, and what is to be said of entries that none was found for."""

    connections: Tuple[Connection, ...]
    notes: Tuple[str, ...]


def nobody(values: Mapping[str, Sequence[str]]) -> Connection:
    """Return nobody, who connects to an address and a port that sshd reports; `values` are lists by keyword."""
    port = next(iter(values.get("port", ())), str(NOBODY.local_port))
    for listened in values.get("listenaddress", ()):
        address, _, own_port = listened.rpartition(":")
        if own_port.isdigit():
            port = own_port
        if address.strip("[]") not in WILDCARDS:
            return NOBODY._replace(local_address=address.strip("[]"), local_port=int(port))
    return NOBODY._replace(local_port=int(port))


def root(connection: Connection, settings: Settings, host: Host) -> Optional[Connection]:
    """Return root in another's place; None where it is not known in which groups root is, and that matters."""
    if not any(entry.criterion == "group" for entry, _ in settings.blocks):
        return connection._replace(user="root")
    from . import accounts

    found = accounts.fitting([(("root",), ())], host)
    return connection._replace(user="root", groups=found[0].groups) if found and found[0] else None


def of_entries(settings: Settings, like: Connection, host: Host) -> Chosen:
    """Return connections like another one that the patterns of each entry fit; sshd is asked about each."""
    if not settings.blocks:
        return Chosen((), ())
    from . import accounts
    from .patterns import example, example_address

    patterns = [pattern for entry, _ in settings.blocks if entry.criterion == "group" for pattern in entry.patterns]
    people = accounts.fitting([((), (pattern,)) for pattern in patterns], host)
    in_group = dict(zip(patterns, people or ()))
    connections: List[Connection] = []
    notes = []
    for position, (entry, _) in enumerate(settings.blocks):
        found: List[Connection] = []
        for pattern in entry.patterns:
            if entry.criterion == "address":
                found.append(like._replace(address=example_address([pattern]) or like.address))
            elif entry.criterion == "user":
                # sshd compares names, there need be no such user.
                found.append(like._replace(user=example([pattern]) or like.user))
            elif in_group.get(pattern):
                account = in_group[pattern]
                found.append(like._replace(user=account.user, groups=account.groups))  # type: ignore[union-attr]
        connections += found
        if not found:
            why = "fits nobody who is known here yet" if people is not None else "needs names that nothing here answers"
            notes.append(f"match[{position}] is not verified, Match {sshd_config.criterion(entry)} {why}")
    return Chosen(tuple(connections), tuple(notes))
