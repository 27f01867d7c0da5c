"""CONTRIBUTING: what it names is there."""

import re
import shlex
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
TEXT = (TOP / "CONTRIBUTING.md").read_text()
MADE = {".venv", "/var/cache/cloud-init-ssh-keepalive", ".venv/bin/python", "dist/*"}


def test_every_file_is_there():
    names = {name for name in re.findall(r"`([^` ]*[/.][^` ]*)`", TEXT) if name != "vX.Y.Z"}
    assert [name for name in sorted(names - MADE) if not (TOP / name).exists()] == []
    assert len(names) > 10


def test_every_command_is_one_that_there_is():
    targets = re.findall("^([a-z-]+):", (TOP / "Makefile").read_text(), re.MULTILINE)
    (block,) = re.findall("^```sh\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    for line in block.splitlines():
        command, *arguments = shlex.split(line, comments=True)
        if command == "make":
            assert [word for word in arguments if "=" not in word and word not in targets] == []
        else:
            assert command == ".venv/bin/pytest"
            file, _, pattern = arguments
            assert pattern in (TOP / file).read_text() or pattern == "trixie"


def test_every_function_is_where_it_says():
    rows = re.findall(r"^\| .* \| `(\S+\.py)`: (.*) \|$", TEXT, re.MULTILINE)
    assert len(rows) == 4
    for file, said in rows:
        code = (TOP / file).read_text()
        names = re.findall("`([A-Za-z_]+)`", said)
        assert [name for name in names if not re.search(r"^ *(def|class) {0}\b|^{0} = ".format(name), code, re.M)] == []
