"""What the tests run with: the versions of tests/pins.txt. make newest, which has others, leaves this file out."""

import configparser
import re
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

TOP = Path(__file__).resolve().parents[2]
# The first is part of Python.
NOT_PINNED = {"pip", "cloud-init-ssh-keepalive"}


def lines(name):
    """Return the pins in a file, as they are written."""
    written = (TOP / "tests" / name).read_text().splitlines()
    return [line for line in written if line.strip() and not line.lstrip().startswith("#")]


def pins():
    """Return the versions that this Python gets."""
    requirements = [Requirement(line) for line in lines("pins.txt")]
    return {
        canonicalize_name(requirement.name): requirement.specifier
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate()
    }


@pytest.mark.parametrize("name", ["pins.txt", "pins-python3.6.txt"])
def test_every_pin_is_of_one_version(name):
    assert [line for line in lines(name) if not re.match(r"[a-z0-9-]+==[0-9][0-9a-z.]*( ; .*)?$", line)] == []
    assert len(lines(name)) > 10


def test_what_is_installed_is_what_is_pinned():
    installed = {canonicalize_name(found.metadata["Name"]): found.version for found in distributions()}
    pinned = pins()
    assert {
        name: version
        for name, version in installed.items()
        if name not in NOT_PINNED and (name not in pinned or version not in pinned[name])
    } == {}
    assert {"pytest", "ruff", "mypy", "pyyaml", "setuptools"} <= set(installed)


def test_what_make_installs_is_pinned():
    setup = configparser.ConfigParser()
    setup.read(str(TOP / "setup.cfg"))
    wanted = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    names = {canonicalize_name(Requirement(line).name) for text in wanted for line in text.split()}
    assert names - set(pins()) == set()
    assert {"jsonschema", "hypothesis", "vermin", "mutmut", "matplotlib"} <= names
