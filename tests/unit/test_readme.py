"""README: its table is the schema's, and what it tells people to type works."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from ssh_keepalive import __version__
from ssh_keepalive.cli import parser
from ssh_keepalive.policy import PolicyError, load_schema, parse

TOP = Path(__file__).resolve().parents[2]
README = (TOP / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall("^```{}\n(.*?)^```$".format(language), README, re.MULTILINE | re.DOTALL)


def key_table():
    """Return the table of keys as README has it, for those that are not reserved."""
    rows = ["| key | value | meaning |", "|---|---|---|"]
    for key, subschema in load_schema()["properties"]["ssh_keepalive"]["properties"].items():
        if subschema["examples"]:
            rows.append("| `{}` | {title} | {description} |".format(key, **subschema))
    return "\n".join(rows)


def test_the_table_of_keys_is_the_schemas():
    assert re.search("<!-- keys:.*-->\n(.*?)\n<!-- /keys -->", README, re.DOTALL).group(1) == key_table()


@pytest.mark.parametrize("block", blocks("yaml"))
def test_every_yaml_block_is_accepted(block):
    assert parse(yaml.safe_load(block)["ssh_keepalive"]) is not None


@pytest.mark.parametrize("file", sorted((TOP / "examples/user-data").iterdir()), ids=lambda file: file.name)
def test_every_user_data_example_is_accepted(file):
    text = file.read_text(encoding="utf-8")
    assert text.startswith("#cloud-config\n")
    assert parse(yaml.safe_load(text)["ssh_keepalive"]) is not None


def test_every_command_is_one_that_there_is():
    targets = re.findall("^([a-z-]+):", (TOP / "Makefile").read_text(), re.MULTILINE)
    lines = [shlex.split(line, comments=True) for block in blocks("sh") for line in block.splitlines()]
    assert [line[:2] for line in lines[:2]] == [["make", "demo"], ["make", "test"]]
    local = (TOP / "examples/local-runs.sh").read_text()
    run_by_test_local_runs = [shlex.split(line, comments=True) for line in local.splitlines()]
    for line in filter(None, lines):
        if line[0] == "make":
            assert line[1] in targets
        elif line[0] == "venv/bin/ssh-keepalive":
            parser().parse_args(line[1:])
        elif line[0] != "python3":  # that one is what test_project.py does
            assert line in run_by_test_local_runs


def test_the_error_of_the_schema_is_as_shown():
    with pytest.raises(PolicyError) as caught:
        parse({"unresponsive_timeout": "10s"})
    assert str(caught.value) + "\n" in "".join(blocks("text"))


def test_the_changelog_knows_the_version():
    assert "\n## [{}] ".format(__version__) in (TOP / "CHANGELOG.md").read_text(encoding="utf-8")
