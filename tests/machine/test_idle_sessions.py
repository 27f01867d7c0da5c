"""When each sshd ends sessions that nobody uses, what their users see, what survives, and that others live."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from releases import RELEASES
from sessions import KINDS, Outcome, outcomes, ready

ASKED = 60
# One release has another time for commands and subsystems; all have it in test_idle_commands.py.
FOR_COMMANDS = 90
WITH_COMMANDS = "trixie"

# What each release's machine gets: a section (YAML), or lines for its sshd.
POLICIES = dict.fromkeys(RELEASES, f"{{idle_timeout: {ASKED}s}}")
POLICIES["bullseye"] = f"{{idle_timeout: {ASKED}s, idle_fallback: tmout}}"
POLICIES[WITH_COMMANDS] = f"{{idle_timeout: {ASKED}s, idle_command_timeout: {FOR_COMMANDS}s}}"
POLICIES["forky"] = f"{{idle_timeout: {ASKED}s, match: [{{user: exempt, idle_timeout: none}}]}}"

# Only TMOUT there; elsewhere sshd ends sessions.
SHELLS_ONLY = "bullseye"
BY_SSHD = ("bookworm", "trixie", "forky")
# Where sshd ends connections that are forwarded, too: from 9.7 on.
FORWARDED_BY_SSHD = ("trixie", "forky")

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
    "ssh -J, idle, the inner sshd probes",
)
HALF_TYPED = "shell, typing without Enter"
EXEMPTED = "shell of somebody exempted"
PROMPTS = (
    "shell at its prompt",
    "master, the idle session",
    "master, the idle one of two",
    "shell beside an idle forward",
    "shell beside a busy forward",
)
JOB = "shell, silent job"
COMMANDS = (
    "ssh -tt host bash, at its prompt",
    "scp -O, slow",
    "ssh -tt host command, silent",
    "ssh host command, silent",
    "sftp, idle",
    "master, the silent command",
    "editor, idle",
    "editor, busy",
)
FORWARDED = (
    "ssh -N -L, the idle connection",
    "the idle forward beside it",
    "editor, its idle connection",
    "ssh -J, idle, the inner sshd does not probe",
)
MASTER_OF_COMMAND = "master, command silent"
MASTERS = ("master, session idle", MASTER_OF_COMMAND)
UNUSED = ("ssh -N", "ssh -N -R, nobody connected", *MASTERS)
# Not in these machines
RSYNC = "rsync, waiting for its other end"
BARE = "paramiko, a channel with nothing in it"
HELD_BY_FORWARDED = "ssh -N -L, connection idle"


def use(suite: str) -> dict[str, Outcome]:
    with ready(suite, POLICIES[suite]) as machine:
        return outcomes(machine, seconds=2.2 * ASKED)


@pytest.fixture(scope="module")
def every() -> dict[str, dict[str, Outcome]]:
    """What became of all sessions on all releases, which are used at the same time: it is waiting that takes time."""
    with ThreadPoolExecutor(len(RELEASES)) as pool:
        return dict(zip(RELEASES, pool.map(use, RELEASES)))


@pytest.fixture
def outcome(every: dict[str, dict[str, Outcome]], suite: str, name: str) -> Outcome:
    return every[suite][name]


def asked(suite: str, name: str) -> int:
    """Return after which time a session of a kind is to end."""
    is_command = name in (*COMMANDS, *FORWARDED, HELD_BY_FORWARDED, MASTER_OF_COMMAND)
    return FOR_COMMANDS if is_command and suite == WITH_COMMANDS else ASKED


def lives(outcome: Outcome) -> bool:
    return outcome.ended is None and set(outcome.ends.values()) == {None}


def ended_as_asked(outcome: Outcome, seconds: int = ASKED) -> bool:
    print(f"asked {seconds} s, measured {outcome.ended} s")
    return outcome.ended is not None and abs(outcome.ended - seconds) <= 0.05 * seconds


def ended_as_unused(outcome: Outcome, at_most: float, seconds: int = ASKED) -> bool:
    print(f"asked {seconds} s, measured {outcome.ended} s")
    return outcome.ended is not None and 0.95 * seconds <= outcome.ended <= at_most * seconds


def logged(outcome: Outcome, text: str) -> bool:
    return any(line.startswith(text) for _, line in outcome.log)


def test_every_kind_is_judged() -> None:
    single = {HALF_TYPED, EXEMPTED, JOB, RSYNC, BARE, HELD_BY_FORWARDED}
    assert {*USED, *PROMPTS, *COMMANDS, *FORWARDED, *UNUSED, *single} == set(KINDS)


@pytest.mark.parametrize("name", USED)
def test_what_is_used_lives(outcome: Outcome) -> None:
    assert lives(outcome)


@pytest.mark.parametrize("name", [*PROMPTS, JOB, *COMMANDS])
@pytest.mark.parametrize("suite", BY_SSHD, indirect=True)
def test_a_session_that_nobody_uses_ends_at_the_asked_time(outcome: Outcome, suite: str, name: str) -> None:
    assert ended_as_asked(outcome, asked(suite, name))
    if "sshd" in outcome.ends:  # the log of a connection is told with the session that opened it
        assert logged(outcome, f"channel 0: closing after {asked(suite, name)}")


@pytest.mark.parametrize("name", ["shell at its prompt", "ssh -tt host command, silent", "ssh host command, silent"])
@pytest.mark.parametrize("suite", BY_SSHD, indirect=True)
def test_the_user_gets_an_exit_status_of_255_and_no_word(outcome: Outcome) -> None:
    assert outcome.status == 255
    assert "clos" not in outcome.output
    assert "time" not in outcome.output


@pytest.mark.parametrize("name", ["sftp, idle"])
@pytest.mark.parametrize("suite", BY_SSHD, indirect=True)
def test_sftp_says_that_it_was_closed_and_waits(outcome: Outcome) -> None:
    assert outcome.output.rstrip().endswith("Connection closed.")
    assert outcome.ends["client"] is None


@pytest.mark.parametrize("suite", BY_SSHD, indirect=True)
def test_what_a_terminal_holds_dies_and_the_rest_survives(every: dict[str, dict[str, Outcome]], suite: str) -> None:
    assert every[suite]["shell, silent job"].ends["job"] is not None
    assert every[suite]["ssh -tt host command, silent"].ends["command"] is not None
    assert every[suite]["shell at its prompt"].ends["nohup"] is None
    assert every[suite]["ssh host command, silent"].ends["command"] is None


@pytest.mark.parametrize("name", ["shell beside a busy forward", "editor, busy"])
def test_a_busy_forward_keeps_the_client_whose_session_has_ended(outcome: Outcome) -> None:
    assert outcome.ends["client"] is None
    assert outcome.ends["sshd"] is None


@pytest.mark.parametrize("name", [HALF_TYPED])
@pytest.mark.parametrize("suite", BY_SSHD, indirect=True)
def test_typing_counts_without_enter(outcome: Outcome) -> None:
    assert lives(outcome)


@pytest.mark.parametrize("name", UNUSED)
@pytest.mark.parametrize("suite", BY_SSHD, indirect=True)
def test_a_connection_without_a_session_ends(outcome: Outcome, suite: str, name: str) -> None:
    # After the end of a session its time begins anew from 10.3 on; before, it has begun with the last traffic, and does
    # so anew while it runs out beside a session, as it does beside a command with a longer time.
    again = {"forky": MASTERS, WITH_COMMANDS: (MASTER_OF_COMMAND,)}
    assert ended_as_unused(outcome, 2.1 if name in again.get(suite, ()) else 1.25, asked(suite, name))
    assert logged(outcome, "terminating inactive connection from user root ")
    assert outcome.status == 255
    assert outcome.output.rstrip().endswith("Connection to 127.0.0.1 closed by remote host.")


@pytest.mark.parametrize("name", [*FORWARDED, HELD_BY_FORWARDED])
def test_an_idle_forward_ends_where_sshd_can(outcome: Outcome, suite: str, name: str) -> None:
    if suite not in FORWARDED_BY_SSHD:
        assert lives(outcome)
    elif name == HELD_BY_FORWARDED:
        # Its own end and, after it, that of the connection
        assert ended_as_unused(outcome, 2.1 if suite in ("forky", WITH_COMMANDS) else 1.25, asked(suite, name))
    else:
        assert ended_as_asked(outcome, asked(suite, name))


@pytest.mark.parametrize("name", [EXEMPTED])
def test_somebody_is_exempted_by_match_where_there_is_one(outcome: Outcome, suite: str) -> None:
    assert lives(outcome) if suite == "forky" else ended_as_asked(outcome)


@pytest.mark.parametrize("name", [*PROMPTS, HALF_TYPED])
@pytest.mark.parametrize("suite", [SHELLS_ONLY], indirect=True)
def test_tmout_ends_a_shell_at_its_prompt_and_says_so(outcome: Outcome) -> None:
    assert ended_as_asked(outcome)
    assert "timed out waiting for input: auto-logout" in outcome.output


@pytest.mark.parametrize("name", [JOB, *COMMANDS[1:], *UNUSED])
@pytest.mark.parametrize("suite", [SHELLS_ONLY], indirect=True)
def test_tmout_ends_nothing_else(outcome: Outcome) -> None:
    assert lives(outcome)
