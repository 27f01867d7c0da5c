# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""What each OpenSSH does, and how a policy is expressed on it."""

import re
from typing import List, NamedTuple, Optional, Tuple

from .policy import Policy

Version = Tuple[int, int]
Directives = Tuple[Tuple[str, str], ...]

# Every fact that depends on the version and that no probe shows: (first version with it, first version without it).
_FACTS = {
    # sshd_config(5) Include; release notes of 8.2
    "reads-drop-ins": ((8, 2), None),
    # Probes go out at half the pace; fixed in 9.5, commit 9d7193a83. Measured: on 9.2 an interval of 5 s sends one
    # every 10 s, and 20/2 drops after 120 s; after 60 s on 8.4, 10.0 and 10.6.
    "doubles-client-alive": ((9, 2), (9, 5)),
}

# NAT tables and Azure's load balancer (235 s) forget a connection between whose probes more seconds pass.
_LONGEST_PAUSE = 60
_SHORTEST_INTERVAL = 5
_FEWEST_PROBES = 3


class Expression(NamedTuple):
    """Hold what to write for a policy; `dropped_after` is when a silent client is gone, in seconds, None for never."""

    directives: Directives
    dropped_after: Optional[int]


def parse_version(text: str) -> Optional[Version]:
    """Return the version that `sshd -V` or an old sshd's usage text names, None without one."""
    found = re.search(r"OpenSSH_([0-9]+)\.([0-9]+)", text)
    return (int(found.group(1)), int(found.group(2))) if found else None


def has(version: Version, fact: str) -> bool:
    """Return whether a fact of the table holds for a version."""
    first, first_without = _FACTS[fact]
    return version >= first and (first_without is None or version < first_without)


def express(policy: Policy, version: Version) -> Expression:
    """Return the directives that keep an enabled policy on this version."""
    interval, count = policy.client_alive_interval, policy.client_alive_count_max
    factor = 2 if has(version, "doubles-client-alive") else 1
    if policy.unresponsive_timeout is not None:
        interval, count = _choose(policy.unresponsive_timeout, factor)
    directives: List[Tuple[str, str]] = []
    dropped_after = None
    if interval is not None and count is not None:
        directives += [("ClientAliveInterval", str(interval)), ("ClientAliveCountMax", str(count))]
        if interval > 0:
            # Not interval x count, as sshd_config(5) reads: the count is exceeded only at the next interval's end.
            dropped_after = factor * interval * (count + 1)
    if policy.tcp_keep_alive is not None:
        directives.append(("TCPKeepAlive", "yes" if policy.tcp_keep_alive else "no"))
    return Expression(tuple(directives), dropped_after)


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
