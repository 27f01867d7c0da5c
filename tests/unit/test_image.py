import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ssh_keepalive import dropin, image, openssh, policy
from ssh_keepalive.image import ImageError, Root, install, register, status, uninstall, unregister
from ssh_keepalive.registration import has_key

PACKAGES = "usr/lib/python3/dist-packages"
LIST = "etc/cloud/cloud.cfg.d/99_zz_ssh_keepalive.cfg"
SCHEMA = PACKAGES + "/cloudinit/config/schemas/schema-cloud-config-v1.json"
ORIGINAL = SCHEMA + ".ssh-keepalive-original"
CLEAN = "etc/cloud/clean.d/50-ssh-keepalive"
# As cloud-init 22.2 and 23.4 have it, cut down
OLD = '{ "$defs": {"cc_ssh": {}}, "allOf": [{"$ref": "#/$defs/cc_ssh"}] }\n'
NEW = """\
{
  "$defs": {
    "all_modules": {
      "enum": [
        "ssh"
      ]
    },
    "cc_ssh": {}
  },
  "allOf": [
    {
      "$ref": "#/$defs/cc_ssh"
    }
  ],
  "properties": {
    "ssh_pwauth": {}
  },
  "additionalProperties": false
}
"""
FILES = {
    "usr/bin/cloud-init": "#! /usr/bin/python3 -s\nimport cloudinit\n",
    PACKAGES + "/cloudinit/version.py": "",
    "etc/cloud/cloud.cfg": "cloud_init_modules: [migrator, users-groups, ssh]\ncloud_config_modules: [set-passwords]\n",
    "etc/cloud/cloud.cfg.d/05_logging.cfg": "_log: x\n",
    "etc/cloud/cloud.cfg.d/README": "cloud_init_modules: [not, read]\n",
    "etc/ssh/sshd_config": "Include /etc/ssh/sshd_config.d/*.conf\n",
}


def make(root, files):
    for name, text in files.items():
        file = Path(str(root)) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def tree(root):
    """Return everything below a folder: kind and mode, and the content or target."""
    found = {}
    for folder, folders, files in os.walk(str(root)):
        for name in folders + files:
            path = os.path.join(folder, name)
            mode = os.lstat(path).st_mode
            content = (
                os.readlink(path) if stat.S_ISLNK(mode) else Path(path).read_bytes() if stat.S_ISREG(mode) else None
            )
            found[os.path.relpath(path, str(root))] = (stat.filemode(mode), content)
    return found


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "root"
    make(root, FILES)
    return root


def modules(folder):
    return yaml.safe_load((folder / LIST).read_text())["cloud_init_modules"]


def refused(folder, run=install):
    before = tree(folder)
    with pytest.raises(ImageError) as caught:
        run(Root(str(folder)))
    assert tree(folder) == before
    return str(caught.value)


def test_install_puts_in_all_that_a_boot_needs(folder):
    install(Root(str(folder)))
    added = set(tree(folder)) - set(tree_of_files())
    assert PACKAGES + "/cc_ssh_keepalive.py" in added
    assert PACKAGES + "/ssh_keepalive/ssh-keepalive.schema.json" in added
    assert not any("__pycache__" in name for name in added)
    assert not (folder / PACKAGES / "ssh_keepalive/ssh-keepalive.schema.json").is_symlink()
    command = folder / "usr/bin/ssh-keepalive"
    assert command.read_text().startswith("#! /usr/bin/python3 -s\nimport sys\n")
    assert stat.S_IMODE(command.stat().st_mode) == 0o755
    assert modules(folder) == ["migrator", "users-groups", "ssh", ["ssh_keepalive"]]


def tree_of_files():
    return set(FILES)


def test_install_twice_is_once_and_uninstall_leaves_nothing(folder):
    before = tree(folder)
    install(Root(str(folder)))
    once = tree(folder)
    inode = (folder / LIST).stat().st_ino
    install(Root(str(folder)))
    assert tree(folder) == once
    assert (folder / LIST).stat().st_ino == inode
    uninstall(Root(str(folder)))
    assert tree(folder) == before
    uninstall(Root(str(folder)))
    assert tree(folder) == before


def test_the_first_boot_of_the_same_python_has_nothing_to_compile(folder):
    make(folder, {"usr/lib/python{}.{}/os.py".format(*sys.version_info[:2]): ""})
    before = tree(folder)
    install(Root(str(folder)))
    packages = folder / PACKAGES
    command = [sys.executable, "-v", "-c", "import cc_ssh_keepalive, ssh_keepalive.sshd"]
    said = subprocess.run(command, env={"PYTHONPATH": str(packages)}, stderr=subprocess.PIPE, check=True).stderr
    lines = [line for line in said.decode().splitlines() if str(packages) in line]
    assert [line for line in lines if " matches " in line]
    assert not [line for line in lines if line.startswith("# wrote")]
    uninstall(Root(str(folder)))
    assert tree(folder) == before


def test_uninstall_takes_away_what_boots_have_left(folder):
    others = {"etc/ssh/sshd_config.d/50-cloud-init.conf": "", "etc/profile.d/gawk.sh": ""}
    make(folder, {**others, PACKAGES + "/__pycache__/six.cpython-311.pyc": ""})
    before = tree(folder)
    install(Root(str(folder)))
    make(
        folder,
        {
            PACKAGES + "/__pycache__/cc_ssh_keepalive.cpython-311.pyc": "",
            PACKAGES + "/ssh_keepalive/__pycache__/policy.cpython-311.pyc": "",
            "etc/ssh/sshd_config.d/00-ssh-keepalive.conf": "",
            "etc/ssh/sshd_config.d/.00-ssh-keepalive.conf.new": "",
            "etc/profile.d/zz-ssh-keepalive.sh": "",
            "etc/profile.d/.zz-ssh-keepalive.sh.old": "",
        },
    )
    uninstall(Root(str(folder)))
    assert tree(folder) == before


def test_uninstall_takes_the_block_out_of_sshds_main_file(folder):
    main = folder / "etc/ssh/sshd_config"
    main.write_bytes(b"Port 22\r\n# \xff")
    main.chmod(0o600)
    before = tree(folder)
    install(Root(str(folder)))
    blocks = ((policy.Entry("user", ("alice",)), (("ClientAliveInterval", "60"),)),)
    text = main.read_bytes().decode("utf-8", "surrogateescape")
    text = dropin.with_block(text, policy.Policy(), openssh.Expression((("TCPKeepAlive", "no"),), None, blocks))
    main.write_bytes(text.encode("utf-8", "surrogateescape"))
    uninstall(Root(str(folder)))
    assert tree(folder) == before


def test_uninstall_takes_away_a_cache_folder_that_was_only_ours(folder):
    before = tree(folder)
    install(Root(str(folder)))
    make(folder, {PACKAGES + "/__pycache__/cc_ssh_keepalive.cpython-36.opt-1.pyc": ""})
    uninstall(Root(str(folder)))
    assert tree(folder) == before


def test_the_last_list_in_the_folder_counts(folder):
    make(folder, {"etc/cloud/cloud.cfg.d/10_a.cfg": "cloud_init_modules: [a, ssh]"})
    make(folder, {"etc/cloud/cloud.cfg.d/20_b.cfg": "cloud_init_modules: [b, ssh]"})
    install(Root(str(folder)))
    assert modules(folder) == ["b", "ssh", ["ssh_keepalive"]]


def test_a_changed_list_is_taken_over_by_the_next_install(folder):
    install(Root(str(folder)))
    make(folder, {"etc/cloud/cloud.cfg": "cloud_init_modules: [new, ssh]"})
    install(Root(str(folder)))
    assert modules(folder) == ["new", "ssh", ["ssh_keepalive"]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"etc/cloud/cloud.cfg": "cloud_init_modules: [bootcmd]"},
            "/etc/cloud/cloud.cfg: cloud_init_modules has no ssh, sshd would get no host keys",
        ),
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
            {"etc/cloud/cloud.cfg.d/50_x.cfg": "a: [b"},
            "/etc/cloud/cloud.cfg.d/50_x.cfg: while parsing a flow sequence "
            "in \"<byte string>\", line 1, column 4: a: [b ^ expected ',' or ']', but got '<stream end>' "
            'in "<byte string>", line 1, column 6: a: [b ^',
        ),
        (
            {"usr/local/lib/python3.11/site-packages/cloudinit/version.py": ""},
            "more than one cloud-init, remove all but one: "
            "/usr/lib/python3/dist-packages, /usr/local/lib/python3.11/site-packages",
        ),
        ({"usr/bin/cloud-init": "#!/bin/sh\n"}, "/usr/bin/cloud-init: starts with no Python's #! line"),
    ],
    ids=["no-ssh", "no-list", "not-a-list", "later-list", "broken", "two-cloud-inits", "shell"],
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


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ImageError, match="nowhere: no such folder"):
        Root(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("target", ["/srv/real", "../../../../srv/real", "/../srv/../srv/real"])
@pytest.mark.parametrize("link", ["etc/cloud/cloud.cfg.d", PACKAGES, "usr/bin"])
def test_links_of_the_image_stay_in_the_image(folder, link, target):
    moved = folder / "srv/real"
    moved.parent.mkdir()
    (folder / link).rename(moved)
    (folder / link).symlink_to(target)
    before, outside = tree(folder), tree_outside(folder)
    install(Root(str(folder)))
    assert tree_outside(folder) == outside
    assert set(tree(folder)) > set(before)
    uninstall(Root(str(folder)))
    assert tree(folder) == before


def tree_outside(folder):
    return set(os.listdir(str(folder.parent))), os.path.exists("/srv/real")


def test_links_in_a_circle_are_an_error(folder):
    (folder / "a").symlink_to("b")
    (folder / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        Root(str(folder)).real("/a/x")


def test_a_link_in_a_files_place_is_removed_not_followed(folder):
    make(folder, {"srv/precious": "x"})
    (folder / "usr/bin/ssh-keepalive").symlink_to("/srv/precious")
    uninstall(Root(str(folder)))
    assert (folder / "srv/precious").read_text() == "x"
    assert not (folder / "usr/bin/ssh-keepalive").is_symlink()


def test_lib64_that_is_lib_counts_once(folder):
    (folder / "usr/lib64").symlink_to("lib")
    install(Root(str(folder)))
    assert modules(folder)


@pytest.fixture
def schema(folder):
    make(folder, {SCHEMA: OLD})
    (folder / SCHEMA).chmod(0o640)
    return folder / SCHEMA


@pytest.fixture
def root(folder):
    return Root(str(folder))


def upgrade(file):
    """Put a newer schema in a file's place as package managers do."""
    new = file.with_name("new")
    new.write_text(NEW)
    new.rename(file)


def test_the_key_is_registered_and_the_original_given_back_with_all_that_is_its_own(folder, root, schema):
    os.utime(str(schema), (1, 1))
    before, status = tree(folder), schema.stat()
    install(root)
    assert has_key(schema.read_text())
    assert stat.S_IMODE(schema.stat().st_mode) == 0o644
    once, inode = tree(folder), schema.stat().st_ino
    install(root)
    assert tree(folder) == once
    assert schema.stat().st_ino == inode
    uninstall(root)
    assert tree(folder) == before
    after = schema.stat()
    assert (after.st_ino, after.st_mtime, after.st_nlink) == (status.st_ino, status.st_mtime, 1)


def test_an_upgraded_schema_is_registered_anew_and_stays(folder, root, schema):
    install(root)
    upgrade(schema)
    install(root)
    assert set(yaml.safe_load(schema.read_text())["properties"]) == {"ssh_pwauth", "ssh_keepalive"}
    assert (folder / ORIGINAL).read_text() == NEW
    uninstall(root)
    assert schema.read_text() == NEW
    assert not (folder / ORIGINAL).exists()


def test_an_upgraded_schema_is_not_replaced_by_the_old_original(folder, root, schema):
    install(root)
    upgrade(schema)
    inode = schema.stat().st_ino
    uninstall(root)
    assert (schema.read_text(), schema.stat().st_ino) == (NEW, inode)
    assert not (folder / ORIGINAL).exists()


@pytest.mark.parametrize("moved", [False, True], ids=["dpkg-divert --no-rename", "dpkg-divert --rename"])
def test_an_upgrade_that_is_diverted_to_the_original(folder, root, schema, moved):
    if moved:
        schema.rename(folder / ORIGINAL)
    install(root)
    assert (folder / ORIGINAL).read_text() == OLD
    upgrade(folder / ORIGINAL)
    register(root)
    assert set(yaml.safe_load(schema.read_text())["properties"]) == {"ssh_pwauth", "ssh_keepalive"}
    assert (folder / ORIGINAL).read_text() == NEW
    unregister(root)
    assert schema.read_text() == NEW
    assert not (folder / ORIGINAL).exists()


def test_an_original_that_was_moved_away_is_moved_back(folder, root, schema):
    schema.rename(folder / ORIGINAL)
    unregister(root)
    assert schema.read_text() == OLD
    assert not (folder / ORIGINAL).exists()


def test_without_the_original_our_key_is_taken_out_of_the_schema(folder, root, schema):
    upgrade(schema)
    install(root)
    registered = schema.read_text()
    (folder / ORIGINAL).unlink()
    install(root)
    assert schema.read_text() == registered
    assert not (folder / ORIGINAL).exists()
    uninstall(root)
    assert schema.read_text() == NEW


def test_an_install_that_stopped_half_way_is_gone_on_with(folder, root, schema):
    before = tree(folder)
    os.link(str(schema), str(folder / ORIGINAL))
    install(root)
    assert has_key(schema.read_text())
    uninstall(root)
    assert tree(folder) == before


def test_a_damaged_schema_is_refused(folder, root, schema):
    schema.write_text("{")
    message = (
        "/{}: not cloud-init's schema, install cloud-init again: "
        "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"
    )
    assert refused(folder) == message.format(SCHEMA)
    assert refused(folder, uninstall) == message.format(SCHEMA)
    schema.write_text(OLD)
    install(root)
    (folder / ORIGINAL).write_text("{")
    assert refused(folder) == message.format(ORIGINAL)
    assert refused(folder, unregister) == message.format(ORIGINAL)


def test_a_module_that_a_package_has_brought_is_registered(folder, root, schema):
    make(folder, {PACKAGES + "/cc_ssh_keepalive.py": "", "etc/ssh/sshd_config.d/00-ssh-keepalive.conf": ""})
    before = tree(folder)
    register(root)
    assert set(tree(folder)) - set(before) == {LIST, ORIGINAL}
    assert has_key(schema.read_text())
    assert modules(folder) == ["migrator", "users-groups", "ssh", ["ssh_keepalive"]]
    unregister(root)
    assert tree(folder) == before


def test_a_module_that_is_not_there_is_not_registered(folder, schema):
    message = "cc_ssh_keepalive.py: not in the image, use ssh-keepalive install"
    assert refused(folder, register) == message


OWNED = {
    "usr/local/lib/python3.11/dist-packages/cc_ssh_keepalive.py": "pip's",
    "usr/local/lib/python3.11/dist-packages/ssh_keepalive/__init__.py": "pip's",
    "usr/local/lib/python3.11/dist-packages/cloud_init_ssh_keepalive-0.1.0.dist-info/RECORD": "",
}


def test_what_pip_has_put_there_is_left_to_pip(folder):
    make(folder, OWNED)
    before = tree(folder)
    install(Root(str(folder)))
    assert (folder / PACKAGES / "cc_ssh_keepalive.py").exists()
    uninstall(Root(str(folder)))
    assert tree(folder) == before


def test_what_a_package_has_put_there_is_left_to_the_package(folder):
    make(folder, {name.replace("local/lib/python3.11", "lib/python3"): "the package's" for name in OWNED})
    make(folder, {"usr/bin/ssh-keepalive": "the package's"})
    before = tree(folder)
    install(Root(str(folder)))
    assert modules(folder)[-1] == ["ssh_keepalive"]
    assert (folder / PACKAGES / "cc_ssh_keepalive.py").read_text() == "the package's"
    assert (folder / "usr/bin/ssh-keepalive").read_text() == "the package's"
    uninstall(Root(str(folder)))
    assert tree(folder) == before


def test_what_a_killed_install_left_aside_goes_with_uninstall(folder):
    before = tree(folder)
    install(Root(str(folder)))
    aside = (
        "usr/bin/.ssh-keepalive.new",
        PACKAGES + "/.cc_ssh_keepalive.py.new",
        LIST.replace("99_zz", ".99_zz") + ".new",
    )
    make(folder, dict.fromkeys(aside, ""))
    uninstall(Root(str(folder)))
    assert tree(folder) == before


def test_an_image_without_a_folder_for_the_list_is_refused(folder):
    shutil.rmtree(str(folder / "etc/cloud/cloud.cfg.d"))
    assert refused(folder) == "/etc/cloud/cloud.cfg.d: not in the image, install cloud-init first"


@pytest.fixture
def clean_d(folder):
    make(folder, {"etc/cloud/clean.d/README": ""})


def test_cloud_init_clean_takes_the_drop_in_away(folder, root, clean_d):
    before = tree(folder)
    install(root)
    once = tree(folder)
    assert once[CLEAN][0] == "-rwxr-xr-x"
    install(root)
    assert tree(folder) == once

    drop_ins = folder / "etc/ssh/sshd_config.d"
    ours = ("00-ssh-keepalive.conf", ".00-ssh-keepalive.conf.old", ".00-ssh-keepalive.conf.key.pub")
    make(drop_ins, dict.fromkeys([*ours, "50-cloud-init.conf"], ""))
    profile = folder / "etc/profile.d"
    make(profile, dict.fromkeys(["zz-ssh-keepalive.sh", ".zz-ssh-keepalive.sh.new", "gawk.sh"], ""))
    text = (folder / CLEAN).read_text()
    (folder / CLEAN).write_text(text.replace("/etc/", str(folder / "etc") + "/"))
    main = folder / "etc/ssh/sshd_config"
    blocks = ((policy.Entry("user", ("alice",)), (("ClientAliveInterval", "60"),)),)
    text = main.read_text()
    with_block = dropin.with_block(text, policy.Policy(), openssh.Expression((), None, blocks))
    main.write_text(with_block.replace("# END ssh-keepalive\n", "", 1))
    subprocess.run([str(folder / CLEAN)], check=True)
    assert main.read_text() == with_block.replace("# END ssh-keepalive\n", "", 1)
    main.write_text(with_block)
    for _ in ("all are there", "none is there"):
        said = subprocess.run([str(folder / CLEAN)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True)
        assert said.stdout == b""
        assert os.listdir(str(drop_ins)) == ["50-cloud-init.conf"]
        assert os.listdir(str(profile)) == ["gawk.sh"]
        assert main.read_text() == text

    make(folder, {CLEAN.replace("50-", ".50-") + ".new": "left by a killed install"})
    (drop_ins / "50-cloud-init.conf").unlink()
    drop_ins.rmdir()
    (profile / "gawk.sh").unlink()
    profile.rmdir()
    uninstall(root)
    assert tree(folder) == before


def test_register_and_unregister_take_care_of_cloud_init_clean(folder, root, clean_d):
    make(folder, {PACKAGES + "/cc_ssh_keepalive.py": ""})
    before = tree(folder)
    register(root)
    assert set(tree(folder)) - set(before) == {LIST, CLEAN}
    unregister(root)
    assert tree(folder) == before


def test_a_cloud_init_whose_clean_runs_nothing_gets_no_script(folder, root):
    install(root)
    assert not (folder / CLEAN).parent.exists()


def test_a_cloud_init_that_moved_to_another_python_leaves_no_copy_of_ours_behind(folder, schema):
    install(Root(str(folder)))
    moved = folder / "usr/lib/python3.13/site-packages/cloudinit"
    moved.parent.mkdir(parents=True)
    # A package manager takes its own files and leaves ours.
    (folder / PACKAGES / "cloudinit").rename(moved)
    make(folder, {ORIGINAL: OLD})
    (moved / "config/schemas/schema-cloud-config-v1.json.ssh-keepalive-original").unlink()
    (moved / "config/schemas/schema-cloud-config-v1.json").write_text(NEW)
    install(Root(str(folder)))
    assert not (folder / PACKAGES / "cloudinit").exists()
    assert not (folder / PACKAGES / "ssh_keepalive").exists()
    assert (folder / "usr/lib/python3.13/site-packages/ssh_keepalive").exists()
    uninstall(Root(str(folder)))
    left = [name for name in tree(folder) if "schema-cloud" in name]
    assert left == ["usr/lib/python3.13/site-packages/cloudinit/config/schemas/schema-cloud-config-v1.json"]
    assert (folder / left[0]).read_text() == NEW


def test_what_a_killed_registration_left_aside_goes(folder, root, schema):
    before = tree(folder)
    install(root)
    aside = (folder / SCHEMA).with_name(".schema-cloud-config-v1.json.new")
    aside.write_text("")
    uninstall(root)
    assert tree(folder) == before


def test_status_names_what_an_upgrade_of_cloud_init_has_undone(folder, root, schema):
    install(root)
    assert status(root) == []
    upgrade(schema)
    make(folder, {"etc/cloud/cloud.cfg": "cloud_init_modules: [new, ssh]"})
    assert status(root) == ["/" + LIST, "/" + SCHEMA]
    register(root)
    assert status(root) == []
    (folder / LIST).unlink()
    assert status(root) == ["/" + LIST]


def test_a_module_where_cloud_inits_python_does_not_look_is_not_registered(folder):
    install(Root(str(folder)))
    (folder / "usr/lib/python3.13/site-packages").mkdir(parents=True)
    (folder / PACKAGES / "cloudinit").rename(folder / "usr/lib/python3.13/site-packages/cloudinit")
    make(folder, {"usr/local/lib/python3.11/site-packages/cc_ssh_keepalive.py": ""})
    register(Root(str(folder)))
    (folder / PACKAGES / "cc_ssh_keepalive.py").unlink()
    with pytest.raises(ImageError, match="not in the image, use ssh-keepalive install"):
        register(Root(str(folder)))


def test_no_name_is_no_root():
    with pytest.raises(ImageError, match="no such folder"):
        Root("")


def test_install_from_where_cloud_inits_python_was_before(folder, monkeypatch):
    install(Root(str(folder)))
    moved = folder / "usr/lib/python3.13/site-packages"
    moved.mkdir(parents=True)
    (folder / PACKAGES / "cloudinit").rename(moved / "cloudinit")
    monkeypatch.setattr(image, "_SOURCE", str(folder / PACKAGES))
    install(Root(str(folder)))
    assert (moved / "cc_ssh_keepalive.py").exists()
    assert (moved / "ssh_keepalive/policy.py").exists()
    assert not (folder / PACKAGES / "cc_ssh_keepalive.py").exists()
