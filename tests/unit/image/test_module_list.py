"""Lists of modules in the forms that cloud-init takes."""

import pytest
import yaml
from ssh_keepalive.image.module_list import list_text, with_module


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        (["ssh", "set_passwords", "final"], ["ssh", "set_passwords", ["ssh_keepalive"], "final"]),
        (["set-passwords", "a", "ssh", "z"], ["set-passwords", "a", "ssh", ["ssh_keepalive"], "z"]),
        ([["cc_ssh", "always"], "z"], [["cc_ssh", "always"], ["ssh_keepalive"], "z"]),
        ([{"name": "ssh", "frequency": "always"}], [{"name": "ssh", "frequency": "always"}, ["ssh_keepalive"]]),
        (["ssh-keepalive", "ssh", "z", "ssh_keepalive"], ["ssh", ["ssh_keepalive"], "z"]),
    ],
)
def test_the_modules_place_in_the_list(listed, expected):
    assert with_module(listed) == expected


def test_a_list_without_ssh_has_no_place_for_the_module():
    with pytest.raises(ValueError, match=r"^cloud_init_modules has no ssh, sshd would get no host keys$"):
        with_module(["bootcmd", "set_passwords"])


def test_the_text_of_a_list_is_what_cloud_init_reads():
    text = list_text(["migrator", ["ssh", "always"], {"name": "growpart"}, ["ssh_keepalive"]])
    assert text.startswith("# Written by ssh-keepalive: ")
    assert yaml.safe_load(text) == {
        "cloud_init_modules": ["migrator", ["ssh", "always"], {"name": "growpart"}, ["ssh_keepalive"]]
    }
