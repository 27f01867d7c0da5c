# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""What a policy means to the people who are logged in."""

from typing import List

from .openssh import express
from .policy import KEY, Policy, Problem

# One on which the pair means what it does on most, and one of those (9.2 to 9.4) on which it means twice that
_USUAL = (10, 0)
_DOUBLING = (9, 2)
# Backups and Ansible's tasks are often silent for some minutes.
_SHORTEST_HARMLESS_IDLE = 600


def surprises(policy: Policy) -> List[Problem]:
    """Return what is legal, but hardly what somebody expects who wrote it."""
    found = []
    interval, count = policy.client_alive_interval, policy.client_alive_count_max
    if interval and count:
        usual, doubled = (express(policy, version).dropped_after for version in (_USUAL, _DOUBLING))
        message = (
            "{0} x {1} reads like {2} s, but a dead client is dropped after {3} s, on OpenSSH 9.2 to 9.4 after {4} s: "
            "unresponsive_timeout means the same everywhere"
        )
        message = message.format(interval, count, interval * count, usual, doubled)
        found.append(Problem((KEY, "client_alive_interval"), message))
    idle = policy.idle_timeout
    if idle:
        if policy.unresponsive_timeout is None and not interval:
            message = "a client that stopped answering stays until it counts as idle: add unresponsive_timeout, too"
            found.append(Problem((KEY, "idle_timeout"), message))
        if idle < _SHORTEST_HARMLESS_IDLE:
            message = (
                "below 10m: a command that prints nothing for so long, a backup or an Ansible task, counts as idle"
            )
            found.append(Problem((KEY, "idle_timeout"), message))
    return found
