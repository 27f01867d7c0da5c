"""The unit that notes what sshd has read."""

from ssh_keepalive.image import note_unit


def test_it_runs_the_command_where_there_is_a_policy_or_was_one():
    lines = note_unit.render().splitlines()
    assert "ExecStart=-/usr/bin/ssh-keepalive note" in lines
    assert [line for line in lines if line.startswith("Condition")] == [
        "ConditionPathExists=|/etc/ssh/sshd_config.d/00-ssh-keepalive.conf",
        "ConditionPathExists=|/run/ssh-keepalive.lock",
    ]
