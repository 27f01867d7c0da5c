"""README: what it says of keys, releases and times is so, and what it tells people to type works."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from releases import RELEASES
from ssh_keepalive import __version__
from ssh_keepalive.check.distributions import version_of
from ssh_keepalive.cli import parser
from ssh_keepalive.openssh import _FACTS, drop_times
from ssh_keepalive.policy import Policy, load_schema, parse

TOP = Path(__file__).resolve().parents[2]
README = (TOP / "README.md").read_text(encoding="utf-8")
HEADING = re.compile("^#+ (.*)$", re.MULTILINE)


def text(file):
    return (TOP / file).read_text(encoding="utf-8")


def anchor(heading):
    """Return what GitHub calls a heading in links."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def blocks(language):
    return re.findall("^```{}\n(.*?)^```$".format(language), README, re.MULTILINE | re.DOTALL)


def key_table():
    """Return the table of keys as README has it, for those that are not reserved."""
    rows = ["| key | value | meaning |", "|---|---|---|"]
    for key, subschema in load_schema()["properties"]["ssh_keepalive"]["properties"].items():
        if subschema["examples"]:
            rows.append("| `{}` | {title} | {description} |".format(key, **subschema))
    return "\n".join(rows)


def test_no_description_has_marks_that_an_editor_shows():
    assert "`" not in (TOP / "schema/ssh-keepalive.schema.json").read_text()


def test_the_table_of_keys_is_the_schemas():
    assert re.search("<!-- keys:.*-->\n(.*?)\n<!-- /keys -->", README, re.DOTALL).group(1) == key_table()


@pytest.mark.parametrize("block", [block for block in blocks("yaml") if "repos:" not in block])
def test_every_policy_is_accepted(block):
    assert parse(yaml.safe_load(block)["ssh_keepalive"]) is not None


def test_the_hook_is_there_and_takes_its_arguments():
    (block,) = [block for block in blocks("yaml") if "repos:" in block]
    (hook,) = yaml.safe_load(block)["repos"][0]["hooks"]
    (known,) = yaml.safe_load(text(".pre-commit-hooks.yaml"))
    assert hook["id"] == known["id"]
    parser().parse_args([*known["entry"].split()[1:], *hook["args"], "user-data.yaml"])


@pytest.mark.parametrize("file", sorted((TOP / "examples/user-data").iterdir()), ids=lambda file: file.name)
def test_every_user_data_example_is_accepted(file):
    text = file.read_text(encoding="utf-8")
    assert text.startswith("#cloud-config\n")
    assert parse(yaml.safe_load(text)["ssh_keepalive"]) is not None


def test_every_command_is_one_that_there_is():
    targets = re.findall("^([a-z-]+):", (TOP / "Makefile").read_text(), re.MULTILINE)
    lines = [shlex.split(line, comments=True) for block in blocks("sh") for line in block.splitlines()]
    # What tests/machine/test_packages.py and test_project.py do
    done = ["dpkg -i dist/*.deb", "python3 -m venv venv && venv/bin/pip install ."]
    for line in lines:
        if line[0] == "make":
            assert line[1] in targets
        elif Path(line[0]).name == "ssh-keepalive":
            parser().parse_args([word for word in line[1:] if not word.startswith(">")])
        else:
            assert " ".join(line) in done
    assert len(lines) > 10


@pytest.mark.parametrize(
    "page",
    ["README.md", "SECURITY.md", "CONTRIBUTING.md", *(f"docs/{page.name}" for page in sorted(TOP.glob("docs/*.md")))],
)
def test_every_link_leads_somewhere(page):
    folder = (TOP / page).parent
    for link in re.findall(r"""(?:\]\(|src(?:set)?=")([^)"]+)""", text(page)):
        file, _, heading = link.partition("#")
        assert (folder / file).exists()
        assert not heading or heading in map(anchor, HEADING.findall(text(folder / file if file else page)))


@pytest.mark.parametrize("release", re.findall(r"([A-Z]\w+[A-Za-z ]*) ([0-9.]+|testing) \(([0-9.]+)\)", README))
def test_a_release_has_that_openssh(release):
    name, number, openssh = release
    tested = {one.name: one.openssh for one in RELEASES.values()}
    slug = name.lower().replace(" linux", "").replace(" ", "-")
    known = version_of("{}-{}".format(slug, number))
    assert openssh == tested.get("{} {}".format(name, number)) or known == tuple(map(int, openssh.split(".")))


def test_the_tested_releases_are_named():
    assert [one for one in RELEASES.values() if "{0.name} ({0.openssh})".format(one) not in README] == []


def test_the_articles_pair_takes_the_times_that_are_shown():
    rows = re.findall(r"^\| (.*) \| ([0-9 to]+) s \| ([0-9]+) s \|$", README, re.MULTILINE)
    assert rows == [("9.2 to 9.4", "420 to 480", "180"), ("all others", "240", "180")]
    pair, three_minutes = Policy(client_alive_interval=60, client_alive_count_max=3), Policy(unresponsive_timeout=180)
    for version in {bound for bounds in _FACTS.values() for bound in bounds if bound}:
        after = "420 to 480" if (9, 2) <= version <= (9, 4) else "240"
        assert [drop_times(one, version) for one in (pair, three_minutes)] == [after, "180"]


def test_the_changelog_knows_the_version():
    assert "\n## [{}] ".format(__version__) in (TOP / "CHANGELOG.md").read_text(encoding="utf-8")
