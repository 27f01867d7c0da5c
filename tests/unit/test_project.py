"""The project as people get it: built and installed from a tree without .git."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from ssh_keepalive import __version__

TOP = Path(__file__).resolve().parents[2]
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", ".*cache*", "build", "dist", "*.egg-info", "__pycache__")


def files_below(folder):
    """Return the paths of files below a folder, but for what Python has compiled."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {str(path.relative_to(folder)) for path in files}


def test_what_a_boot_reads_is_there_also_where_a_checkout_has_no_links():
    assert [path for path in (TOP / "cloudinit_module").rglob("*") if path.is_symlink()] == []


def test_it_builds_installs_and_installs_into_an_image(tmp_path, monkeypatch):
    # make newest has set it to nothing.
    monkeypatch.setenv("PIP_CONSTRAINT", os.environ.get("PIP_CONSTRAINT", str(TOP / "tests/pins.txt")))
    tree = tmp_path / "tree"
    shutil.copytree(str(TOP), str(tree), symlinks=True, ignore=LEFT_OUT)
    # The wheel is built from the sdist, so that whatever is missing there shows.
    subprocess.run([sys.executable, "-m", "build", "--outdir", str(tmp_path / "dist"), str(tree)], check=True)
    (wheel,) = (tmp_path / "dist").glob("*-{}-py3-none-any.whl".format(__version__))
    with zipfile.ZipFile(str(wheel)) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    modules = tree / "cloudinit_module"
    assert packed == {
        str(file.relative_to(modules)) for suffix in ("py", "json", "typed") for file in modules.rglob("*." + suffix)
    }
    for check in (["twine", "check", "--strict"], ["check_wheel_contents", "--config", str(tree / "pyproject.toml")]):
        subprocess.run([sys.executable, "-m", *check, str(wheel)], check=True)

    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    subprocess.run([str(venv / "bin/pip"), "install", "--quiet", str(wheel)], check=True)

    root = tmp_path / "root"
    packages = root / "usr/lib/python3/dist-packages"
    for name, text in (
        ("usr/bin/cloud-init", "#!/usr/bin/python3\n"),
        ("usr/lib/python3/dist-packages/cloudinit/version.py", ""),
        ("etc/cloud/cloud.cfg", "cloud_init_modules: [ssh]\n"),
        ("etc/cloud/cloud.cfg.d/README", ""),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    command = str(venv / "bin/ssh-keepalive")
    subprocess.run([command, "install", "--root", str(root)], check=True)
    installed = files_below(packages / "ssh_keepalive")
    assert installed == files_below(TOP / "cloudinit_module/ssh_keepalive") - {"py.typed"}
    assert "machine/apply.py" in installed
    code = "from ssh_keepalive.policy import parse; print(parse(True).unresponsive_timeout)"
    answer = subprocess.run([str(venv / "bin/python"), "-c", code], stdout=subprocess.PIPE, check=True)
    assert answer.stdout == b"180\n"
    subprocess.run([command, "uninstall", "--root", str(root)], check=True)
    assert not (packages / "ssh_keepalive").exists()
