"""The module's registration with an image's cloud-init, and its end."""

import os
import stat

import pytest
import yaml
from images import (
    CLEAN,
    LIST,
    NEW,
    OLD,
    ORIGINAL,
    PACKAGES,
    SCHEMA,
    UNIT,
    UNIT_LINKS,
    make,
    modules,
    refused,
    tree,
    upgrade,
)
from ssh_keepalive.image import note_unit
from ssh_keepalive.image.cloud_init_schema import has_key
from ssh_keepalive.image.installation import install, uninstall
from ssh_keepalive.image.registration import has_cloud_init, register, status, unregister
from ssh_keepalive.image.root import ImageError

MODULE = {PACKAGES + "/cc_ssh_keepalive.py": ""}


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


def test_the_original_is_given_back_with_all_that_is_its_own(folder, root, schema):
    os.utime(str(schema), (1, 1))
    before, found = tree(folder), schema.stat()
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
    assert (after.st_ino, after.st_mtime, after.st_nlink) == (found.st_ino, found.st_mtime, 1)


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


def test_a_registration_that_stopped_half_way_is_gone_on_with(folder, root, schema):
    before = tree(folder)
    os.link(str(schema), str(folder / ORIGINAL))
    install(root)
    assert has_key(schema.read_text())
    uninstall(root)
    assert tree(folder) == before


def test_what_a_killed_registration_left_staged_goes(folder, root, schema):
    before = tree(folder)
    install(root)
    staged = schema.with_name(".schema-cloud-config-v1.json.new")
    staged.write_text("")
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


def test_systemd_gets_the_unit_that_notes_and_loses_it_again(folder, root, units):
    make(folder, MODULE)
    before = tree(folder)
    register(root)
    once = tree(folder)
    assert set(once) - set(before) == {LIST, UNIT, *UNIT_LINKS, *map(os.path.dirname, UNIT_LINKS)}
    assert (folder / UNIT).read_text() == note_unit.render()
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
    assert set(tree(folder)) - set(before) == {LIST, UNIT, *UNIT_LINKS}
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
    assert status(root) == []
    (folder / UNIT_LINKS[1]).unlink()
    assert status(root) == ["/" + UNIT_LINKS[1]]
    (folder / UNIT).unlink()
    assert status(root) == sorted("/" + name for name in (UNIT, *UNIT_LINKS))
    register(root)
    assert status(root) == []


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


def test_status_names_a_script_that_cloud_init_clean_lacks(folder, root):
    install(root)
    make(folder, {"etc/cloud/clean.d/README": "as an upgrade of cloud-init brings it"})
    assert status(root) == ["/" + CLEAN]
    register(root)
    assert status(root) == []
