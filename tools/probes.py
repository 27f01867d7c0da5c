"""What probes cost while nothing else happens: bytes and packets of a connection, and sshd's time for many."""

from __future__ import annotations

import contextlib
import time
from typing import NamedTuple

from machine import Machine
from networks import Network
from sessions import Session, held_open, ready

HOUR = 3600


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
