# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The users and groups that this machine knows, looked up in a process of its own: a name service may never answer."""

import contextlib
import grp
import itertools
import json
import os
import pwd
import sys
from typing import Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from ..patterns import Patterns, fits, is_excluded
from .host import Host, SlowError

# Of an answer that takes longer a boot is not to wait.
_SECONDS = 3.0


class Account(NamedTuple):
    """Name a user, and the groups that it is in."""

    user: str
    groups: Tuple[str, ...]


def fitting(wanted: Sequence[Tuple[Patterns, Patterns]], host: Host) -> Optional[List[Optional[Account]]]:
    """Return for each pair of patterns of user and groups somebody whom they fit, None for nobody.

    Empty patterns fit everybody. Return None if nothing answers in time.
    """
    found = several(wanted, host, 1)
    return None if found is None else [next(iter(people), None) for people in found]


def several(wanted: Sequence[Tuple[Patterns, Patterns]], host: Host, most: int) -> Optional[List[List[Account]]]:
    """Return for each pair of patterns up to `most` accounts that fit; None if nothing answers in time."""
    if not wanted or not host.names_answer:
        return [] if host.names_answer else None
    top = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    call = f"import sys; sys.path.insert(0, {top!r}); from {__name__} import main; main()"
    try:
        answer = host.run(sys.executable, "-BISc", call, str(most), json.dumps(wanted), seconds=_SECONDS)
        found = json.loads(answer.out)
    except (SlowError, ValueError):
        host.names_answer = False
        return None
    return [[Account(user, tuple(groups)) for user, groups in people] for people in found]


def main() -> None:
    """Print the answers as JSON, in the process that may wait for ever."""
    most, wanted = int(sys.argv[1]), json.loads(sys.argv[2])
    print(json.dumps([list(itertools.islice(_fitting(*patterns), most)) for patterns in wanted]))


def _fitting(users: Patterns, groups: Patterns) -> Iterator[Account]:
    names = _members(groups) if groups else _users(users)
    seen: Set[str] = set()
    for account in filter(None, map(_account, names)):
        fits_groups = not groups or (
            any(fits(name, groups) for name in account.groups)
            # One group that is excluded excludes.
            and not any(is_excluded(name, groups) for name in account.groups)
        )
        if fits_groups and (not users or fits(account.user, users)) and account.user not in seen:
            seen.add(account.user)
            yield account


def _users(patterns: Patterns) -> Iterator[str]:
    names = [pattern for pattern in patterns if not set("*?!") & set(pattern)]
    yield from names
    # A directory may have so many users that it takes long to tell them all.
    if len(names) < len(patterns):
        yield from (user.pw_name for user in pwd.getpwall() if fits(user.pw_name, patterns))


def _members(patterns: Patterns) -> Iterator[str]:
    """Yield the users in the groups that patterns fit: by name first, a directory may know what it does not list."""
    groups = []
    for pattern in patterns:
        with contextlib.suppress(KeyError):
            groups.append(grp.getgrnam(pattern))
    if len(groups) < len(patterns):
        groups += [group for group in grp.getgrall() if fits(group.gr_name, patterns)]
    for group in groups:
        # sshd looks members up, and one that is only listed is none.
        yield from group.gr_mem
    numbers = {group.gr_gid for group in groups}
    if numbers:
        yield from (user.pw_name for user in pwd.getpwall() if user.pw_gid in numbers)


def _account(user: str) -> Optional[Account]:
    try:
        numbers = os.getgrouplist(user, pwd.getpwnam(user).pw_gid)
    except KeyError:
        return None
    names = []
    for number in numbers:
        with contextlib.suppress(KeyError):
            names.append(grp.getgrgid(number).gr_name)
    return Account(user, tuple(names))
