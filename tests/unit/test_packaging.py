"""The files that packages are built from, held against what they repeat."""

import os
import re
import shutil
import stat
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
from ssh_keepalive import __version__, cli, paths
from ssh_keepalive.image import clean_script
from ssh_keepalive.policy import load_schema

TOP = Path(__file__).resolve().parents[2]
PACKAGING = TOP / "packaging"
SPEC = "packaging/rpm/cloud-init-ssh-keepalive.spec.in"
TEMPLATES = sorted(PACKAGING.glob("*/*.in"))
SCHEMA = "/usr/lib/python3/dist-packages/cloudinit/config/schemas/schema-cloud-config-v1.json"
GREP = "grep -qs '^# BEGIN ssh-keepalive$' /etc/ssh/sshd_config"


def fill(*templates, program=PACKAGING / "template.py"):
    """Run packaging/template.py."""
    command = [sys.executable, "-B", str(program), *map(str, templates)]
    environment = {**os.environ, "PYTHONPATH": str(TOP / "cloudinit_module")}
    return subprocess.run(command, env=environment, stderr=subprocess.PIPE)


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """The text of each template with its paths, by its name without .in."""
    folder = tmp_path_factory.mktemp("packaging")
    for template in TEMPLATES:
        (folder / template.name).write_text(template.read_text())
    assert fill(*folder.iterdir()).returncode == 0
    return {template.stem: (folder / template.stem).read_text() for template in TEMPLATES}


@pytest.mark.parametrize(
    ("file", "pattern"),
    [
        ("CHANGELOG.md", r"^## \[(.*)\]"),
        ("packaging/debian/changelog.in", r"^cloud-init-ssh-keepalive \((.*)\)"),
        (SPEC, r"^Version: +(.*)$"),
        (SPEC, r"^\* .* - (.*)-1$"),
    ],
)
def test_the_newest_version_is_the_modules(file, pattern):
    assert re.search(pattern, (TOP / file).read_text(), re.MULTILINE).group(1) == __version__


@pytest.mark.parametrize(
    ("script", "lines"),
    [
        ("postinst", ["schema=" + SCHEMA, "original=$schema.ssh-keepalive-original"]),
        ("postrm", ["schema=" + SCHEMA, "original=$schema.ssh-keepalive-original"]),
        (
            "postrm",
            [
                "    rm -f /etc/cloud/cloud.cfg.d/99_zz_ssh_keepalive.cfg",
                "    rm -f /etc/cloud/clean.d/50-ssh-keepalive",
                "    rm -f /etc/ssh/sshd_config.d/00-ssh-keepalive.conf",
                "    rm -f /etc/profile.d/zz-ssh-keepalive.sh",
                "    for units in /usr/lib/systemd/system /lib/systemd/system; do",
                '        rm -f "$units/ssh-keepalive-note.service" "$units/ssh-keepalive-register.service"',
                "        for wants in cloud-init.target.wants ssh.service.wants sshd.service.wants; do",
                '            rm -f "$units/$wants/ssh-keepalive-note.service" '
                '"$units/$wants/ssh-keepalive-register.service"',
            ],
        ),
        (
            "triggers",
            [
                "interest-noawait " + SCHEMA.rpartition("/")[0],
                "interest-noawait /etc/cloud/cloud.cfg",
                "interest-noawait /etc/cloud/cloud.cfg.d",
            ],
        ),
        ("postinst", ["    [ -e /etc/ssh/sshd_config.d/00-ssh-keepalive.conf ] || " + GREP]),
        (
            "cloud-init-ssh-keepalive.spec",
            [
                "[ -e /etc/ssh/sshd_config.d/00-ssh-keepalive.conf ] || " + GREP + " || exit 0",
                "%ghost %attr(755, root, root) /usr/bin/ssh-keepalive",
                "%ghost %attr(644, root, root) /etc/cloud/cloud.cfg.d/99_zz_ssh_keepalive.cfg",
            ],
        ),
    ],
)
def test_the_scripts_know_the_paths(filled, script, lines):
    assert set(lines) <= set(filled[script].splitlines())


def test_nothing_is_left_to_fill_in(filled):
    names = ["changelog", "cloud-init-ssh-keepalive.spec", "control", "postinst", "postrm", "triggers"]
    assert sorted(filled) == names
    assert [name for name, text in filled.items() if re.search("@[A-Z_]+@", text)] == []


@pytest.mark.parametrize("line", ["#!{0}", "#! {0} -s", "#!/usr/bin/env python3", "#!/usr/bin/env -S {0} -s"])
def test_the_command_of_the_rpm_runs_with_the_python_that_cloud_init_names(filled, tmp_path, line):
    (script,) = re.findall("<<'EOF'\n(.*?\n)EOF\n", filled["cloud-init-ssh-keepalive.spec"], re.DOTALL)
    (tmp_path / "cloud-init").write_text(line.format(sys.executable) + "\nimport cloudinit\n")
    for old, new in (("/usr/bin/cloud-init", tmp_path / "cloud-init"), ("%{module}", TOP / "cloudinit_module")):
        assert script.count(old) == 1
        script = script.replace(old, str(new))
    (tmp_path / "command").write_text(script)
    command = ["sh", str(tmp_path / "command"), "--version"]
    assert subprocess.run(command, stdout=subprocess.PIPE).stdout.decode().split()[-1] == __version__


PUBLISHED = {"maintainer": "A B", "maintainer_email": "a@example.org", "url": "https://example.org/x"}


@pytest.fixture
def published(tmp_path):
    """A folder with a setup.cfg that says who publishes the packages."""
    setup = (TOP / "setup.cfg").read_text()
    for key, value in PUBLISHED.items():
        setup = re.sub("(?m)^(# )?{} =.*".format(key), "{} = {}".format(key, value), setup)
    (tmp_path / "setup.cfg").write_text(setup)
    return tmp_path


def test_who_publishes_it_is_said_once_and_packages_take_it_from_there(published):
    (published / "packaging").mkdir()
    shutil.copy(str(PACKAGING / "template.py"), str(published / "packaging"))
    names = ["debian/control.in", "debian/changelog.in", "rpm/cloud-init-ssh-keepalive.spec.in"]
    for name in names:
        shutil.copy(str(PACKAGING / name), str(published))
    assert fill(*published.glob("*.in"), program=published / "packaging/template.py").returncode == 0
    control, changelog, spec = [(published / Path(name).stem).read_text() for name in names]
    assert "\nMaintainer: A B <a@example.org>\nHomepage: https://example.org/x\n" in control
    assert "\n -- A B <a@example.org>  " in changelog
    assert "\nURL:            https://example.org/x\n" in spec
    assert " A B <a@example.org> - " in spec


def test_an_index_shows_readme_with_links_to_the_page_if_there_is_one(published):
    for name in ("setup.py", "README.md", "cloudinit_module/ssh_keepalive/__init__.py"):
        (published / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(str(TOP / name), str(published / name))

    def shown():
        command = [sys.executable, "-B", "-W", "ignore", "setup.py", "--quiet", "--long-description"]
        return subprocess.run(command, cwd=str(published), stdout=subprocess.PIPE, check=True).stdout.decode().strip()

    links = re.findall(r'(?:src="|\]\()(?!#)([^")]+)', shown())
    page = PUBLISHED["url"]
    assert "{}/raw/HEAD/docs/promise.svg".format(page) in links
    assert "{}/blob/HEAD/docs/images.md#packages-clouds-other-roots".format(page) in links
    assert [link for link in links if not link.startswith(page)] == []
    shutil.copy(str(TOP / "setup.cfg"), str(published))
    assert shown() == (TOP / "README.md").read_text(encoding="utf-8").strip()


def test_no_script_repeats_a_path_that_is_the_modules():
    known = [value for name, value in vars(paths).items() if name.isupper() and isinstance(value, str)]
    known = [
        value
        for value in known
        if value.startswith(("/etc/", "/usr/bin/", "/run/", "ssh-", "#")) and value != paths.SSH
    ]
    assert {"/etc/ssh/sshd_config", "# BEGIN ssh-keepalive", "/usr/bin/ssh-keepalive"} < set(known)
    scripts = [*TEMPLATES, *(PACKAGING / "debian" / name for name in ("prerm", "rules", "install"))]
    assert [(file.name, value) for file in scripts for value in known if value in file.read_text()] == []


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.in", "@NO_SUCH_NAME@", "module 'ssh_keepalive.paths' has no attribute 'NO_SUCH_NAME'"),
        ("x.sh", "@MAIN@", "x.sh: no template, its name does not end with .in"),
    ],
)
def test_what_cannot_be_filled_in_is_an_error(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    done = fill(tmp_path / name)
    assert done.returncode == 1
    assert done.stderr.decode().endswith(message + "\n")
    assert [file.name for file in tmp_path.iterdir()] == [name]


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


def test_the_manual_page_has_every_key_in_the_words_of_the_schema():
    page = " ".join((PACKAGING / "ssh-keepalive.8").read_text().split())
    for key, subschema in load_schema()["properties"]["ssh_keepalive"]["properties"].items():
        if subschema["examples"]:
            assert '.BR {} ": {title}" {description} '.format(key, **subschema) in page


def test_the_manual_page_has_the_date_of_the_packages():
    date = re.search(
        r"^ -- .*, (.*) [0-9:]+ \+0000$", (PACKAGING / "debian/changelog.in").read_text(), re.MULTILINE
    ).group(1)
    (stated,) = re.findall("^.TH SSH-KEEPALIVE 8 ([0-9-]+) ", (PACKAGING / "ssh-keepalive.8").read_text())
    assert datetime.strptime(date, "%d %b %Y") == datetime.strptime(stated, "%Y-%m-%d")


SHELL = [
    "packaging/build.sh",
    "packaging/debian/prerm",
    "packaging/debian/tests/enforced",
    ".ci/run",
    "examples/local-runs.sh",
]
SHELL += ["examples/images/" + name for name in ("mkosi.finalize", "mmdebstrap.sh", "qemu.sh")]


@pytest.mark.slow
def test_shellcheck_finds_nothing(filled, tmp_path):
    program = shutil.which("shellcheck")
    if not program:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("apt install shellcheck")
    for name, text in {**filled, "clean": clean_script.render()}.items():
        if text.startswith("#!/bin/sh"):
            (tmp_path / name).write_text(text)
    files = [*sorted(tmp_path.iterdir()), *(TOP / name for name in SHELL)]
    assert [file.name for file in files[:3]] == ["clean", "postinst", "postrm"]
    for file in files:
        shell = [] if file.read_text().startswith("#!") else ["--shell=sh"]
        answer = subprocess.run([program, *shell, str(file)], stdout=subprocess.PIPE)
        assert answer.stdout.decode() == ""


@pytest.mark.parametrize("name", ["build.sh", "debian/rules"])
def test_what_is_run_can_be(name):
    assert (PACKAGING / name).stat().st_mode & stat.S_IXUSR
