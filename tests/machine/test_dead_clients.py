"""When each sshd drops a client that stopped answering, and that it keeps one that is merely idle."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Iterator, NamedTuple

import pytest
from baking import bake
from clients import Client
from machine import RELEASES, Machine

ASKED = 20


class Measured(NamedTuple):
    """What became of two clients of one machine: one was frozen, one idle."""

    dropped_after: float
    logged: bool
    idle_one_answers: bool


def measure(suite: str) -> Measured:
    """Freeze one of two clients and wait for its end."""
    with Machine(suite, f"#cloud-config\nssh_keepalive:\n  unresponsive_timeout: {ASKED}s\n") as machine:
        bake(machine)
        machine.boot()
        machine.wait()
        with Client(machine) as idle, Client(machine) as frozen:
            frozen.freeze()
            dropped_after = frozen.seconds_until_dropped(timeout=3 * ASKED)
            log = machine.run("journalctl", "-b", "--no-pager").stdout
            logged = re.findall("Timeout, client not responding from user root", log)
            return Measured(dropped_after, len(logged) == 1, idle.served() and idle.answers())


@pytest.fixture(scope="module")
def measured() -> Iterator[dict[str, Measured]]:
    """Measure all releases at the same time, since it is waiting that takes the time."""
    with ThreadPoolExecutor(len(RELEASES)) as pool:
        yield dict(zip(RELEASES, pool.map(measure, RELEASES)))


def test_a_frozen_client_is_dropped_at_the_promised_second(suite: str, measured: dict[str, Measured]) -> None:
    print(f"{RELEASES[suite].name}: asked {ASKED} s, measured {measured[suite].dropped_after:.1f} s")
    # sshd counts whole seconds, and a machine that is busy notices a little later.
    assert ASKED - 1 <= measured[suite].dropped_after <= ASKED + 1
    assert measured[suite].logged


def test_an_idle_client_that_answers_is_kept(suite: str, measured: dict[str, Measured]) -> None:
    assert measured[suite].idle_one_answers
