"""The module's registration with an image's cloud-init, and its end."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from images import (
    CLEAN,
    LIST,
    MODULE,
    ORIGINAL,
    PACKAGES,
    REGISTER_UNIT,
    REGISTER_UNIT_LINK,
    RUNTIME,
    SCHEMA,
    UNIT,
    UNIT_LINKS,
    UNITS,
    changed,
    make,
    modules,
    refused,
    tree,
    upgrade,
)
from ssh_keepalive.image import module_files, note_unit, register_unit
from ssh_keepalive.image.cloud_init_schema import has_key
from ssh_keepalive.image.installation import install
from ssh_keepalive.image.module_files import SOURCE
from ssh_keepalive.image.registration import has_cloud_init, register, status, unregister
from ssh_keepalive.image.root import ImageError, Root


def test_an_image_has_cloud_init_or_not(folder, root):
    assert has_cloud_init(root)
    (folder / PACKAGES / "cloudinit/version.py").unlink()
    assert not has_cloud_init(root)


def test_a_module_that_a_package_has_brought_is_registered(folder, root, schema):
    make(folder, {**MODULE, "etc/ssh/sshd_config.d/00-ssh-keepalive.conf": ""})
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


def test_a_module_where_cloud_inits_python_does_not_look_is_not_registered(folder, root):
    install(root)
    (folder / "usr/lib/python3.13/site-packages").mkdir(parents=True)
    (folder / PACKAGES / "cloudinit").rename(folder / "usr/lib/python3.13/site-packages/cloudinit")
    make(folder, {"usr/local/lib/python3.11/site-packages/cc_ssh_keepalive.py": ""})
    register(root)
    (folder / PACKAGES / "cc_ssh_keepalive.py").unlink()
    with pytest.raises(ImageError, match="not in the image, use ssh-keepalive install"):
        register(root)


@pytest.mark.parametrize("run", [install, register])
def test_the_last_list_in_the_folder_counts(folder, root, run):
    make(folder, MODULE)
    make(folder, {"etc/cloud/cloud.cfg.d/10_a.cfg": "cloud_init_modules: [a, ssh]"})
    make(folder, {"etc/cloud/cloud.cfg.d/20_b.cfg": "cloud_init_modules: [b, ssh]"})
    run(root)
    assert modules(folder) == ["b", "ssh", ["ssh_keepalive"]]


@pytest.mark.parametrize("run", [install, register])
def test_a_changed_list_is_taken_over_by_the_next_registration(folder, root, run):
    make(folder, MODULE)
    run(root)
    make(folder, {"etc/cloud/cloud.cfg": "cloud_init_modules: [new, ssh]"})
    run(root)
    assert modules(folder) == ["new", "ssh", ["ssh_keepalive"]]


ANOTHER = "import sys; from ssh_keepalive.image import registration as r; r.register(r.Root(sys.argv[1]))"


@pytest.mark.parametrize("name", ["symlink", "fsync", "rename"])
@pytest.mark.parametrize("nth", [0, 2])
def test_two_registrations_at_once_are_as_good_as_one(folder, root, schema, units, monkeypatch, name, nth):
    make(folder, MODULE)
    register(root)
    wanted = tree(folder)
    unregister(root)
    real, calls = getattr(os, name), []

    def another_comes(*arguments):
        calls.append(arguments)
        if len(calls) == nth + 1:
            command = [sys.executable, "-c", ANOTHER, str(folder)]
            subprocess.run(command, env={**os.environ, "PYTHONPATH": SOURCE}, check=True)
        return real(*arguments)

    monkeypatch.setattr(os, name, another_comes)
    register(root)
    assert len(calls) > nth
    assert tree(folder) == wanted


def test_cloud_init_clean_gets_its_script_and_loses_it_again(folder, root, clean_d):
    make(folder, MODULE)
    before = tree(folder)
    register(root)
    once = tree(folder)
    assert set(once) - set(before) == {LIST, CLEAN}
    assert once[CLEAN][0] == "-rwxr-xr-x"
    register(root)
    assert tree(folder) == once
    make(folder, {CLEAN.replace("50-", ".50-") + ".new": "left by a killed registration"})
    unregister(root)
    assert tree(folder) == before


def test_a_cloud_init_whose_clean_runs_nothing_gets_no_script(folder, root):
    install(root)
    assert not (folder / CLEAN).parent.exists()


def test_systemd_gets_the_units_and_loses_them_again(folder, root, units):
    make(folder, MODULE)
    before = tree(folder)
    register(root)
    once = tree(folder)
    assert set(once) - set(before) == {LIST, *UNITS, *map(os.path.dirname, UNIT_LINKS)}
    assert (folder / UNIT).read_text() == note_unit.render()
    assert (folder / REGISTER_UNIT).read_text() == register_unit.render("/" + SCHEMA)
    assert once[REGISTER_UNIT_LINK][1] == "../ssh-keepalive-register.service"
    assert {once[link][1] for link in UNIT_LINKS} == {"../ssh-keepalive-note.service"}
    register(root)
    assert tree(folder) == once
    unregister(root)
    assert tree(folder) == before


@pytest.mark.parametrize("folders", [["lib/systemd/system"], ["usr/lib/systemd/system", "lib/systemd/system"]])
def test_the_unit_is_in_the_first_folder_that_systemd_has(folder, root, folders):
    make(folder, {**MODULE, **{name + "/x.target.wants/x.service": "" for name in folders}})
    before = tree(folder)
    register(root)
    assert [name for name in tree(folder) if name.endswith("system/ssh-keepalive-note.service")] == [
        folders[0] + "/ssh-keepalive-note.service"
    ]
    unregister(root)
    assert tree(folder) == before


def test_what_others_want_stays(folder, root, units):
    make(folder, {**MODULE, **{os.path.dirname(link) + "/other.service": "" for link in UNIT_LINKS}})
    before = tree(folder)
    register(root)
    assert set(tree(folder)) - set(before) == {LIST, *UNITS}
    unregister(root)
    assert tree(folder) == before


def test_a_link_that_leads_elsewhere_is_made_anew(folder, root, units):
    make(folder, MODULE)
    (folder / UNIT_LINKS[0]).parent.mkdir()
    (folder / UNIT_LINKS[0]).symlink_to("/dev/null")
    register(root)
    assert os.readlink(str(folder / UNIT_LINKS[0])) == "../ssh-keepalive-note.service"


def test_an_image_without_systemd_gets_no_unit(folder, root):
    install(root)
    assert [name for name in tree(folder) if "systemd" in name] == []


def test_status_names_a_unit_that_is_gone(folder, root, units):
    install(root)
    assert changed(root) == []
    (folder / UNIT_LINKS[1]).unlink()
    assert changed(root) == ["/" + UNIT_LINKS[1]]
    (folder / UNIT).unlink()
    assert changed(root) == sorted("/" + name for name in (UNIT, *UNIT_LINKS))
    (folder / REGISTER_UNIT_LINK).unlink()
    assert "/" + REGISTER_UNIT_LINK in changed(root)
    register(root)
    assert changed(root) == []


def test_status_names_what_an_upgrade_of_cloud_init_has_undone(folder, root, schema):
    install(root)
    assert changed(root) == []
    upgrade(schema)
    make(folder, {"etc/cloud/cloud.cfg": "cloud_init_modules: [new, ssh]"})
    assert changed(root) == ["/" + LIST, "/" + SCHEMA]
    register(root)
    assert changed(root) == []
    (folder / LIST).unlink()
    assert changed(root) == ["/" + LIST]


def test_status_names_a_script_that_cloud_init_clean_lacks(folder, root):
    install(root)
    make(folder, {"etc/cloud/clean.d/README": "as an upgrade of cloud-init brings it"})
    assert changed(root) == ["/" + CLEAN]
    register(root)
    assert changed(root) == []


@pytest.mark.parametrize("name", ["95_ssh_keepalive.cfg", "10_other.cfg"])
def test_a_drop_in_that_names_no_list_changes_nothing(folder, root, name):
    install(root)
    once = tree(folder)
    make(folder, {"etc/cloud/cloud.cfg.d/" + name: "ssh_keepalive: true"})
    assert changed(root) == []
    register(root)
    assert tree(folder)[LIST] == once[LIST]


def test_a_list_that_says_the_same_is_registered_whatever_it_was_made_from(folder, root):
    install(root)
    once = (folder / LIST).read_bytes()
    with (folder / "etc/cloud/cloud.cfg").open("a") as stream:
        stream.write("locale: C\n")
    assert changed(root) == []
    register(root)
    assert (folder / LIST).read_bytes() != once


@pytest.mark.parametrize(
    ("gone", "missing"),
    [
        ("cc_ssh_keepalive.py", "cc_ssh_keepalive.py"),
        ("ssh_keepalive/__init__.py", "ssh_keepalive/__init__.py"),
        ("ssh_keepalive/policy.py", "ssh_keepalive/policy.py"),
        ("ssh_keepalive/machine", "ssh_keepalive/machine/__init__.py"),
        ("ssh_keepalive", "ssh_keepalive/__init__.py"),
    ],
)
def test_status_names_what_is_missing_of_the_module(folder, root, gone, missing):
    install(root)
    (folder / PACKAGES / gone).rename(folder / "gone")
    assert status(root).missing == "/{}/{}".format(PACKAGES, missing)


def test_of_another_version_of_the_module_not_all_files_are_known(folder, root):
    install(root)
    (folder / PACKAGES / "ssh_keepalive/policy.py").unlink()
    (folder / PACKAGES / "ssh_keepalive/__init__.py").write_text('__version__ = "0.0.9"\n')
    assert status(root).missing is None


def test_of_the_package_that_asks_what_a_boot_imports_is_known(folder, root, monkeypatch):
    install(root)
    monkeypatch.setattr(module_files, "SOURCE", str(folder / PACKAGES))
    assert status(root).missing is None

    def fails(name):
        raise ModuleNotFoundError(name="ssh_keepalive.machine.judgement")

    monkeypatch.setattr(module_files.importlib, "import_module", fails)
    assert status(root).missing == "/" + PACKAGES + "/ssh_keepalive/machine/judgement.py"


LATE = "etc/cloud/cloud.cfg.d/99_zzz.cfg"
NOTE = (
    "/" + LATE + ": its cloud_init_modules replaces ours, "
    "each boot adds ssh_keepalive to it in /run/cloud-init/cloud.cfg"
)
MADE_FROM = "\n# Made from: "
BEGINNING = "datasource_list: [ NoCloud, None ]\n"


def test_a_list_that_sorts_after_ours_waits_for_a_boot(folder, root, units):
    make(folder, {**MODULE, LATE: "cloud_init_modules: [late, ssh]"})
    before = tree(folder)
    assert register(root) == [NOTE]
    assert list(status(root).notes) == [NOTE]
    assert modules(folder) == ["late", "ssh", ["ssh_keepalive"]]
    # So that the unit finds it out of date.
    assert MADE_FROM not in (folder / LIST).read_text()
    assert not (folder / "run").exists()
    unregister(root)
    assert tree(folder) == before


def test_on_a_booted_machine_it_overrides_that_one_at_once(folder, root, units):
    make(folder, {**MODULE, LATE: "cloud_init_modules: [late, ssh]", RUNTIME: BEGINNING})
    before = tree(folder)
    for _ in range(2):
        register(root)
        text = (folder / RUNTIME).read_text()
        assert yaml.safe_load(text) == {
            "datasource_list": ["NoCloud", "None"],
            "cloud_init_modules": ["late", "ssh", ["ssh_keepalive"]],
        }
        assert text.startswith(BEGINNING + "# BEGIN ssh-keepalive\n")
        assert text.count(MADE_FROM) == 2
        assert MADE_FROM not in (folder / LIST).read_text()
        assert "/" + LIST not in status(root).changed
    (folder / RUNTIME).write_text(BEGINNING)
    assert "/" + LIST in status(root).changed
    register(root)
    (folder / LATE).unlink()
    register(root)
    assert (folder / RUNTIME).read_text() == BEGINNING
    assert MADE_FROM in (folder / LIST).read_text()
    make(folder, {LATE: "cloud_init_modules: [late, ssh]", RUNTIME: BEGINNING})
    register(root)
    unregister(root)
    assert tree(folder) == before
    unregister(root)
    assert tree(folder) == before


def test_a_list_after_ours_that_has_the_module_is_left_alone(folder, root, units):
    make(folder, {**MODULE, LATE: "cloud_init_modules: [late, ssh, ssh_keepalive]", RUNTIME: BEGINNING})
    assert register(root) == []
    assert (folder / RUNTIME).read_text() == BEGINNING


def comments(folder):
    return [line for line in (folder / LIST).read_text().splitlines() if line.startswith("#")]


@pytest.fixture
def read_only(monkeypatch):
    """Name the folders that are read-only."""
    folders = []
    monkeypatch.setattr(Root, "is_read_only", lambda self, path: path.startswith(tuple(folders)))
    return folders


def test_with_a_read_only_usr_the_list_is_registered_and_the_rest_waits(folder, root, schema, units, read_only):
    install(root)
    upgrade(schema)
    (folder / UNIT).unlink()
    make(folder, {"etc/cloud/cloud.cfg": "cloud_init_modules: [new, ssh]"})
    read_only.append("/usr")
    before = {name: what for name, what in tree(folder).items() if name.startswith("usr")}
    waits = ["/{} stays as it is, its file system is read-only".format(name) for name in (SCHEMA, UNIT, *UNIT_LINKS)]
    assert register(root) == waits
    assert {name: what for name, what in tree(folder).items() if name.startswith("usr")} == before
    assert modules(folder) == ["new", "ssh", ["ssh_keepalive"]]
    assert (changed(root), list(status(root).notes)) == ([], waits)
    # So that the next boots have nothing to do until /usr can be written.
    assert comments(folder)[2:] == register_unit.lines(root, None)
    read_only.clear()
    assert register(root) == []
    assert comments(folder)[2:] == register_unit.lines(root, "/" + SCHEMA)
    assert len(comments(folder)) == 2 + 3
    assert has_key(schema.read_text())


def test_with_a_read_only_etc_a_booted_machine_has_its_list_elsewhere(folder, root, read_only):
    install(root)
    make(folder, {"etc/cloud/cloud.cfg": "cloud_init_modules: [new, ssh]", RUNTIME: BEGINNING})
    read_only.append("/etc")
    before = (folder / LIST).read_bytes()
    assert changed(root) == ["/" + LIST]
    assert register(root) == []
    assert (folder / LIST).read_bytes() == before
    assert yaml.safe_load((folder / RUNTIME).read_text())["cloud_init_modules"] == ["new", "ssh", ["ssh_keepalive"]]
    assert changed(root) == []


DEFAULTS = "etc/default/cloud-init"
INIT_SCRIPTS = {"etc/init.d/cloud-init-local": "#!/bin/sh\n# openrc-run reads this, too\n", "sbin/init": ""}
# As Alpine and Gentoo have it
OPENRC_SCRIPT = "#!/sbin/openrc-run\ndescription=cloud-init\n"


@pytest.mark.parametrize("others", [None, "", "X=1\n", "X=1\n\n", "X=1"])
def test_cloud_inits_init_scripts_register_where_there_is_no_systemd(folder, root, others):
    make(folder, {**MODULE, **INIT_SCRIPTS, LATE: "cloud_init_modules: [late, ssh]"})
    if others is not None:
        make(folder, {DEFAULTS: others})
        (folder / DEFAULTS).chmod(0o640)
    before = tree(folder)
    assert register(root) == [NOTE]
    text = (folder / DEFAULTS).read_text()
    assert text.startswith((others or "") + ("\n" if others == "X=1" else "") + "# BEGIN ssh-keepalive\n")
    assert register_unit.render_defaults("/" + SCHEMA) in text
    assert stat.S_IMODE((folder / DEFAULTS).stat().st_mode) == (0o644 if others is None else 0o640)
    once = tree(folder)
    register(root)
    assert tree(folder) == once
    unregister(root)
    if others == "":  # a file without a word is as good as none
        before.pop(DEFAULTS)
    if others is None:
        (folder / "etc/default").rmdir()
    assert tree(folder) == before


@pytest.mark.parametrize(
    "files",
    [
        {"etc/init.d/cloud-init-local": "", "lib/systemd/systemd": ""},
        {"etc/init.d/cloud-init-local": ""},
        {"sbin/init": ""},
        {"etc/init.d/cloud-init-local": OPENRC_SCRIPT, "sbin/init": ""},
    ],
    ids=["systemd", "no init", "other scripts", "scripts of OpenRC's own"],
)
def test_elsewhere_they_are_told_nothing(folder, root, files):
    make(folder, {**MODULE, **files})
    if "lib/systemd/systemd" in files:
        (folder / "sbin").mkdir()
        (folder / "sbin/init").symlink_to("/lib/systemd/systemd")
    register(root)
    assert not (folder / DEFAULTS).exists()


def test_where_no_boot_would_register_a_list_that_sorts_after_ours_is_refused(folder, root):
    make(folder, {**MODULE, **INIT_SCRIPTS, "etc/init.d/cloud-init-local": OPENRC_SCRIPT})
    make(folder, {LATE: "cloud_init_modules: [late, ssh]"})
    said = "/{}: its cloud_init_modules would replace ours, rename it to sort before {}".format(LATE, Path(LIST).name)
    for run in (register, install, status):
        assert refused(folder, run) == said


class Labelled(Root):
    def label(self, paths):
        return [f"labelled {path}" for path in paths if self.exists(path)]


def test_all_that_is_registered_is_labelled_and_what_goes_wrong_is_a_note(folder, schema, units):
    make(folder, MODULE)
    notes = register(Labelled(str(folder)))
    assert set(notes) == {f"labelled /{path}" for path in (LIST, SCHEMA, *UNITS)}
