"""When each sshd ends commands and subsystems that have a time of their own, beside shells that do not."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from releases import RELEASES
from sessions import PACKAGES, Outcome, outcomes, ready
from test_idle_sessions import BARE, COMMANDS, EXEMPTED, JOB, PROMPTS, RSYNC, USED

SHELLS, FOR_COMMANDS = 60, 90
SECTION = f"{{idle_timeout: {SHELLS}, idle_command_timeout: {FOR_COMMANDS}, idle_fallback: tmout}}"
# From 10.5 on it works in Match, too.
ENTRY = f"{{user: [root, exempt], idle_timeout: {SHELLS}, idle_command_timeout: {FOR_COMMANDS}}}"
IN_MATCH = f"{{idle_timeout: {SHELLS}, match: [{ENTRY}]}}"


def use(suite: str) -> dict[str, Outcome]:
    with ready(suite, IN_MATCH if suite == "forky" else SECTION, PACKAGES) as machine:
        return outcomes(machine, 2.2 * SHELLS)


@pytest.fixture(scope="module")
def every() -> dict[str, dict[str, Outcome]]:
    with ThreadPoolExecutor(len(RELEASES)) as pool:
        return dict(zip(RELEASES, pool.map(use, RELEASES)))


@pytest.mark.slow
def test_each_kind_has_its_time(every: dict[str, dict[str, Outcome]], suite: str) -> None:
    found = {name: outcome.ended for name, outcome in every[suite].items()}
    print(found)
    # Only TMOUT there: it ends a bash at its prompt, and nothing else.
    by_tmout = suite == "bullseye"
    for name in (*PROMPTS, EXEMPTED, *(() if by_tmout else (JOB,))):
        assert abs(found[name] - SHELLS) < 3, name
    for name in (*COMMANDS, RSYNC):
        if not by_tmout:
            assert abs(found[name] - FOR_COMMANDS) < 4, name
        elif name != "ssh -tt host bash, at its prompt":
            assert found[name] is None, name
    # No session to any pattern, its connection is without one.
    if by_tmout:
        assert found[BARE] is None
    else:
        assert SHELLS - 1 <= found[BARE] <= 1.15 * SHELLS
    assert {found[name] for name in USED} == {None}
