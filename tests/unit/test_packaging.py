"""The files that packages are built from, held against what they repeat."""

import re
import stat
from pathlib import Path

import pytest
from ssh_keepalive import __version__, cli, dropin, image

TOP = Path(__file__).resolve().parents[2]
PACKAGING = TOP / "packaging"
SPEC = "packaging/rpm/cloud-init-ssh-keepalive.spec"
SCHEMA = "/usr/lib/python3/dist-packages/" + image._SCHEMA_FILE


@pytest.mark.parametrize(
    ("file", "pattern"),
    [
        ("CHANGELOG.md", r"^## (\S+)"),
        ("packaging/debian/changelog", r"^cloud-init-ssh-keepalive \((.*)\)"),
        (SPEC, r"^Version: +(.*)$"),
        (SPEC, r"^\* .* - (.*)-1$"),
    ],
)
def test_the_newest_version_is_the_modules(file, pattern):
    assert re.search(pattern, (TOP / file).read_text(), re.MULTILINE).group(1) == __version__


@pytest.mark.parametrize(
    ("script", "lines"),
    [
        ("postinst", ["schema=" + SCHEMA, "original=$schema" + image.ORIGINAL]),
        ("postrm", ["schema=" + SCHEMA, "original=$schema" + image.ORIGINAL]),
        ("postrm", ["    rm -f " + path for path in (image._LIST_FILE, image._CLEAN_FILE)]),
        ("postrm", ["    rm -f {}/{}".format(*place) for place in image._WRITTEN]),
        ("triggers", ["interest-noawait " + path for path in (SCHEMA.rpartition("/")[0], image._CLOUD_CFG)]),
        ("postinst", ["drop_in=/etc/ssh/sshd_config.d/" + dropin.NAME]),
    ],
)
def test_the_scripts_know_the_paths(script, lines):
    assert set(lines) <= set((PACKAGING / "debian" / script).read_text().splitlines())


def test_the_manual_page_has_every_command():
    page = (PACKAGING / "ssh-keepalive.8").read_text()
    commands = next(action for action in cli.parser()._actions if action.dest == "command")
    described = dict(re.findall(r"^\.TP\n\.B (\S+)\n((?:[^.].*\n)+)", page, re.MULTILINE))
    for command in commands._choices_actions:
        text = " ".join(described[command.dest].split())
        assert text.startswith(command.help + ".")
    options = {
        option for parser in [cli.parser(), *commands.choices.values()] for option in parser._option_string_actions
    }
    assert [option for option in options if option.replace("-", "\\-") not in page] == []


@pytest.mark.parametrize("name", ["build.sh", "debian/rules"])
def test_what_is_run_can_be(name):
    assert (PACKAGING / name).stat().st_mode & stat.S_IXUSR
