"""When each sshd ends sessions that nobody uses, what their users see, and that it leaves the others alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from machine import RELEASES
from sessions import KINDS, Outcome, outcomes, ready

ASKED = 60

POLICY = f"ChannelTimeout session:*={ASKED} global={ASKED}\nUnusedConnectionTimeout {ASKED}\n"
EXEMPTION = "Match User exempt\nChannelTimeout session:*=0 global=0\nUnusedConnectionTimeout 0\n"
POLICIES = {"bullseye": "", "bookworm": POLICY, "trixie": POLICY, "forky": POLICY + EXEMPTION}

# sshd knows ChannelTimeout.
KNOWING = tuple(suite for suite in RELEASES if suite != "bullseye")

USED = (
    "shell, typing lines",
    "shell, printing job",
    "shell, top",
    "ssh -tt host command, printing",
    "ssh host command, printing",
    "sftp, listing",
    "ssh -N -L, connection busy",
    "ssh -N -L, the busy connection",
    "master, one session idle, one busy",
    "master, the busy one of two",
    "the busy forward beside it",
    "editor, its busy connection",
)
PROMPTS = (
    "shell at its prompt",
    "master, the idle session",
    "master, the idle one of two",
    "shell beside an idle forward",
    "shell beside a busy forward",
)
COMMANDS = (
    "shell, silent job",
    "ssh -tt host command, silent",
    "ssh host command, silent",
    "sftp, idle",
    "editor, idle",
    "editor, busy",
)
UNUSED = ("ssh -N", "ssh -N -R, nobody connected", "master, session idle")
FORWARDED = ("ssh -N -L, the idle connection", "the idle forward beside it", "editor, its idle connection")


def use(suite: str) -> dict[str, Outcome]:
    with ready(suite, POLICIES[suite]) as machine:
        return outcomes(machine, seconds=2 * ASKED + 10)


@pytest.fixture(scope="module")
def every() -> dict[str, dict[str, Outcome]]:
    """What became of all sessions on all releases, which are used at the same time: it is waiting that takes time."""
    with ThreadPoolExecutor(len(RELEASES)) as pool:
        return dict(zip(RELEASES, pool.map(use, RELEASES)))


@pytest.fixture
def outcome(every: dict[str, dict[str, Outcome]], suite: str, name: str) -> Outcome:
    return every[suite][name]


def ended_as_asked(outcome: Outcome) -> bool:
    print(f"asked {ASKED} s, measured {outcome.ended and round(outcome.ended, 1)} s")
    # sshd counts whole seconds.
    return outcome.ended is not None and ASKED - 1 <= outcome.ended <= ASKED + 2


def lives(outcome: Outcome) -> bool:
    return set(outcome.ends.values()) == {None} and outcome.ended is None


def logged(outcome: Outcome, text: str) -> bool:
    return any(text in line for _, line in outcome.log)


@pytest.mark.parametrize("name", USED)
def test_what_is_used_lives(outcome: Outcome) -> None:
    assert lives(outcome)


@pytest.mark.parametrize("suite", KNOWING, indirect=True)
@pytest.mark.parametrize("name", (*PROMPTS, *COMMANDS))
def test_what_nobody_uses_ends_at_the_asked_time(outcome: Outcome, name: str) -> None:
    assert ended_as_asked(outcome)
    if "sshd" in outcome.ends:
        assert logged(outcome, f"channel 0: closing after {ASKED}")
