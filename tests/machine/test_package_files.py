"""What is in the packages, and that the same tree gives the same."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_same_tree_gives_the_same_bytes(packages: Path, tmp_path: Path) -> None:
    left_out = shutil.ignore_patterns(".git", ".venv", ".*cache*", "build", "dist", "*.egg-info", "__pycache__")
    there = tmp_path / "elsewhere"
    shutil.copytree(TOP, there, symlinks=True, ignore=left_out)
    for file in there.rglob("*"):
        os.utime(file, (1, 1), follow_symlinks=False)
    command = f"umask 077; TZ=Asia/Tokyo LANG=C SOURCE_DATE_EPOCH=7 {there}/packaging/build.sh {tmp_path}/dist"
    subprocess.run(("sh", "-ec", command), check=True)
    built = {file.name: file.read_bytes() for file in (tmp_path / "dist").iterdir()}
    assert sorted(Path(name).suffix for name in built) == [".deb", ".rpm"]
    assert built == {file.name: file.read_bytes() for file in packages.iterdir()}


@pytest.mark.slow
def test_lintian_and_rpmlint_find_nothing(deb: Path, rpm: Path) -> None:
    checked = subprocess.run(("lintian", deb), stdout=subprocess.PIPE, text=True)
    found = re.findall("^[EW]: [^ ]*: ([a-z-]+)", checked.stdout, re.MULTILINE)
    is_published = "\nmaintainer_email =" in (TOP / "setup.cfg").read_text()
    # Until somebody publishes it there is nobody to write to.
    assert found == ([] if is_published else ["bogus-mail-host-in-debian-changelog", "malformed-contact"])
    config = TOP / "packaging/rpm/rpmlint.toml"
    checked = subprocess.run(("rpmlint", "-c", config, rpm), stdout=subprocess.PIPE, text=True)
    assert " 0 errors, 0 warnings," in checked.stdout
    assert checked.returncode == 0


def test_the_completions_are_where_the_shells_look(deb: Path, rpm: Path) -> None:
    listed = {
        package: subprocess.run((*command, package), stdout=subprocess.PIPE, text=True, check=True).stdout.split()
        for command, package in ((("dpkg", "-c"), deb), (("rpm", "-qlp"), rpm))
    }
    assert "./usr/share/bash-completion/completions/ssh-keepalive" in listed[deb]
    assert "./usr/share/zsh/vendor-completions/_ssh-keepalive" in listed[deb]
    assert "/usr/share/bash-completion/completions/ssh-keepalive" in listed[rpm]
    assert "/usr/share/zsh/site-functions/_ssh-keepalive" in listed[rpm]


@pytest.mark.parametrize("schema", ["check", "ssh-keepalive", "status"])
def test_the_schemas_are_where_the_manual_page_says(deb: Path, rpm: Path, schema: str) -> None:
    file = f"/usr/share/cloud-init-ssh-keepalive/{schema}.schema.json"
    assert f"{file}\n" in subprocess.run(("dpkg", "-c", deb), stdout=subprocess.PIPE, text=True, check=True).stdout
    assert file in subprocess.run(("rpm", "-qlp", rpm), stdout=subprocess.PIPE, text=True, check=True).stdout.split()


def test_the_scripts_have_their_paths(deb: Path, rpm: Path) -> None:
    shown = (
        ("dpkg-deb", "--info", deb, "postinst", "postrm", "triggers"),
        ("rpm", "-qp", "--scripts", "--triggers", "--list", rpm),
    )
    for command in shown:
        text = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        assert "/etc/ssh/sshd_config.d/00-ssh-keepalive.conf" in text
        assert "/etc/cloud/cloud.cfg.d/99_zz_ssh_keepalive.cfg" in text
        assert re.findall("@[A-Z_]*@", text) == []
