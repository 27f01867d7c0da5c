"""Lists of modules in the forms that cloud-init takes."""

import pytest
import yaml
from images import LIST, make
from ssh_keepalive.image.module_list import find, holds_list, list_text, with_module
from ssh_keepalive.image.root import ImageError


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        (["ssh", "set_passwords", "final"], ["ssh", "set_passwords", ["ssh_keepalive"], "final"]),
        (["set-passwords", "a", "ssh", "z"], ["set-passwords", "a", "ssh", ["ssh_keepalive"], "z"]),
        ([["cc_ssh", "always"], "z"], [["cc_ssh", "always"], ["ssh_keepalive"], "z"]),
        ([{"name": "ssh", "frequency": "always"}], [{"name": "ssh", "frequency": "always"}, ["ssh_keepalive"]]),
        (["ssh-keepalive", "ssh", "z", "ssh_keepalive"], ["ssh", ["ssh_keepalive"], "z"]),
        (["bootcmd", "set_passwords", "z"], ["bootcmd", "set_passwords", ["ssh_keepalive"], "z"]),
        (["bootcmd", "ssh_import_id"], ["bootcmd", "ssh_import_id", ["ssh_keepalive"]]),
        ([], [["ssh_keepalive"]]),
    ],
)
def test_the_modules_place_in_the_list(listed, expected):
    assert with_module(listed) == expected


def test_the_text_of_a_list_is_what_cloud_init_reads():
    text = list_text(["migrator", ["ssh", "always"], {"name": "growpart"}, ["ssh_keepalive"]])
    assert text.startswith("# Written by ssh-keepalive: ")
    assert yaml.safe_load(text) == {
        "cloud_init_modules": ["migrator", ["ssh", "always"], {"name": "growpart"}, ["ssh_keepalive"]]
    }


def test_a_text_holds_a_list_whatever_it_was_made_from():
    modules = ["ssh", ["ssh_keepalive"]]
    assert "\n# a\n# b\ncloud_init_modules:\n" in list_text(modules, ["# a", "# b"])
    for text in (list_text(modules), list_text(modules, ["# a"]), "datasource_list: [x]\n" + list_text(modules)):
        assert holds_list(text, modules)
        assert not holds_list(text, modules[1:])


def listed(folder, root, text, name="50_x.cfg"):
    """Return what is found with a text in a drop-in: the modules, what overrides ours, and what was not read."""
    make(folder, {"etc/cloud/cloud.cfg.d/" + name: text})
    found = find(root)
    return [entry for entry in found.modules if entry != ["ssh_keepalive"]], found.overridden_by, found.unread


IMAGES = ["migrator", "users-groups", "ssh"]
LEFT_OUT = "/etc/cloud/cloud.cfg.d/50_x.cfg: what it says of cloud_init_modules is left out: "


@pytest.mark.parametrize(
    ("text", "modules", "unread"),
    [
        ("a: b\n", IMAGES, ()),
        ("cloud_init_modules: [a, ssh]\n", ["a", "ssh"], ()),
        ("a: [b\n", IMAGES, ()),
        (
            "cloud_init_modules: [b\n",
            IMAGES,
            (
                LEFT_OUT + 'while parsing a flow sequence in "<byte string>", line 1, column 21: '
                "cloud_init_modules: [b ^ expected ',' or ']', but got '<stream end>' "
                'in "<byte string>", line 2, column 1: ^',
            ),
        ),
        ("# cloud_init_modules are in cloud.cfg\n", IMAGES, ()),
        ("[cloud_init_modules]\n", IMAGES, ()),
        ("## template: jinja\n{% if x %}\na: b\n{% endif %}\n", IMAGES, ()),
        (
            "## template: jinja\n{% if x %}\ncloud_init_modules: [a]\n{% endif %}\n",
            IMAGES,
            (LEFT_OUT + "it is a template",),
        ),
        ("## template: jinja\ncloud_init_modules: [a, {{ x }}]\n", IMAGES, (LEFT_OUT + "it is a template",)),
        ("## template: jinja\ncloud_init_modules: [a, '{{ x }}']\n", IMAGES, (LEFT_OUT + "it is a template",)),
        ("## template: jinja\ncloud_init_modules: [a, {name: b}]\n", ["a", {"name": "b"}], ()),
        ("cloud_init_modules: [a, '{{ x }}']\n", ["a", "{{ x }}"], ()),
    ],
)
def test_what_a_drop_in_says_of_the_list(folder, root, text, modules, unread):
    assert listed(folder, root, text) == (modules, None, unread)


def test_a_drop_in_that_is_no_file_says_nothing(folder, root):
    (folder / "etc/cloud/cloud.cfg.d/60_x.cfg").mkdir()
    (folder / "etc/cloud/cloud.cfg.d/70_x.cfg").symlink_to("/nowhere")
    assert listed(folder, root, "")[0] == IMAGES


@pytest.mark.parametrize(
    ("modules", "overridden"), [("[a, ssh]", True), ("[a, ssh, ssh-keepalive]", False)], ids=["without us", "with us"]
)
def test_a_list_that_sorts_after_ours_counts_and_overrides_it(folder, root, modules, overridden):
    found = listed(folder, root, "cloud_init_modules: " + modules, "99_zzz.cfg")
    assert found == (["a", "ssh"], "/etc/cloud/cloud.cfg.d/99_zzz.cfg" if overridden else None, ())


def test_our_own_file_is_none_of_its_sources(folder, root):
    make(folder, {LIST: "cloud_init_modules: [stale]"})
    assert find(root).modules == [*IMAGES, ["ssh_keepalive"]]


def test_no_list_at_all(folder, root):
    make(folder, {"etc/cloud/cloud.cfg": "cloud_init_modules: [b"})
    with pytest.raises(ImageError) as caught:
        find(root)
    assert str(caught.value).startswith(
        "/etc/cloud/cloud.cfg: no list of cloud_init_modules; "
        "/etc/cloud/cloud.cfg: what it says of cloud_init_modules is left out: while parsing a flow sequence"
    )
