"""GitHub's workflows: they call what there is, pin what they use, and may change nothing."""

import os
import re
import shlex
from pathlib import Path

import yaml
from ssh_keepalive.cli import parser

TOP = Path(__file__).resolve().parents[2]
WORKFLOWS = {file.name: yaml.safe_load(file.read_text()) for file in (TOP / ".github/workflows").iterdir()}
JOBS = [job for workflow in WORKFLOWS.values() for job in workflow["jobs"].values()]
STEPS = [step for job in JOBS for step in job["steps"]]


def test_when_they_run():
    # YAML 1.1 reads on as true.
    assert {name: set(workflow[True]) for name, workflow in WORKFLOWS.items()} == {
        "ci.yml": {"push", "pull_request"},
        "newest.yml": {"schedule", "workflow_dispatch"},
    }
    (weekly,) = WORKFLOWS["newest.yml"][True]["schedule"]
    assert re.match("[0-9]+ [0-9]+ [*] [*] [0-6]$", weekly["cron"])


def test_they_run_what_there_is():
    lines = [line.strip() for step in STEPS for line in step.get("run", "").splitlines()]
    makefile = (TOP / "Makefile").read_text()
    targets = re.findall(r"make ([a-z-]+)$", "\n".join(lines), re.MULTILINE)
    assert sorted(targets) == ["newest", "package"]
    assert [target for target in targets if f"\n{target}:" not in makefile] == []
    assert "sudo .ci/run" in lines
    assert os.access(str(TOP / ".ci/run"), os.X_OK)


def test_what_make_package_builds_is_kept():
    (upload,) = [step["with"] for step in STEPS if step.get("uses", "").startswith("actions/upload-artifact@")]
    assert upload["path"] == "dist/*"
    assert "\n\t@packaging/build.sh dist\n" in (TOP / "Makefile").read_text()


def test_actions_are_github_s_own_of_one_major_version():
    used = [step["uses"] for step in STEPS if "uses" in step]
    assert [action for action in used if not re.match(r"actions/[a-z-]+@v[0-9]+$", action)] == []


def test_they_may_read_and_nothing_else():
    assert [workflow["permissions"] for workflow in WORKFLOWS.values()] == [{"contents": "read"}] * 2
    assert [job for job in JOBS if "permissions" in job] == []


def test_newer_actions_are_proposed():
    dependabot = yaml.safe_load((TOP / ".github/dependabot.yml").read_text())
    assert dependabot["version"] == 2
    assert [update["package-ecosystem"] for update in dependabot["updates"]] == ["github-actions"]


def test_a_report_is_asked_for_with_commands_that_there_are():
    text = (TOP / ".github/ISSUE_TEMPLATE/bug.md").read_text()
    _, front, body = text.split("---\n", 2)
    assert set(yaml.safe_load(front)) == {"name", "about", "labels"}
    commands = [shlex.split(line) for line in re.findall("^ssh-keepalive ([a-z].*)$", body, re.MULTILINE)]
    assert commands
    for command in commands:
        parser().parse_args(command)
