"""cloud-init's schema with our key in it, through upgrades, diversions and other tools, and as it was afterwards."""

import json
import os
import stat

import pytest
import yaml
from images import (
    DIVERSION,
    NEW,
    OLD,
    ORIGINAL,
    SCHEMA,
    changed,
    known,
    lay_in,
    make,
    refused,
    tree,
    upgrade,
)
from ssh_keepalive.image.cloud_init_schema import has_key
from ssh_keepalive.image.installation import install, uninstall
from ssh_keepalive.image.registration import register, unregister


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
    make(folder, DIVERSION)
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
    for staged in (".schema-cloud-config-v1.json.new", ".schema-cloud-config-v1.json.4711.new"):
        schema.with_name(staged).write_text("")
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
    assert refused(folder, unregister) == message.format(ORIGINAL)


@pytest.mark.parametrize("text", [OLD, NEW], ids=["from-22.2", "from-23.4"])
@pytest.mark.parametrize("diverted", [False, True], ids=["install", "package"])
@pytest.mark.parametrize("before", [False, True], ids=["after-ours", "before-ours"])
def test_another_tools_key_survives(folder, root, schema, text, diverted, before):
    upgrade(schema, text)
    if before:
        lay_in(schema)
    install(root)
    make(folder, DIVERSION if diverted else {})
    if not before:
        lay_in(schema)
    for _ in range(2):
        register(root)
        assert known(schema) == ["other", "ssh_keepalive"]
        assert changed(root) == []
    unregister(root)
    assert known(schema) == ["other"]
    assert not (folder / ORIGINAL).exists()
    register(root)
    assert known(schema) == ["other", "ssh_keepalive"]


@pytest.mark.parametrize("place", [0, None], ids=["first", "last"])
def test_another_tools_key_survives_wherever_it_lays_it_in(folder, root, schema, place):
    upgrade(schema)
    install(root)
    lay_in(schema, place=place)
    register(root)
    assert known(schema) == ["other", "ssh_keepalive"]
    uninstall(root)
    assert known(schema) == ["other"]


def test_another_tools_key_survives_an_upgrade_that_is_diverted(folder, root, schema):
    upgrade(schema, NEW.replace("ssh_pwauth", "obsolete"))
    install(root)
    make(folder, DIVERSION)
    lay_in(schema)
    for _ in range(2):
        upgrade(folder / ORIGINAL)
        register(root)
        assert known(schema) == ["other", "ssh_keepalive"]
        assert set(json.loads(schema.read_text())["properties"]) == {"ssh_pwauth", "other", "ssh_keepalive"}
        assert (folder / ORIGINAL).read_text() == NEW
    upgrade(folder / ORIGINAL)
    unregister(root)
    assert known(schema) == ["other"]


def test_another_tools_key_that_went_again_is_gone_and_the_original_is_given_back(folder, root, schema):
    upgrade(schema)
    lay_in(schema)
    install(root)
    registered = json.loads(schema.read_text())
    for names in (registered["$defs"], registered["properties"]):
        for name in ("other", "cc_other"):
            names.pop(name, None)
    registered["allOf"].remove({"$ref": "#/$defs/cc_other"})
    registered["$defs"]["all_modules"]["enum"].remove("other")
    schema.write_text(json.dumps(registered, indent=2) + "\n")
    register(root)
    assert known(schema) == ["ssh_keepalive"]
    unregister(root)
    assert schema.read_text() == NEW
