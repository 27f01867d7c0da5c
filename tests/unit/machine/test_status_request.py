"""What status says of what cloud-init was asked, has ignored, has failed to do, or cannot run."""

import os
import time

import pytest
from images import make
from ssh_keepalive.machine.problem import RUN_AGAIN
from ssh_keepalive.machine.report import as_json
from ssh_keepalive.machine.status import status
from states import COPY, DROP_IN, IGNORED, INSTANCE, PROMISE, WITH_TAB, asks, begins, fails, handed, told

NOT_THERE = "user-data asks for a policy, and there is no " + DROP_IN
CHANGE = "ssh-keepalive apply FILE, with a policy that it can enforce"


@pytest.mark.parametrize(
    ("section", "message", "remedy"),
    [
        ("true", NOT_THERE, RUN_AGAIN),
        (
            "{unresponsive_timeout: 1s}",
            "user-data asks for what is refused: ssh_keepalive.unresponsive_timeout: '1s': "
            "expected a time from 15s to 1d, for example 3m",
            CHANGE,
        ),
    ],
)
def test_what_was_asked_and_is_not_there(machine, section, message, remedy):
    asks(machine, section)
    assert told(machine, 1)[:2] == ["not enforced: " + message, "remedy: " + remedy]


def test_what_was_asked_before_the_module_was_there(machine):
    handed(machine, {"cloud-config.txt": "ssh_keepalive: true"})
    assert told(machine, 1)[:2] == [
        "not enforced: " + NOT_THERE + ": cloud-init has not run the module on this instance",
        "remedy: " + RUN_AGAIN,
    ]


def test_a_failure_for_a_section_that_came_in_another_way(machine):
    fails(machine, "('ssh_keepalive', SshdError('no luck'))")
    assert told(machine, 1)[:2] == [
        "not enforced: cloud-init's module has failed: no luck",
        "remedy: correct that, then " + RUN_AGAIN,
    ]


def test_what_cloud_init_has_ignored(machine):
    handed(machine, WITH_TAB)
    assert told(machine, 1)[:2] == ["not enforced: " + IGNORED, "remedy: " + COPY]


def test_what_cloud_init_has_ignored_beside_the_images_default(enforced):
    handed(enforced, WITH_TAB)
    handed(enforced, {"95_x.cfg": "ssh_keepalive: true"}, "etc/cloud/cloud.cfg.d")
    assert told(enforced, 1)[:2] == ["not enforced: " + IGNORED, "remedy: " + COPY]


def test_what_cloud_init_has_ignored_and_somebody_has_applied(enforced):
    handed(enforced, WITH_TAB)
    begins(enforced, -1)
    lines = told(enforced, 0)
    assert (lines[0], lines[-2]) == ("enforced: " + PROMISE, "note: " + IGNORED)


def test_what_cloud_init_has_ignored_beside_an_earlier_instances_policy(enforced):
    handed(enforced, WITH_TAB)
    begins(enforced, 1)
    assert told(enforced, 1)[:2] == ["not enforced: " + IGNORED, "remedy: " + COPY]


def test_an_earlier_instances_policy_where_the_module_has_not_run(enforced):
    handed(enforced, {"cloud-config.txt": "ssh_keepalive: {unresponsive_timeout: 1h}"})
    begins(enforced, 1)
    assert told(enforced, 1)[:2] == [
        "not enforced: user-data asks for another policy: cloud-init has not run the module on this instance",
        "remedy: " + RUN_AGAIN,
    ]
    # One that was applied by hand
    begins(enforced, -1)
    assert told(enforced, 0)[0] == "enforced: " + PROMISE


@pytest.mark.parametrize("section", ["{unresponsive_timeout: 1h}", "false"])
def test_an_earlier_instances_policy_where_the_module_has_failed_at_an_earlier_boot(enforced, section):
    handed(enforced, {"cloud-config.txt": "ssh_keepalive: " + section})
    begins(enforced, 1)
    handed(enforced, {"config_ssh_keepalive": ""}, "var/lib/cloud/instance/sem")
    assert told(enforced, 1)[:2] == [
        "not enforced: user-data asks for another policy: this one is from before this instance",
        "remedy: " + RUN_AGAIN,
    ]
    # One that was written on this instance
    begins(enforced, -1)
    assert told(enforced, 0)[0] == "enforced: " + PROMISE


def test_what_is_ignored_of_vendor_data_and_overridden_is_a_note(enforced):
    asks(enforced, "{unresponsive_timeout: 3m}")
    handed(enforced, {"vendor-data.txt": "---\n" + WITH_TAB["user-data.txt"], "vendor-cloud-config.txt": ""})
    lines = told(enforced, 0)
    assert lines[0] == "enforced: " + PROMISE
    assert any(line.startswith("note: cloud-init has ignored ssh_keepalive in vendor-data: ") for line in lines)


def test_what_is_ignored_of_vendor_data_and_user_data_has_taken_off(machine):
    asks(machine, "false")
    handed(machine, {"vendor-data.txt": "---\n" + WITH_TAB["user-data.txt"], "vendor-cloud-config.txt": ""})
    assert told(machine, 0)[0] == "not configured"


def test_what_cloud_init_has_ignored_and_would_change_nothing(machine):
    handed(machine, {"user-data.txt": "I2Nsb3VkLWNvbmZpZwpzc2hfa2VlcGFsaXZlOiBmYWxzZQo=", "cloud-config.txt": ""})
    assert told(machine, 0)[0] == "not configured"


LIST = "#cloud-config\nssh_keepalive: true\ncloud_init_modules: [ssh]\n"
UNLISTED = "user-data, {}/user-data.txt:3:1, names cloud_init_modules without ssh_keepalive".format(INSTANCE)


def test_a_list_of_modules_without_ours(machine):
    handed(machine, {"user-data.txt": LIST, "cloud-config.txt": LIST})
    assert told(machine, 1)[:2] == ["not enforced: {}: {}".format(NOT_THERE, UNLISTED), "remedy: " + RUN_AGAIN]


def test_a_list_of_modules_without_ours_is_told_where_the_policy_is_in_effect(enforced):
    handed(enforced, {"user-data.txt": LIST, "cloud-config.txt": LIST})
    lines = told(enforced, 0)
    assert lines[0] == "enforced: " + PROMISE
    assert "note: " + UNLISTED + ", cloud-init does not run it on this instance" in lines
    assert as_json(status(enforced.host()))["request"]["runs_module"] is False


def test_who_has_asked_is_told_of_what_is_unknown_too(enforced):
    asks(enforced, "{unresponsive_timeout: 3m}")
    enforced.set("sshd", answers={"-V": (0, "", "")})
    lines = told(enforced, 2)
    assert lines[0] == "unknown: /usr/sbin/sshd -V names no OpenSSH version: exit 0 without a word"
    assert "asked by: user-data" in lines


# What cloud-init has written on Python 3.6, and does from 3.7 on.
@pytest.mark.parametrize(
    "error", ["""('ssh_keepalive', SshdError("it's so",))""", """('ssh_keepalive', SshdError("it's so"))"""]
)
def test_the_reason_is_told_for_which_it_is_not_there(machine, error):
    asks(machine, "true")
    fails(machine, error)
    assert told(machine, 1)[0] == (
        "not enforced: user-data asks for a policy, and there is no " + DROP_IN + ": it's so"
    )


def test_an_older_policy_than_the_one_that_failed(enforced):
    asks(enforced, "{unresponsive_timeout: 1h}")
    assert told(enforced, 0)[0] == "enforced: " + PROMISE
    result = fails(enforced, "('ssh_keepalive', SshdError('no luck'))")
    later = time.time() + 60
    os.utime(result, (later, later))
    assert told(enforced, 1)[:2] == [
        "not enforced: cloud-init's configuration was refused, this is an older policy: no luck",
        "remedy: correct that, then " + RUN_AGAIN,
    ]
    # One that was applied by hand after that
    os.utime(result, (1000, 1000))
    assert told(enforced, 0)[0] == "enforced: " + PROMISE


def test_who_asked_for_what_is_enforced(enforced):
    asks(enforced, "{unresponsive_timeout: 3m}")
    assert told(enforced, 0)[2] == "asked by: user-data"


def test_off_is_enforced_where_nothing_is(machine):
    asks(machine, "false")
    assert told(machine, 0)[:2] == ["not configured", "cloud-init's configuration: false by user-data"]


def test_a_cloud_init_that_cannot_run_the_module(enforced):
    make(enforced.root, {"usr/lib/python3/dist-packages/cloudinit/version.py": ""})
    lines = told(enforced, 1)
    assert lines[:3] == [
        "not registered: cloud-init may not run the module: "
        "/etc/cloud/cloud.cfg: not in the image, install cloud-init first",
        "remedy: correct that, then ssh-keepalive register",
        "enforced: " + PROMISE,
    ]


def test_a_policy_that_was_applied_on_a_machine_without_the_module(enforced):
    packages = "usr/lib/python3/dist-packages/"
    files = {packages + "cloudinit/version.py": "", "etc/cloud/cloud.cfg": "cloud_init_modules: [ssh]"}
    make(enforced.root, {**files, "etc/cloud/cloud.cfg.d/README": ""})
    lines = told(enforced, 1)
    assert lines[:3] == [
        "not registered: the module is not installed, there is no /" + packages + "cc_ssh_keepalive.py",
        "remedy: ssh-keepalive install --root /",
        "enforced: " + PROMISE,
    ]


def test_what_the_configuration_asks_and_this_sshd_cannot_do(enforced):
    handed(enforced, {"95_ssh_keepalive.cfg": "ssh_keepalive: {idle_timeout: 15m}\n"}, "etc/cloud/cloud.cfg.d")
    lines = told(enforced, 1)
    assert "asks for what is refused: ssh_keepalive.idle_timeout: 900: OpenSSH 8.4 has no ChannelTimeout" in lines[0]
    assert lines[1] == "remedy: " + CHANGE
    # Another policy is applied by hand.
    begins(enforced, -1)
    lines = told(enforced, 0)
    assert lines[0] == "enforced: " + PROMISE
    assert any("asks for what is refused: ssh_keepalive.idle_timeout: 900: " in line for line in lines[1:])
