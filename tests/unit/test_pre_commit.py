"""The hook as pre-commit runs it, from the project's own repository."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ssh_keepalive import __version__
from user_data_files import BAD, GOOD

TOP = Path(__file__).resolve().parents[2]
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", ".*cache*", "build", "dist", "*.egg-info", "__pycache__")
GIT = ("git", "-c", "user.name=x", "-c", "user.email=x@example.org")


def commit(folder, tag):
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", tag], ["tag", tag]):
        subprocess.run([*GIT, *words], cwd=str(folder), check=True)


@pytest.mark.slow
def test_the_hook_refuses_a_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("PRE_COMMIT_HOME", str(tmp_path / "cache"))
    project, theirs = tmp_path / "project", tmp_path / "theirs"
    shutil.copytree(str(TOP), str(project), symlinks=True, ignore=LEFT_OUT)
    commit(project, "v" + __version__)
    theirs.mkdir()
    (theirs / "web-user-data.yaml").write_text(GOOD)
    (theirs / "bad-user-data.yaml").write_text(BAD)
    (theirs / "values.yaml").write_text("a: [")
    hook = {"id": "ssh-keepalive-check", "args": ["--openssh", "debian-12"]}
    repository = {"repo": str(project), "rev": "v" + __version__, "hooks": [hook]}
    (theirs / ".pre-commit-config.yaml").write_text(yaml.safe_dump({"repos": [repository]}))
    commit(theirs, "x")
    command = [str(Path(sys.executable).with_name("pre-commit")), "run", "--all-files", "--color=never"]
    answer = subprocess.run(command, cwd=str(theirs), stdout=subprocess.PIPE, text=True)
    assert answer.returncode == 1, answer
    said = re.findall("^(.*): error: ", answer.stdout, re.MULTILINE)
    assert said == ["bad-user-data.yaml:4:25"]
