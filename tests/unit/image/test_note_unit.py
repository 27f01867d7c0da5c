"""The unit that notes what sshd has read."""

from ssh_keepalive.image import note_unit


def test_it_runs_the_command_where_there_is_a_policy():
    lines = note_unit.render().splitlines()
    files = "/etc/ssh/sshd_config.d/00-ssh-keepalive.conf /etc/ssh/sshd_config"
    assert [line for line in lines if line.startswith("Exec")] == [
        "ExecCondition=/bin/grep -D skip -qs ssh.keepalive " + files,
        "ExecStart=-/usr/bin/ssh-keepalive note",
    ]
