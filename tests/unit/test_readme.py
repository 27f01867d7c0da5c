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
    for name, *arguments in filter(None, lines):
        if name == "make":
            assert arguments[0] in targets
        elif name == "venv/bin/ssh-keepalive":
            parser().parse_args(arguments)
        else:
            # Run by tests/unit/test_project.py and tests/machine/baking.py
            assert (name, *arguments[:2]) in [("python3", "-m", "venv"), ("cloud-init", "single", "--name")]


def test_the_error_of_the_schema_is_as_shown():
    with pytest.raises(PolicyError) as caught:
        parse({"unresponsive_timeout": "10s"})
    assert str(caught.value) + "\n" in "".join(blocks("text"))


def test_the_changelog_knows_the_version():
    assert "\n## {} ".format(__version__) in (TOP / "CHANGELOG.md").read_text(encoding="utf-8")
