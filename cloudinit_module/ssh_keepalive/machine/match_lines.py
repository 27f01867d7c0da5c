# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The Match lines in sshd's files whose blocks may set something, to be asked about; what they set is not read here."""

import re
from typing import AbstractSet, Any, Dict, Iterable, List, Mapping, NamedTuple, Sequence, Set, Tuple

from ..openssh import Connection, canonical
from ..patterns import Patterns, example_addresses, examples, is_within
from . import accounts, trace
from .host import Host

_EVERY_NETWORK = {"0.0.0.0/0", "::/0"}
_FIELDS = {"address": "address", "localaddress": "local_address", "host": "host", "localport": "local_port"}
# A keyword may be in quotes, or its end may; a quote, blanks or an equals sign end it (misc.c, strdelim).
_LINE = re.compile(r'[\s=]*([^\s="]*(?:"[^"]*")?)\s*=?\s*(.*)')


class Block(NamedTuple):
    """Hold a Match line's criteria, and the lines after it: what they set, by the places of the lines, FILE:LINE."""

    criteria: str
    lines: Dict[str, Tuple[str, str]]

    @property
    def name(self) -> str:
        """Return the criteria, normalized."""
        return normalized(self.criteria)

    def may_change(self, values: Mapping[str, AbstractSet[str]]) -> bool:
        """Return whether a line includes others, or gives one of the keywords another value than its only one."""
        return any(
            keyword == "include" or (keyword in values and values[keyword] != {value})
            for keyword, value in self.lines.values()
        )


def blocks(texts: Mapping[str, str]) -> List[Block]:
    """Return the blocks in the texts of files by name."""
    found: List[Block] = []
    for file, text in texts.items():
        is_in_block = False
        for number, line in enumerate(text.split("\n"), 1):
            keyword, value = _LINE.match(line).groups()  # type: ignore[union-attr]
            keyword = canonical(keyword.replace('"', ""))
            if keyword == "match":
                found.append(Block(re.sub(r"(^|\s)#.*", "", value), {}))
                is_in_block = True
            elif is_in_block:
                found[-1].lines[f"{file}:{number}"] = (keyword, value.strip())
    return found


def normalized(criteria: str) -> str:
    """Return criteria as they can be compared with what sshd traces: without quotes, comments and double blanks."""
    return " ".join(re.sub(r"(^|\s)#.*", "", criteria).replace('"', "").replace("=", " ").split()).lower()


def changing(matches: Iterable[str], among: Sequence[Block], values: Mapping[str, AbstractSet[str]]) -> List[str]:
    """Return those of the Match lines whose blocks may give a keyword another value than its only one."""
    harmless = {block.name for block in among} - {block.name for block in among if block.may_change(values)}
    return [match for match in matches if normalized(match) not in harmless and not trace.fits_nobody(match)]


def are_covered(match: str, by: Iterable[str]) -> bool:
    """Return whether everybody whom a Match line fits is sure to fit another, of those with one criterion."""
    if any(map(_fits_everybody, by)):
        return True
    mine = dict(trace.criteria(match))
    theirs: Dict[str, Set[str]] = {}
    for criteria in map(trace.criteria, by):
        criterion, patterns = criteria[0] if len(criteria) == 1 else ("", ())
        if _negated(patterns) <= _negated(mine.get(criterion, ())):
            theirs.setdefault(criterion, set()).update(one for one in patterns if not one.startswith("!"))
    return any(
        all(is_within(one, sorted(theirs[criterion])) for one in patterns if not one.startswith("!"))
        for criterion, patterns in mine.items()
        if criterion in theirs
    )


def _fits_everybody(match: str) -> bool:
    criterion, patterns = next(iter(trace.criteria(match)), (match.strip().lower(), ()))
    if criterion == "all":
        return True
    # A group has a name, or it fits none.
    is_any = "*" in patterns and criterion != "group"
    return len(trace.criteria(match)) == 1 and not _negated(patterns) and (is_any or _EVERY_NETWORK.issubset(patterns))


def _negated(patterns: Patterns) -> Set[str]:
    return {one for one in patterns if one.startswith("!")}


def connections_for(match: str, like: Connection, host: Host, most: int = 2) -> List[Connection]:
    """Return connections that a Match line fits, some for each of its patterns; none where nobody is found.

    That is one member of a group, and one or two for other patterns; with another number up to so many for each.
    """
    alternatives: List[List[Connection]] = []
    names: Dict[str, Patterns] = {}
    for criterion, patterns in trace.criteria(match):
        if criterion in ("user", "group"):
            names[criterion] = patterns
            continue
        values = example_addresses(patterns, most) if criterion.endswith("address") else examples(patterns, most)
        if criterion == "localport":
            values = [value for value in values if value.isdigit()]
        if criterion not in _FIELDS or not values:
            return []
        typed: List[Any] = [int(value) if criterion == "localport" else value for value in values]
        alternatives.append([like._replace(**{_FIELDS[criterion]: value}) for value in typed])
    if names:
        people = _people(names.get("user", ()), names.get("group", ()), host, most)
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


def _people(users: Patterns, groups: Patterns, host: Host, most: int) -> List[accounts.Account]:
    """Return users that fit the patterns, some for each pattern of groups."""
    excluded = tuple(pattern for pattern in groups if pattern.startswith("!"))
    wanted = [(users, (pattern, *excluded)) for pattern in groups if not pattern.startswith("!")]
    # sshd compares names: there need be no such user. In which groups one is that there is matters to other lines.
    names = [] if groups else examples(users, most)
    wanted += [] if groups else [(users, ()), *(((name,), ()) for name in names)]
    found = accounts.several(wanted, host, most - 1) or []
    known = {account.user: account for people in found for account in people}
    return [*known.values(), *(accounts.Account(name, ()) for name in names if name not in known)]


def _merged(like: Connection, connections: Iterable[Connection]) -> Connection:
    """Return a connection with all that others have and one like them has not."""
    changes: Dict[str, Any] = {}
    for one in connections:
        changes.update({name: value for name, value in one._asdict().items() if value != getattr(like, name)})
    return like._replace(**changes)
