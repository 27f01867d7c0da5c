# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""What each OpenSSH does, and how a policy is expressed on it."""

import contextlib
import fnmatch
import ipaddress
import re
from typing import Dict, List, NamedTuple, Optional, Tuple, Union

from .policy import KEY, Entry, Path, Policy, PolicyError, Problem

Version = Tuple[int, int]
Directives = Tuple[Tuple[str, str], ...]

# Every fact that depends on the version and that no probe shows: (first version with it, first version without it).
_FACTS = {
    # sshd_config(5) Include; release notes of 8.2
    "reads-drop-ins": ((8, 2), None),
    # Probes go out at half the pace; fixed in 9.5, commit 9d7193a83. Measured: on 9.2 an interval of 5 s sends one
    # every 10 s, and 20/2 drops after 120 s; after 60 s on 8.4, 10.0 and 10.6.
    "doubles-client-alive": ((9, 2), (9, 5)),
    # sshd_config(5) ChannelTimeout and UnusedConnectionTimeout; release notes of 9.2. A machine's own older sshd is
    # asked, since distributions add what is newer.
    "channel-timeout": ((9, 2), None),
    # Before commit caa6d7d19 (10.5) ChannelTimeout in a Match block is ignored, though sshd -T prints it.
    "channel-timeout-in-match": ((10, 5), None),
    # sshd(8) -G; release notes of 9.3
    "shows-configuration": ((9, 3), None),
}

# NAT tables and Azure's load balancer (235 s) forget a connection between whose probes more seconds pass.
_LONGEST_PAUSE = 60
_SHORTEST_INTERVAL = 5
_FEWEST_PROBES = 3


class Expression(NamedTuple):
    """Hold what to write for a policy.

    `dropped_after` is when a silent client is gone and `tmout` what TMOUT is to be, in seconds; None for never.
    """

    directives: Directives
    dropped_after: Optional[int]
    blocks: Tuple[Tuple[Entry, Directives], ...] = ()
    tmout: Optional[int] = None


class Connection(NamedTuple):
    """Name who connects, and from where."""

    user: str
    groups: Tuple[str, ...]
    address: str


def parse_version(text: str) -> Optional[Version]:
    """Return the version that `sshd -V` or an old sshd's usage text names, None without one."""
    found = re.search(r"OpenSSH_([0-9]+)\.([0-9]+)", text)
    return (int(found.group(1)), int(found.group(2))) if found else None


def overrides(command_line: str) -> Dict[str, str]:
    """Return what sshd's own command line sets, by keyword in lower case: it comes before all files; sshd(8), -o."""
    return {keyword.lower(): value for keyword, value in re.findall(r" -o ?([A-Za-z]+)(?:=| )([^ ]+)", command_line)}


def has(version: Version, fact: str) -> bool:
    """Return whether a fact of the table holds for a version."""
    first, first_without = _FACTS[fact]
    return version >= first and (first_without is None or version < first_without)


def express(policy: Policy, version: Version, channel_timeout: Optional[bool] = None) -> Expression:
    """Return what keeps an enabled policy on this version; raise PolicyError with all that cannot be kept on it.

    `channel_timeout` says whether this sshd knows ChannelTimeout, where it could be asked.
    """
    if channel_timeout is None:
        channel_timeout = has(version, "channel-timeout")
    _refuse(policy, version, channel_timeout)
    directives, dropped_after = _client_alive(policy, version)
    tmout = None
    if channel_timeout:
        directives += _idle(policy)
    elif policy.idle_timeout:
        tmout = policy.idle_timeout
    if policy.tcp_keep_alive is not None:
        directives += (("TCPKeepAlive", "yes" if policy.tcp_keep_alive else "no"),)
    blocks = tuple((entry, _client_alive(entry, version)[0] + _idle(entry)) for entry in policy.match)
    return Expression(directives, dropped_after, blocks, tmout)


def variants(policy: Policy) -> List[Expression]:
    """Return what keeps an enabled policy on each kind of OpenSSH that can."""
    found = []
    for version in sorted({bound for bounds in _FACTS.values() for bound in bounds if bound}):
        for channel_timeout in (False, True):
            with contextlib.suppress(PolicyError):
                found.append(express(policy, version, channel_timeout))
    return found


def wanted(expression: Expression, connection: Connection) -> Directives:
    """Return what is to be in force for a connection: of the blocks that fit the first to set a keyword, or globals."""
    found: Dict[str, str] = {}
    for entry, directives in expression.blocks:
        if fits(entry, connection):
            found = {**dict(directives), **found}
    return tuple({**dict(expression.directives), **found}.items())


def fits(entry: Entry, connection: Connection) -> bool:
    """Return whether sshd takes an entry's block for a connection; ssh_config(5), PATTERNS."""
    if entry.criterion == "address":
        address = ipaddress.ip_address(connection.address)
        return any(address in ipaddress.ip_network(network) for network in entry.patterns)
    names = (connection.user,) if entry.criterion == "user" else connection.groups
    return any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in entry.patterns)


def _refuse(policy: Policy, version: Version, channel_timeout: bool) -> None:
    problems: List[Problem] = []
    if policy.idle_timeout and not channel_timeout and policy.idle_fallback == "none":
        problems.append(
            _cannot(
                (KEY, "idle_timeout"),
                policy.idle_timeout,
                version,
                "has no ChannelTimeout: set idle_fallback: tmout, which ends shells at their prompt and nothing else, "
                "remove idle_timeout, or use OpenSSH 9.2 or later",
            )
        )
    if not has(version, "channel-timeout-in-match"):
        problems += [
            _cannot(
                (KEY, "match", position, "idle_timeout"),
                entry.idle_timeout or "none",
                version,
                "takes no ChannelTimeout in Match: remove it, or use OpenSSH 10.5 or later",
            )
            for position, entry in enumerate(policy.match)
            if entry.idle_timeout is not None
        ]
    if problems:
        raise PolicyError(problems)


def _cannot(path: Path, value: Union[int, str], version: Version, why: str) -> Problem:
    return Problem(path, "{}: OpenSSH {}.{} {}".format(value, *version, why))


def _client_alive(times: Union[Policy, Entry], version: Version) -> Tuple[Directives, Optional[int]]:
    """Return the directives against dead clients, and when a silent client is gone."""
    interval, count = times.client_alive_interval, times.client_alive_count_max
    factor = 2 if has(version, "doubles-client-alive") else 1
    if times.unresponsive_timeout is not None:
        interval, count = _choose(times.unresponsive_timeout, factor)
    if interval is None or count is None:
        return (), None
    # Not interval x count, as sshd_config(5) reads: the count is exceeded only at the next interval's end.
    dropped_after = factor * interval * (count + 1) or None
    return (("ClientAliveInterval", str(interval)), ("ClientAliveCountMax", str(count))), dropped_after


def _idle(times: Union[Policy, Entry]) -> Directives:
    """Return the directives against idle sessions; 0 exempts, and is what sshd takes for none.

    Measured: `session:*` ends each shell, command and subsystem by itself on 9.2 to 10.6, where `session` ends none
    before 10.6 and `none` in a Match block refuses logins. `global` ends connections of which only silent forwards are
    left, from 9.7 on; it does nothing before. A connection with nothing left is what UnusedConnectionTimeout ends.
    """
    if times.idle_timeout is None:
        return ()
    return (
        ("ChannelTimeout", "session:*={0} global={0}".format(times.idle_timeout)),
        ("UnusedConnectionTimeout", str(times.idle_timeout)),
    )


def _choose(timeout: int, factor: int) -> Tuple[int, int]:
    """Return the interval (seconds) and the count that drop a silent client at `timeout`, never later.

    The longest interval among those that come closest; less than 5 s only where nothing longer comes within 1% or 1 s.
    """
    pairs = [(interval, timeout // (factor * interval) - 1) for interval in range(1, _LONGEST_PAUSE // factor + 1)]
    pairs = [pair for pair in pairs if pair[1] >= _FEWEST_PROBES]

    def early(pair: Tuple[int, int]) -> int:
        return timeout - factor * pair[0] * (pair[1] + 1)

    unhurried = [pair for pair in pairs if pair[0] >= _SHORTEST_INTERVAL and early(pair) <= max(1, timeout // 100)]
    return min(unhurried or pairs, key=lambda pair: (early(pair), -pair[0]))
