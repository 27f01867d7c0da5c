"""What README.md shows of a machine: each command of its consoles, typed there, answers so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from baking import bake
from machine import Machine

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()
SUITE = "trixie"
SHOWN = "cat user-data.yaml"


def blocks(language: str) -> list[str]:
    return re.findall(f"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def commands(console: str) -> dict[str, str]:
    """Return what a console shows of each command."""
    _, *pieces = re.split(r"^\$ (.*)\n", console, flags=re.MULTILINE)
    return dict(zip(pieces[::2], pieces[1::2]))


def timeless(text: str) -> str:
    """Return a text without what each machine has its own of."""
    return re.sub(r"\(process \d+,", "(process N,", text)


@pytest.mark.parametrize("console", blocks("console"), ids=["enforced", "refused"])
def test_a_machine_says_what_is_shown(console: str) -> None:
    shown = commands(console)
    user_data = shown.get(SHOWN, blocks("yaml")[0])
    with Machine(SUITE, user_data) as machine:
        bake(machine)
        (machine.root / "root/user-data.yaml").write_text(user_data)
        machine.boot()
        machine.wait()
        said = {command: machine.sh(f"cd; {command}", check=False).stdout for command in shown}
    assert {command: timeless(text) for command, text in said.items()} == {
        command: timeless(text) for command, text in shown.items()
    }
