"""The boot path on Python 3.6, which runs cloud-init on RHEL 8 and SLES 15."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
PINS = TOP / "tests/pins-python3.6.txt"
UNIT = TOP / "tests/unit"
# Drawn by hypothesis, or about what no machine runs
LEFT_OUT = ["any_bytes", "any_section", "bench", "completion", "contributing", "examples", "oldest_python"]
LEFT_OUT += ["demo", "editors", "fakes", "packaging", "pre_commit", "pins", "project", "readme", "workflow"]
# They take minutes, since each starts many fakes.
LONG = ["apply_files", "apply_recovery", "apply_refusals", "apply_restarts", "apply_ways", "interrupts", "status"]
LONG += ["status_reading", "status_request"]


def python_3_6():
    """Return a Python 3.6, from the path or pyenv; None without one."""
    pyenv = Path(os.environ.get("PYENV_ROOT", str(Path.home() / ".pyenv")))
    found = [str(file) for file in sorted(pyenv.glob("versions/3.6.*/bin/python3.6"))]
    return found[-1] if found else shutil.which("python3.6")


def is_chosen(file, names):
    """Return whether a file has one of the names, or is about what a machine runs and does not take long."""
    name = file.stem[len("test_") :]
    return name in names if names else name not in LEFT_OUT + LONG


@pytest.mark.skipif(sys.version_info < (3, 7), reason="this is what it starts")
@pytest.mark.parametrize(
    ("jsonschema", "names"),
    # Of the second, what only jsonschema can tell apart
    [
        ("2.6.0", None),
        pytest.param("2.6.0", LONG, marks=pytest.mark.slow),
        ("3.2.0", ["policy", "cases", "diagnostics"]),
    ],
    ids=["oldest", "oldest-long", "newest"],
)
def test_the_boot_path(jsonschema, names):
    python = python_3_6()
    if python is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no Python 3.6 on the path or in pyenv")
    venv = TOP / ".cache" / f"python3.6-jsonschema-{jsonschema}"
    installed = venv / "installed"
    if not installed.exists() or installed.read_text() != PINS.read_text():
        subprocess.run([python, "-m", "venv", "--clear", str(venv)], check=True)
        pip = [str(venv / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        pinned = {**os.environ, "PIP_CONSTRAINT": str(PINS)}
        # The pip that came with 3.6 knows none of today's wheels.
        subprocess.run([*pip, "--upgrade", "pip"], env=pinned, check=True)
        subprocess.run([*pip, "pytest", "PyYAML", f"jsonschema=={jsonschema}"], env=pinned, check=True)
        installed.write_text(PINS.read_text())
    files = sorted(str(file) for file in UNIT.glob("**/test_*.py") if is_chosen(file, names))
    assert (len(files) == len(names)) if names else (len(files) > 10)
    command = [str(venv / "bin/python"), "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    # These take long, and say the same on every Python.
    command += ["-k", "not killed_anywhere and not every_unresponsive_timeout"]
    answer = subprocess.run(command, cwd=str(TOP), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8")
    print(answer.stdout)
    assert answer.returncode == 0
    assert " passed" in answer.stdout
    assert "skipped" not in answer.stdout
