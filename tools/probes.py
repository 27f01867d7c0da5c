"""What probes cost while nothing else happens: bytes and packets of a connection, and sshd's time for many."""

from __future__ import annotations

import contextlib
import time
from typing import NamedTuple

from machine import Machine
from networks import Network
from pages import table
from releases import RELEASES
from sessions import Session, held_open, ready

HOUR = 3600
MANY = 1000
# The two ends of what is usual, and what was chosen before
PAIRS = ("5/35", "10/17", "45/3")
# On a release in the middle
SUITE = "trixie"


class Cost(NamedTuple):
    """What an idle connection costs in an hour: packets and bytes both ways, and seconds of sshd's CPU."""

    packets: float
    bytes: float
    cpu: float


def cost(suite: str, pair: str, connections: int, seconds: float) -> Cost:
    """Measure some idle connections for some seconds; the pair is sshd's, INTERVAL/COUNT."""
    interval, count = pair.split("/")
    with ready(suite, f"ClientAliveInterval {interval}\nClientAliveCountMax {count}\n") as machine:
        machine.boot()
        machine.wait()
        network = Network.laid(machine, 1)
        with contextlib.ExitStack() as stack:
            for _ in range(connections):
                session = stack.enter_context(Session(machine, held_open(""), network, subnet=1))
                session.wait()
            time.sleep(5)
            before = network.traffic()
            cpu, began = _cpu(machine), time.monotonic()
            time.sleep(seconds)
            after = network.traffic()
            hours = connections * (time.monotonic() - began) / HOUR
            spent = _cpu(machine) - cpu
        traffic, packets = (after[0] - before[0], after[1] - before[1])
        return Cost(packets / hours, (traffic - 14 * packets) / hours, spent / hours)


def _cpu(machine: Machine) -> float:
    """Return what all processes of sshd have had of the CPU so far, in seconds; proc(5), schedstat."""
    script = "for pid in $(pgrep -f ^sshd); do cut -d ' ' -f 1 /proc/$pid/schedstat; done"
    return sum(map(int, machine.sh(script).stdout.split())) / 1e9


def tables(found: dict[str, Cost]) -> list[str]:
    """Return what the pairs for three minutes cost."""
    rows = [
        [pair, f"{one.packets:.0f}", f"{one.bytes / 1000:.0f} kB", f"{100 * MANY * one.cpu / HOUR:.1f}%"]
        for pair, one in found.items()
    ]
    head = ["interval and count for 3 minutes", "packets an hour", "bytes an hour", f"of a core for {MANY} of them"]
    return [
        f"On OpenSSH {RELEASES[SUITE].openssh}, both ways together, for each connection that is idle:",
        "",
        *table(head, rows),
    ]
