"""When sshd drops clients that are dead, behind commands that print now and then."""

from __future__ import annotations

import contextlib
import time

from machine import Machine
from networks import Network
from pages import table
from releases import RELEASES
from sessions import NAMED, PACKAGES, Kind, Session, journal_of, ready, ssh

TMUX = "tmux with its default status line"
# The times that are asked for, all in one machine
ASKED = (60, 180)
# By TCP alone the last is gone after 940 s.
SECONDS = 1150.0


def _printing(seconds: int) -> Kind:
    return ssh(f"127.0.0.1 '{NAMED}; while sleep {seconds}; do echo; done'")


OUTPUTS = {
    "nothing": ssh(f"127.0.0.1 '{NAMED}; exec sleep 100000'"),
    **{f"a line every {seconds} s": _printing(seconds) for seconds in (20, 12, 7, 3)},
    "a line a second": _printing(1),
    "`top` (every 3 s)": ssh(f"-tt 127.0.0.1 '{NAMED}; exec top'"),
    TMUX: ssh(r'''-tt 127.0.0.1 "tmux -f /dev/null -L \$\$ new 'echo command is \$\$; exec sleep 100000'"'''),
}
# How a client dies
GONE, FROZEN = "the network is gone", "the client is frozen"

Found = dict[tuple[str, int, str], "float | None"]


def policy(asked: tuple[int, ...] = ASKED) -> str:
    """Return a section with the first of some times for everybody, and each other for clients of its subnets."""
    entries = [
        f"{{address: [10.1.{seconds}.0/24, 10.2.{seconds}.0/24], unresponsive_timeout: {seconds}}}"
        for seconds in asked[1:]
    ]
    return f"{{unresponsive_timeout: {asked[0]}, match: [{', '.join(entries)}]}}"


def dropped(
    suite: str, seconds: float = SECONDS, asked: tuple[int, ...] = ASKED, outputs: tuple[str, ...] = tuple(OUTPUTS)
) -> Found:
    """Return when clients were dropped on a release, in seconds since their last sign of life, None for not yet."""
    with ready(suite, policy(asked), PACKAGES if TMUX in outputs else ()) as machine:
        machine.boot()
        machine.wait()
        return dropped_in(machine, seconds, asked, outputs)


def dropped_in(machine: Machine, seconds: float, asked: tuple[int, ...], outputs: tuple[str, ...]) -> Found:
    """Return when clients were dropped in a machine, whose policy may have other times for them."""
    networks = {GONE: Network.laid(machine, 1), FROZEN: Network.laid(machine, 2)}
    sessions: dict[tuple[str, int, str], Session] = {}
    with contextlib.ExitStack() as stack:
        for way, network in networks.items():
            for time_out in asked:
                for output in outputs:
                    session = stack.enter_context(Session(machine, OUTPUTS[output], network, time_out))
                    sessions[way, time_out, output] = session
                    session.wait()
        time.sleep(2)
        journal = journal_of(machine)
        for session in sessions.values():
            session.begin(journal)
        for (way, _, _), session in sessions.items():
            if way == GONE:
                session.die()
        time.sleep(0.2)
        networks[GONE].lose()
        for (way, _, _), session in sessions.items():
            if way == FROZEN:
                session.die(freezes=True)
        until = time.monotonic() + seconds
        while time.monotonic() < until and any(session.ends["sshd"] is None for session in sessions.values()):
            for session in sessions.values():
                session.look()
            time.sleep(0.05)
        return {key: session.ends["sshd"] for key, session in sessions.items()}


def tables(found: dict[str, Found]) -> list[str]:
    """Return a table for each way to die: when clients were dropped, by release and by what was asked."""
    lines = []
    columns = [(suite, asked) for suite in found for asked in sorted({asked for _, asked, _ in found[suite]})]
    head = ["seconds", *(f"{RELEASES[suite].openssh}, asked {asked} s" for suite, asked in columns)]
    for way in (GONE, FROZEN):
        rows = [[output, *(_when(found[suite][way, asked, output]) for suite, asked in columns)] for output in OUTPUTS]
        lines += [f"**{way[0].upper()}{way[1:]}**", "", *table(head, rows), ""]
    return lines


def _when(seconds: float | None) -> str:
    return "lives" if seconds is None else f"{seconds:.0f}"
