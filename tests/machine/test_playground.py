"""The machine to play with in CONTRIBUTING.md."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
TEXT = (TOP / "CONTRIBUTING.md").read_text()


def test_the_machine_to_play_with_keeps_its_policy() -> None:
    (block,) = re.findall("^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    (folder,) = re.findall("in `.venv/bin/python` with `(.*)` as its folder", TEXT)
    answer = subprocess.run((sys.executable, "-c", block), cwd=TOP / folder, stdout=subprocess.PIPE, text=True)
    lines = answer.stdout.splitlines()
    assert lines[0] == "enforced: a client that stopped answering is disconnected 180 s after its last sign of life"
    assert "clientaliveinterval 5" in lines
