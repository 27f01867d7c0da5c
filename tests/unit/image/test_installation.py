"""The module in an image: put in, brought up to date and taken out again."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from images import FILES, LIST, NEW, OLD, ORIGINAL, PACKAGES, make, modules, refused, tree
from ssh_keepalive.image import installation, module_files
from ssh_keepalive.image.installation import has_traces, install, uninstall
from ssh_keepalive.openssh import Settings
from ssh_keepalive.policy import Entry, Policy
from ssh_keepalive.sshd_config import with_block

SOURCE = Path(installation.__file__).resolve().parents[2]
PYTHON = "usr/lib/python{}.{}/os.py".format(*sys.version_info[:2])
# As 0.1.0 has left it: all modules in one folder, some of which are now folders or gone
OLD_MODULES = ("dropin", "image", "registration", "userdata")


def package(folder):
    """Return the names of all that is in an image's package, relative to its folder."""
    top = folder / PACKAGES / "ssh_keepalive"
    return {str(file.relative_to(top)) for file in top.glob("**/*") if file.is_file()}


def sources():
    """Return the names of the module's own files in the package."""
    top = SOURCE / "ssh_keepalive"
    return {str(file.relative_to(top)) for file in top.glob("**/*") if file.suffix in (".py", ".json")}


def test_install_puts_in_all_that_a_boot_needs(folder, root):
    install(root)
    added = set(tree(folder)) - set(FILES)
    assert PACKAGES + "/cc_ssh_keepalive.py" in added
    assert package(folder) == sources() > {"ssh-keepalive.schema.json", "image/root.py", "machine/__init__.py"}
    assert not any("__pycache__" in name for name in added)
    assert not (folder / PACKAGES / "ssh_keepalive/ssh-keepalive.schema.json").is_symlink()
    command = folder / "usr/bin/ssh-keepalive"
    assert command.read_text().startswith("#! /usr/bin/python3 -s\nimport sys\n")
    assert stat.S_IMODE(command.stat().st_mode) == 0o755
    assert modules(folder) == ["migrator", "users-groups", "ssh", ["ssh_keepalive"]]


def test_what_is_installed_runs_and_imports_nothing_from_elsewhere(folder, root):
    install(root)
    code = "import sys, ssh_keepalive.image.installation; print(*sorted(m for m in sys.modules if 'keepalive.' in m))"
    command = [sys.executable, "-B", "-c", code]
    environment = {"PYTHONPATH": str(folder / PACKAGES)}
    imported = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout.decode().split()
    assert "ssh_keepalive.image.installation" in imported
    rooms = [name for name in imported if name.startswith(("ssh_keepalive.machine", "ssh_keepalive.check"))]
    assert rooms == []


def test_install_twice_is_once_and_uninstall_leaves_nothing(folder, root):
    before = tree(folder)
    install(root)
    once = tree(folder)
    inode = (folder / LIST).stat().st_ino
    install(root)
    assert tree(folder) == once
    assert (folder / LIST).stat().st_ino == inode
    uninstall(root)
    assert tree(folder) == before
    uninstall(root)
    assert tree(folder) == before


def test_the_first_boot_of_the_same_python_has_nothing_to_compile(folder, root):
    make(folder, {PYTHON: ""})
    before = tree(folder)
    install(root)
    packages = folder / PACKAGES
    code = "import cc_ssh_keepalive, ssh_keepalive.sshd_config, ssh_keepalive.image.root, ssh_keepalive.machine.command"
    command = [sys.executable, "-v", "-c", code]
    said = subprocess.run(command, env={"PYTHONPATH": str(packages)}, stderr=subprocess.PIPE, check=True).stderr
    lines = [line for line in said.decode().splitlines() if str(packages) in line]
    assert len([line for line in lines if " matches " in line]) > 8
    assert not [line for line in lines if line.startswith("# wrote")]
    uninstall(root)
    assert tree(folder) == before


@pytest.mark.parametrize("compiled", [False, True], ids=["another Python's image", "this Python's image"])
def test_install_over_an_older_version_leaves_none_of_its_modules(folder, root, compiled):
    make(folder, {PYTHON: ""} if compiled else {})
    before = tree(folder)
    install(root)
    once = tree(folder)
    stale = {
        "cc_ssh_keepalive.py": "old",
        "ssh_keepalive/policy.py": "old",
        "ssh_keepalive/.policy.py.new": "left by a killed install",
        "ssh_keepalive/gone/__init__.py": "",
        "ssh_keepalive/gone/__pycache__/__init__.cpython-36.pyc": "",
        "ssh_keepalive/gone.json": "{}",
    }
    for name in OLD_MODULES:
        stale["ssh_keepalive/{}.py".format(name)] = "old"
        stale["ssh_keepalive/__pycache__/{}.cpython-36.opt-1.pyc".format(name)] = ""
    make(folder / PACKAGES, stale)
    install(root)
    assert set(tree(folder)) == set(once)
    # Of a file that was written anew the time has changed, which stands in what is compiled of it.
    assert [name for name, what in tree(folder).items() if what != once[name] and not name.endswith(".pyc")] == []
    uninstall(root)
    assert tree(folder) == before


def test_install_keeps_what_pythons_have_compiled_of_this_version(folder, root):
    install(root)
    kept = {
        PACKAGES + "/ssh_keepalive/__pycache__/policy.cpython-36.pyc": "",
        PACKAGES + "/ssh_keepalive/image/__pycache__/root.cpython-312.opt-2.pyc": "",
    }
    make(folder, kept)
    once = tree(folder)
    install(root)
    assert tree(folder) == once


def test_a_link_in_the_package_is_removed_and_what_it_leads_to_stays(folder, root):
    install(root)
    once = tree(folder)
    make(folder, {"srv/precious/x.py": ""})
    (folder / PACKAGES / "ssh_keepalive/linked").symlink_to("/srv/precious")
    install(root)
    assert (folder / "srv/precious/x.py").exists()
    shutil.rmtree(str(folder / "srv"))
    assert tree(folder) == once


@pytest.mark.parametrize(
    ("name", "text", "has"),
    [
        ("etc/ssh/sshd_config.d/00-ssh-keepalive.conf", "", True),
        ("etc/ssh/sshd_config.d/.00-ssh-keepalive.conf.new", "", True),
        ("etc/profile.d/zz-ssh-keepalive.sh", "", True),
        ("run/ssh-keepalive.json", "{}", True),
        ("etc/ssh/sshd_config", "# BEGIN ssh-keepalive\nClientAliveInterval 5\n# END ssh-keepalive\n", True),
        ("etc/ssh/sshd_config", "ClientAliveInterval 5\n", False),
        ("etc/ssh/sshd_config.d/50-cloud-init.conf", "", False),
        ("run/ssh-keepalive.lock", "", False),
    ],
)
def test_a_policy_has_left_traces_or_not(folder, root, name, text, has):
    install(root)
    assert not has_traces(root)
    make(folder, {name: text})
    assert has_traces(root) == has
    uninstall(root)
    assert not has_traces(root)


def test_without_sshd_there_are_no_traces(folder, root):
    (folder / "etc/ssh/sshd_config").unlink()
    assert not has_traces(root)


def test_uninstall_takes_away_what_boots_have_left(folder, root):
    others = {"etc/ssh/sshd_config.d/50-cloud-init.conf": "", "etc/profile.d/gawk.sh": "", "run/sshd.pid": ""}
    make(folder, {**others, PACKAGES + "/__pycache__/six.cpython-311.pyc": ""})
    before = tree(folder)
    install(root)
    make(
        folder,
        {
            PACKAGES + "/__pycache__/cc_ssh_keepalive.cpython-311.pyc": "",
            PACKAGES + "/ssh_keepalive/__pycache__/policy.cpython-311.pyc": "",
            PACKAGES + "/ssh_keepalive/machine/__pycache__/command.cpython-311.pyc": "",
            "etc/ssh/sshd_config.d/00-ssh-keepalive.conf": "",
            "etc/ssh/sshd_config.d/.00-ssh-keepalive.conf.new": "",
            "etc/ssh/.00-ssh-keepalive.conf.main.new": "",
            "etc/profile.d/zz-ssh-keepalive.sh": "",
            "etc/profile.d/.zz-ssh-keepalive.sh.old": "",
            "run/ssh-keepalive.lock": "",
            "run/ssh-keepalive.json": "",
            "run/.ssh-keepalive.json.new": "",
        },
    )
    uninstall(root)
    assert tree(folder) == before


def test_uninstall_takes_the_blocks_out_of_sshds_main_file(folder, root):
    main = folder / "etc/ssh/sshd_config"
    main.write_bytes(b"Port 22\r\n# \xff")
    main.chmod(0o600)
    before = tree(folder)
    install(root)
    blocks = ((Entry("user", ("alice",)), (("ClientAliveInterval", "60"),)),)
    settings = Settings(Policy(), (8, 1), (("TCPKeepAlive", "no"),), None, blocks)
    text = with_block(main.read_bytes().decode("utf-8", "surrogateescape"), settings)
    main.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert tree(folder)["etc/ssh/sshd_config"] != before["etc/ssh/sshd_config"]
    uninstall(root)
    assert tree(folder) == before


def test_uninstall_takes_away_a_cache_folder_that_was_only_ours(folder, root):
    before = tree(folder)
    install(root)
    make(folder, {PACKAGES + "/__pycache__/cc_ssh_keepalive.cpython-36.opt-1.pyc": ""})
    uninstall(root)
    assert tree(folder) == before


def test_uninstall_takes_away_what_a_killed_install_left_staged(folder, root):
    before = tree(folder)
    install(root)
    staged = (
        "usr/bin/.ssh-keepalive.new",
        PACKAGES + "/.cc_ssh_keepalive.py.new",
        LIST.replace("99_zz", ".99_zz") + ".new",
    )
    make(folder, dict.fromkeys(staged, ""))
    uninstall(root)
    assert tree(folder) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"etc/cloud/cloud.cfg": "users: []"}, "/etc/cloud/cloud.cfg: no list of cloud_init_modules"),
        (
            {"etc/cloud/cloud.cfg.d/50_x.cfg": "cloud_init_modules: ssh"},
            "/etc/cloud/cloud.cfg.d/50_x.cfg: no list of cloud_init_modules",
        ),
        (
            {"etc/cloud/cloud.cfg.d/99_zzz.cfg": "cloud_init_modules: [ssh]"},
            "/etc/cloud/cloud.cfg.d/99_zzz.cfg: its cloud_init_modules would replace ours, "
            "rename it to sort before 99_zz_ssh_keepalive.cfg",
        ),
        (
            {"usr/local/lib/python3.11/site-packages/cloudinit/version.py": ""},
            "more than one cloud-init, remove all but one: "
            "/usr/lib/python3/dist-packages, /usr/local/lib/python3.11/site-packages",
        ),
        ({"usr/bin/cloud-init": "#!/bin/sh\n"}, "/usr/bin/cloud-init: starts with no Python's #! line"),
    ],
    ids=["no-list", "not-a-list", "later-list-without-systemd", "two-cloud-inits", "shell"],
)
def test_images_that_are_refused(folder, change, message):
    make(folder, change)
    assert refused(folder) == message


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("etc/cloud/cloud.cfg", "/etc/cloud/cloud.cfg: not in the image, install cloud-init first"),
        ("usr/bin/cloud-init", "/usr/bin/cloud-init: not in the image, install cloud-init first"),
        (
            PACKAGES + "/cloudinit/version.py",
            "no cloud-init in /usr/lib/python3* or /usr/local/lib/python3*, install it first",
        ),
    ],
)
def test_images_without_cloud_init_are_refused(folder, missing, message):
    (folder / missing).unlink()
    assert refused(folder) == message


def test_an_image_without_a_folder_for_the_list_is_refused(folder):
    shutil.rmtree(str(folder / "etc/cloud/cloud.cfg.d"))
    assert refused(folder) == "/etc/cloud/cloud.cfg.d: not in the image, install cloud-init first"


@pytest.mark.parametrize("target", ["/srv/real", "../../../../srv/real", "/../srv/../srv/real"])
@pytest.mark.parametrize("link", ["etc/cloud/cloud.cfg.d", PACKAGES, "usr/bin"])
def test_links_of_the_image_stay_in_the_image(folder, root, link, target):
    moved = folder / "srv/real"
    moved.parent.mkdir()
    (folder / link).rename(moved)
    (folder / link).symlink_to(target)
    before, outside = tree(folder), tree_outside(folder)
    install(root)
    assert tree_outside(folder) == outside
    assert set(tree(folder)) > set(before)
    uninstall(root)
    assert tree(folder) == before


def tree_outside(folder):
    return set(os.listdir(str(folder.parent))), os.path.exists("/srv/real")


def test_a_link_in_a_files_place_is_removed_not_followed(folder, root):
    make(folder, {"srv/precious": "x"})
    (folder / "usr/bin/ssh-keepalive").symlink_to("/srv/precious")
    uninstall(root)
    assert (folder / "srv/precious").read_text() == "x"
    assert not (folder / "usr/bin/ssh-keepalive").is_symlink()


def test_lib64_that_is_lib_counts_once(folder, root):
    (folder / "usr/lib64").symlink_to("lib")
    install(root)
    assert modules(folder)


OWNED = {
    "usr/local/lib/python3.11/dist-packages/cc_ssh_keepalive.py": "pip's",
    "usr/local/lib/python3.11/dist-packages/ssh_keepalive/__init__.py": "pip's",
    "usr/local/lib/python3.11/dist-packages/cloud_init_ssh_keepalive-0.1.0.dist-info/RECORD": "",
}


def test_what_pip_has_put_there_is_left_to_pip(folder, root):
    make(folder, OWNED)
    before = tree(folder)
    install(root)
    assert (folder / PACKAGES / "cc_ssh_keepalive.py").exists()
    uninstall(root)
    assert tree(folder) == before


def test_what_a_package_has_put_there_is_left_to_the_package(folder, root):
    owned = {name.replace("local/lib/python3.11", "lib/python3"): "the package's" for name in OWNED}
    assert all(name.startswith(PACKAGES + "/") for name in owned)
    make(
        folder,
        {**owned, PACKAGES + "/ssh_keepalive/sshd.py": "the package's", "usr/bin/ssh-keepalive": "the package's"},
    )
    before = tree(folder)
    install(root)
    assert modules(folder)[-1] == ["ssh_keepalive"]
    assert (folder / PACKAGES / "cc_ssh_keepalive.py").read_text() == "the package's"
    assert (folder / "usr/bin/ssh-keepalive").read_text() == "the package's"
    uninstall(root)
    assert tree(folder) == before


def test_a_cloud_init_that_moved_to_another_python_leaves_no_copy_of_ours_behind(folder, root, schema):
    install(root)
    moved = folder / "usr/lib/python3.13/site-packages/cloudinit"
    moved.parent.mkdir(parents=True)
    # A package manager takes its own files and leaves ours.
    (folder / PACKAGES / "cloudinit").rename(moved)
    make(folder, {ORIGINAL: OLD})
    (moved / "config/schemas/schema-cloud-config-v1.json.ssh-keepalive-original").unlink()
    (moved / "config/schemas/schema-cloud-config-v1.json").write_text(NEW)
    install(root)
    assert not (folder / PACKAGES / "cloudinit").exists()
    assert not (folder / PACKAGES / "ssh_keepalive").exists()
    assert (folder / "usr/lib/python3.13/site-packages/ssh_keepalive").exists()
    uninstall(root)
    left = [name for name in tree(folder) if "schema-cloud" in name]
    assert left == ["usr/lib/python3.13/site-packages/cloudinit/config/schemas/schema-cloud-config-v1.json"]
    assert (folder / left[0]).read_text() == NEW


def test_install_from_where_cloud_inits_python_was_before(folder, root, monkeypatch):
    install(root)
    moved = folder / "usr/lib/python3.13/site-packages"
    moved.mkdir(parents=True)
    (folder / PACKAGES / "cloudinit").rename(moved / "cloudinit")
    monkeypatch.setattr(module_files, "SOURCE", str(folder / PACKAGES))
    install(root)
    assert (moved / "cc_ssh_keepalive.py").exists()
    assert (moved / "ssh_keepalive/policy.py").exists()
    assert (moved / "ssh_keepalive/image/root.py").exists()
    assert not (folder / PACKAGES / "cc_ssh_keepalive.py").exists()
