"""Golden pairs: user-data, and the drop-in for an OpenSSH, its explanation, or the problems (there or anywhere)."""

import re
from pathlib import Path

import pytest
import yaml
from ssh_keepalive.check.explanation import explain
from ssh_keepalive.openssh import translate
from ssh_keepalive.policy import PolicyError, parse
from ssh_keepalive.sshd_config import render

CASES = Path(__file__).resolve().parents[1] / "cases"
PAIRS = sorted(file for file in CASES.glob("*/*") if file.name != "user-data.yaml")


def outcome(pair):
    section = yaml.safe_load((pair.parent / "user-data.yaml").read_text())["ssh_keepalive"]
    version = re.match(r"openssh-([0-9]+)\.([0-9]+)\.", pair.name)
    try:
        policy = parse(section)
        if version:
            there = (int(version.group(1)), int(version.group(2)))
            if pair.name.endswith(".explained.txt"):
                return explain(policy, there)
            settings = translate(policy, there)
            assert pair.suffix == ".conf"
            return render(settings)
    except PolicyError as error:
        assert pair.name.endswith("errors.txt")
        return "".join("{}\n".format(problem) for problem in error.problems)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: "{}/{}".format(pair.parent.name, pair.name))
def test_case(pair):
    assert outcome(pair) == pair.read_text()


def test_every_case_has_an_outcome():
    assert {pair.parent for pair in PAIRS} == set(CASES.iterdir())
    assert len(PAIRS) > 20
