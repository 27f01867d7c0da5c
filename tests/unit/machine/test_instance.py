import pytest
from ssh_keepalive.machine import instance

IMAGE = "etc/cloud/cloud.cfg.d/95_x.cfg"
VENDOR = "var/lib/cloud/instance/vendor-cloud-config.txt"
USER = "var/lib/cloud/instance/cloud-config.txt"


@pytest.mark.parametrize(
    ("files", "section", "sources"),
    [
        ({}, None, []),
        ({USER: "ssh_keepalive: true"}, True, ["user-data"]),
        ({IMAGE: "ssh_keepalive: {a: 1}"}, {"a": 1}, [IMAGE]),
        (
            {IMAGE: "ssh_keepalive: {a: 1, b: 1}", USER: "ssh_keepalive: {a: 2}"},
            {"a": 2, "b": 1},
            ["user-data", IMAGE],
        ),
        ({IMAGE: "ssh_keepalive: {a: 1}", USER: "ssh_keepalive: false"}, False, ["user-data"]),
        ({IMAGE: "ssh_keepalive: {a: 1}", USER: "ssh_keepalive: null"}, None, ["user-data"]),
        ({IMAGE: "ssh_keepalive: false", USER: "ssh_keepalive: {}"}, {}, ["user-data"]),
        (
            {"etc/cloud/cloud.cfg": "ssh_keepalive: {a: 1}", VENDOR: "ssh_keepalive: {b: 2}", IMAGE: "x: 1"},
            {"a": 1, "b": 2},
            ["vendor-data", "etc/cloud/cloud.cfg"],
        ),
        ({IMAGE: "ssh_keepalive: {", USER: "- ssh_keepalive"}, None, []),
        ({IMAGE + ".off": "ssh_keepalive: true", IMAGE: "cloud_init_modules: [ssh, ssh_keepalive]"}, None, []),
    ],
    ids=["none", "user", "image", "both", "false", "null", "over-false", "vendor", "broken", "not-read"],
)
def test_what_is_asked_and_by_whom(tmp_path, files, section, sources):
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    found = instance.request(str(tmp_path))
    assert found.section == section
    assert [source.replace(str(tmp_path) + "/", "") for source in found.sources] == sources
