"""GitHub's workflow: it calls what there is, pins what it uses, and may change nothing."""

import os
import re
from pathlib import Path

import yaml

TOP = Path(__file__).resolve().parents[2]
WORKFLOW = yaml.safe_load((TOP / ".github/workflows/ci.yml").read_text())
STEPS = [step for job in WORKFLOW["jobs"].values() for step in job["steps"]]


def test_it_runs_what_there_is():
    lines = [line.strip() for step in STEPS for line in step.get("run", "").splitlines()]
    makefile = (TOP / "Makefile").read_text()
    targets = re.findall(r"make ([a-z-]+)$", "\n".join(lines), re.MULTILINE)
    assert targets == ["package"]
    assert "\npackage:" in makefile
    assert "sudo .ci/run" in lines
    assert os.access(str(TOP / ".ci/run"), os.X_OK)


def test_what_make_package_builds_is_kept():
    (upload,) = [step["with"] for step in STEPS if step.get("uses", "").startswith("actions/upload-artifact@")]
    assert upload["path"] == "dist/*"
    assert "\n\t@packaging/build.sh dist\n" in (TOP / "Makefile").read_text()


def test_actions_are_github_s_own_of_one_major_version():
    used = [step["uses"] for step in STEPS if "uses" in step]
    assert [action for action in used if not re.match(r"actions/[a-z-]+@v[0-9]+$", action)] == []


def test_it_may_read_and_nothing_else():
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert [job for job in WORKFLOW["jobs"].values() if "permissions" in job] == []
