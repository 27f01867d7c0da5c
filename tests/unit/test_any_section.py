"""What holds for every section: whatever YAML says there is refused in plain lines, or enforced to the word."""

import contextlib
import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from ssh_keepalive import sshd_config, tmout
from ssh_keepalive.openssh import translate
from ssh_keepalive.policy import PolicyError, load_schema, parse
from strategies import anything, criteria, injected, sections, spoiled

VERSIONS = [(8, 4), (9, 2), (10, 0), (10, 5)]
SECTION = load_schema()["properties"]["ssh_keepalive"]["properties"]


def outcome(section):
    """Return the policy of a section, or the list of its problems, which are lines that one can read."""
    try:
        return parse(section)
    except PolicyError as error:
        message, problems = str(error), list(map(str, error.problems))
    assert problems
    assert len(set(problems)) == len(problems)
    for problem in problems:
        assert problem.isprintable()
        assert problem.startswith("ssh_keepalive")
        assert len(problem) < 500
    assert message == "; ".join(problems)
    return problems


def translations(policy):
    """Return the settings for a policy on each version that can enforce it."""
    found = []
    for version in VERSIONS:
        with contextlib.suppress(PolicyError):
            found.append(translate(policy, version))
    return found


@given(sections())
def test_what_the_schema_allows_is_accepted(section):
    policy = parse(section)
    assert policy.enabled
    assert len(policy.match) == len(section.get("match", ()))


@given(anything() | spoiled() | sections())
def test_whatever_stands_there_is_refused_or_comes_back_from_what_is_written(section):
    policy = outcome(section)
    if policy is None or isinstance(policy, list):
        return
    assert parse(json.loads(json.dumps(policy.section()))) == policy
    for settings in translations(policy):
        assert sshd_config.read_policy(sshd_config.render(settings)) == policy


HUGE = 10**5000
ITSELF = []
ITSELF += [ITSELF, {"match": ITSELF}]
DEEP = []
for _ in range(5000):
    DEEP = [DEEP]
ALIASES = ["x" * 60] * 6
for _ in range(6):
    ALIASES = [ALIASES] * 6
UNWRITABLE = {
    "huge": HUGE,
    "list": [HUGE],
    "mapping": {HUGE: HUGE},
    "set": {HUGE},
    "itself": ITSELF,
    "deep": DEEP,
    "match-deep": {"match": DEEP},
    "aliases": ALIASES,
    "long": "x" * 10**6,
    "colons": ":" * 10**6,
}


@pytest.mark.parametrize("value", UNWRITABLE.values(), ids=UNWRITABLE)
def test_what_python_cannot_write_is_refused_in_plain_lines(value):
    for section in (
        value,
        {value if isinstance(value, (str, int)) else b"x": value},
        {"unresponsive_timeout": value, "client_alive_interval": value, "client_alive_count_max": value},
        {"idle_timeout": value, "tcp_keep_alive": value, "enabled": value, "idle_fallback": value, "match": value},
        {"match": [value, {"user": value, "group": [value], "address": value, "idle_timeout": value}]},
        {"idle_timeout": value, "idle_command_timeout": value},
        {"idle_timeout": "15m", "idle_command_timeout": value},
        {"idle_timeout": value, "idle_command_timeout": "2h"},
        {"match": [{"address": [value, value], "client_alive_count_max": value, "x": value}]},
    ):
        assert isinstance(outcome(section), list)


@st.composite
def with_nulls(draw, section):
    """Draw a section with nulls where nothing stands."""
    keys = draw(st.sets(st.sampled_from(sorted(SECTION))))
    found = {**dict.fromkeys(keys), **section}
    if isinstance(section.get("match"), list):
        keys = draw(st.sets(st.sampled_from(sorted(SECTION["match"]["items"]["properties"]))))
        found["match"] = [{**dict.fromkeys(keys), **one} if isinstance(one, dict) else one for one in found["match"]]
    return found


@given(st.data(), spoiled() | sections())
def test_null_is_absent(data, section):
    assert outcome(data.draw(with_nulls(section))) == outcome(section)


LINE = re.compile(
    "Match (User|Group) [A-Za-z0-9_.*?@+$][A-Za-z0-9_.*?@+$,-]*|Match Address [0-9A-Fa-f:.,/]+"
    "|(    )?(ClientAliveInterval|ClientAliveCountMax|UnusedConnectionTimeout) [0-9]{1,5}"
    r"|(    )?ChannelTimeout session:\*=(?P<time>[0-9]{1,5}) global=(?P=time)|TCPKeepAlive (yes|no)"
    r"|(    )?ChannelTimeout session:command=(?P<longer>[0-9]{1,6}) session:subsystem:\*=(?P=longer) "
    r"session:\*=[0-9]{1,5} global=(?P=longer)"
)


@given(injected())
@example({"match": [{"user": "a\n", "idle_timeout": 60}]})
@example({"match": [{"group": "a,b", "idle_timeout": 60}]})
def test_no_text_becomes_a_line_of_its_own(section):
    policy = outcome(section)
    for settings in translations(policy) if not isinstance(policy, list) else ():
        header, comment, *lines, end = re.split(r"[^ -~]", sshd_config.render(settings))
        assert header.startswith("# ")
        assert json.loads(comment.split(": ", 1)[1]) == policy.section()
        assert all(map(LINE.fullmatch, lines))
        assert len(lines) == len(settings.directives) + sum(1 + len(block) for _, block in settings.blocks)
        given = [[one[key]] if isinstance(one[key], str) else one[key] for one, key in criteria(section)]
        matches = [line.split(" ", 2)[2].split(",") for line in lines if line.startswith("Match ")]
        assert matches == given
        assert end == ""
        if settings.tmout:
            text, needle = tmout.render(1), "TMOUT=1\n"
            assert text.count(needle) == 1
            assert tmout.render(settings.tmout) == text.replace(needle, f"TMOUT={settings.tmout:d}\n")


def test_the_longest_drop_in_is_less_than_half_of_what_sshd_can_pass_on():
    times = {"client_alive_interval": 3600, "client_alive_count_max": 100}
    times.update(idle_timeout=86400, idle_command_timeout=604800)
    policy = parse({**times, "match": [{"user": "x" * 64, **times}] * 250})
    assert len(sshd_config.render(translate(policy, (10, 5)))) < 128 * 1024
