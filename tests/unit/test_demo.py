"""What make demo refuses, before it installs or boots anything."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from releases import RELEASES

TOP = Path(__file__).resolve().parents[2]
KNOWN = "bullseye bookworm trixie forky"


def said(command):
    # What runs the tests may be make, whose own variables would have this one say where it is.
    others = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    answer = subprocess.run(command, cwd=str(TOP), env=others, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert answer.returncode == 2
    return answer.stdout.decode().splitlines()


@pytest.mark.parametrize("suites", ["lenny", "trixie lenny"])
def test_make_refuses_a_release_that_it_does_not_know(suites):
    (line,) = said(["make", "demo", "SUITES=" + suites])
    assert re.sub(r"^Makefile:\d+: ", "", line) == "*** SUITES: no such release, there are {}.  Stop.".format(KNOWN)


def test_the_demo_refuses_it_too():
    line = said([sys.executable, "tools/demo.py", "lenny"])[-1]
    assert line == "demo.py: error: no such release: lenny; there are {}".format(KNOWN.replace(" ", ", "))


def test_make_knows_all_releases():
    assert KNOWN.split() == list(RELEASES)
