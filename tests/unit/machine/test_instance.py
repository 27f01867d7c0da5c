import pytest
from images import make
from ssh_keepalive.machine import instance
from ssh_keepalive.machine.host import Host

IMAGE = "etc/cloud/cloud.cfg.d/95_x.cfg"
VENDOR = "var/lib/cloud/instance/vendor-cloud-config.txt"
USER = "var/lib/cloud/instance/cloud-config.txt"
RUNTIME = "run/cloud-init/cloud.cfg"
COMMAND_LINE = "the kernel's command line"


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
        (
            {RUNTIME: "ssh_keepalive: {a: 1, b: 1}", "proc/cmdline": "quiet cc: ssh_keepalive: {a: 2} end_cc ro"},
            {"a": 2, "b": 1},
            [COMMAND_LINE, RUNTIME],
        ),
        (
            {"proc/cmdline": "cc:ssh_keepalive:\\n  a: 1 end_cc cc: ssh_keepalive%3A%20false"},
            False,
            [COMMAND_LINE],
        ),
        ({"proc/cmdline": "cc: ssh_keepalive: true", "proc/1/cmdline": "init", "run/systemd/container": ""}, None, []),
        ({"proc/1/cmdline": "init\0cc: ssh_keepalive: 1\0", "run/systemd/container": ""}, 1, [COMMAND_LINE]),
        ({IMAGE: "ssh_keepalive: {", USER: "- ssh_keepalive"}, None, []),
        ({IMAGE + ".off": "ssh_keepalive: true", IMAGE: "cloud_init_modules: [ssh, ssh_keepalive]"}, None, []),
    ],
    ids=[
        "none",
        "user",
        "image",
        "both",
        "false",
        "null",
        "over-false",
        "vendor",
        "kernel",
        "kernel-twice",
        "host",
        "container",
        "broken",
        "not-read",
    ],
)
def test_what_is_asked_and_by_whom(tmp_path, files, section, sources):
    make(tmp_path, files)
    found = instance.request(Host(root=str(tmp_path)))
    assert found.section == section
    assert [source.replace(str(tmp_path) + "/", "") for source in found.sources] == sources


RAW, MADE = "var/lib/cloud/instance/user-data.txt", USER
VENDOR_RAW = "var/lib/cloud/instance/vendor-data.txt"
POLICY = "#cloud-config\nssh_keepalive: true\n"
TEMPLATE = "## template: jinja\n#cloud-config\n{}\n"
CONDITION = "{% if v1.region == 'eu' %}\nssh_keepalive: true\n{% endif %}"


@pytest.mark.parametrize(
    ("files", "reasons"),
    [
        (
            {RAW: "---\n" + POLICY, MADE: ""},
            [RAW + ":1:1: the first line is not #cloud-config: cloud-init would ignore all of it"],
        ),
        (
            {RAW: POLICY, MADE: "#cloud-config\n{}\n"},
            [RAW + ":2:1: nothing is wrong in it, grep -i user.data /var/log/cloud-init.log may tell why"],
        ),
        ({RAW: POLICY, IMAGE: "allow_userdata: false"}, [RAW + ":2:1: " + IMAGE + " has allow_userdata: false"]),
        ({RAW: POLICY, IMAGE: "allow_userdata: true"}, []),
        ({RAW: POLICY}, []),
        ({RAW: POLICY, MADE: POLICY}, []),
        ({RAW: "#cloud-config\nssh_keepalive: null\n", MADE: ""}, []),
        ({RAW: "#cloud-config\n# ssh_keepalive: true\na:\n\t- b\n", MADE: ""}, []),
        ({RAW: "#cloud-config\na:\n\t- b\n", MADE: ""}, []),
        ({RAW: "#!/bin/sh\necho ssh_keepalive: true\n", MADE: ""}, []),
        ({RAW: "#cloud-config\nlaunch-index: 1\nssh_keepalive: true\n", MADE: ""}, []),
        ({RAW: "#cloud-config\nssh_keepalives: true\n", MADE: ""}, []),
        ({RAW: "## template: jinja\n#!/bin/sh\nssh_keepalive: 1\n", MADE: ""}, []),
        (
            {RAW: TEMPLATE.format("ssh_keepalive: {{ x }}"), MADE: ""},
            [RAW + ":3:1: a template that cloud-init could not render"],
        ),
        (
            {RAW: TEMPLATE.format(CONDITION), MADE: ""},
            [RAW + ":4:1: a template with conditions: whether it has the section once it is rendered is not known"],
        ),
        ({RAW: TEMPLATE.format(CONDITION), MADE: "runcmd: [ls]"}, []),
        ({RAW: TEMPLATE.format("runcmd: [ls, {{ x }}]\nx:\n  ssh_keepalive: 1"), MADE: ""}, []),
        ({RAW: "#cloud-config\nx: |\n  ssh_keepalive: true\nruncmd: []\nruncmd: []\n", MADE: "x: |\n"}, []),
        ({RAW: "#cloud-config\nssh_keepalive: false\na:\n\t- b\n", MADE: ""}, []),
        (
            {RAW: "#cloud-config\n{a: 1, ssh_keepalive: true, b: [}\n", MADE: ""},
            [RAW + ":2:33: not YAML: expected the node content, but found '}', while parsing a flow node"],
        ),
        ({VENDOR_RAW: POLICY}, []),
        (
            {VENDOR_RAW: "---\n" + POLICY, VENDOR: ""},
            [VENDOR_RAW + ":1:1: the first line is not #cloud-config: cloud-init would ignore all of it"],
        ),
    ],
    ids=[
        "dashes",
        "no-reason",
        "refused",
        "not-yet",
        "not-yet-either",
        "taken",
        "null",
        "comment",
        "other",
        "script",
        "others-machines",
        "misspelled",
        "script-template",
        "template",
        "condition",
        "condition-elsewhere",
        "in-another-key-of-a-template",
        "in-another-key",
        "off",
        "braces",
        "vendor-off",
        "vendor",
    ],
)
def test_what_is_ignored_and_why(tmp_path, files, reasons):
    make(tmp_path, files)
    found = instance.request(Host(root=str(tmp_path)))
    assert [one.reason.replace(str(tmp_path) + "/", "") for one in found.misreadings] == reasons


def test_what_is_hidden_by_a_byte_order_mark_is_ignored(tmp_path):
    make(tmp_path, {RAW: "", MADE: ""})
    (tmp_path / RAW).write_bytes(POLICY.encode("utf-16"))
    (found,) = instance.request(Host(root=str(tmp_path))).misreadings
    assert found.reason.endswith(
        "user-data.txt:1:1: a byte order mark hides #cloud-config from cloud-init: save it as UTF-8 without one"
    )


def test_what_is_no_file_is_passed_over(tmp_path):
    make(tmp_path, {IMAGE: "ssh_keepalive: true"})
    (tmp_path / IMAGE).with_name("50_folder.cfg").mkdir()
    (tmp_path / IMAGE).with_name("60_link.cfg").symlink_to("60_link.cfg")
    assert instance.request(Host(root=str(tmp_path))).section is True


@pytest.mark.parametrize(
    ("files", "unlisted"),
    [
        ({IMAGE: "cloud_init_modules: [ssh]"}, ""),
        ({MADE: "cloud_init_modules: [ssh]"}, "user-data names cloud_init_modules without ssh_keepalive"),
        (
            {MADE: "cloud_init_modules: [ssh]", RAW: "#cloud-config\ncloud_init_modules: [ssh]"},
            "user-data, " + RAW + ":2:1, names cloud_init_modules without ssh_keepalive",
        ),
        ({MADE: "cloud_init_modules: [ssh, [ssh-keepalive, always]]"}, ""),
        ({VENDOR: "cloud_init_modules: [ssh]", MADE: "cloud_init_modules: [ssh_keepalive]"}, ""),
        (
            {
                VENDOR: "cloud_init_modules: [ssh]",
                MADE: "cloud_final_modules: [cc_ssh_keepalive]\n# cloud_init_modules",
            },
            "",
        ),
        ({MADE: "cloud_config_modules: [locale]"}, ""),
        (
            {"proc/cmdline": "cc: cloud_init_modules: [ssh]"},
            COMMAND_LINE + " names cloud_init_modules without ssh_keepalive",
        ),
    ],
)
def test_who_has_cloud_init_not_run_the_module(tmp_path, files, unlisted):
    make(tmp_path, files)
    assert instance.request(Host(root=str(tmp_path))).unlisted.replace(str(tmp_path) + "/", "") == unlisted
