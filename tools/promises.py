"""Asked against measured: when a dead and an idle client are gone, by the module and by the articles' 60/3."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from baking import bake
from clients import measure
from host import MachineError
from machine import Machine
from releases import RELEASES
from sessions import KINDS, Session

COUNT = 3  # the articles' ClientAliveCountMax; what they promise is that times the interval


def ended(asked: int) -> dict[str, dict[str, Any]]:
    """Return by release when clients are gone, in seconds since they were last heard of; None for never."""
    # At the same time, since it is waiting that takes the time; one after the other what is over long before the rest.
    with ThreadPoolExecutor(2 * len(RELEASES)) as pool:
        running = [pool.map(partial(by, asked), RELEASES) for by in (articles, module)]
        return {
            suite: {"asked": asked, **by_articles, **by_module}
            for suite, by_articles, by_module in zip(RELEASES, *running)
        }


def articles(asked: int, suite: str) -> dict[str, Any]:
    """Return when clients are gone by the pair that is said to end idle sessions after that time."""
    pair = f"{{client_alive_interval: {asked // COUNT}, client_alive_count_max: {COUNT}}}"
    measured = measure(pair, suite)
    # The idle one was watched for as long as the dead one lasted, which is longer than promised.
    assert measured.idle_one_answers
    return {"articles, dead": measured.dropped_after, "articles, idle": None}


def module(asked: int, suite: str) -> dict[str, Any]:
    """Return when clients are gone by the module."""
    measured = measure(f"{{unresponsive_timeout: {asked}}}", suite)
    assert measured.idle_one_answers
    return {"module, dead": measured.dropped_after, "module, idle": idle_shell(asked, suite)}


def idle_shell(asked: int, suite: str) -> float:
    """Return when a shell at its prompt was ended that nobody used, in seconds since it last printed something."""
    section = f"{{idle_timeout: {asked}, idle_fallback: tmout}}"
    with Machine(suite, f"#cloud-config\nssh_keepalive: {section}\n") as machine:
        bake(machine)
        machine.boot()
        machine.wait()
        with Session(machine, KINDS["shell at its prompt"]) as session:
            session.wait()
            time.sleep(0.5)  # until the prompt is there
            session.begin()
            while session.ends["command"] is None:
                if time.monotonic() > session.began + 3 * asked:
                    raise MachineError(f"an idle shell is there after {3 * asked} s")
                session.look()
                time.sleep(0.05)
            return session.ends["command"]
