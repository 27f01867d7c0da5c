"""The machine to play with in CONTRIBUTING.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TEXT = (Path(__file__).resolve().parents[2] / "CONTRIBUTING.md").read_text()


def test_the_machine_to_play_with_keeps_its_policy(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = re.findall("^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    exec(block, {})  # noqa: S102 that is what is shown
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "kept: a client that stopped answering is gone 180 s after its last sign of life"
    assert "clientaliveinterval 45" in lines
