import pytest
from ssh_keepalive.machine.arguments import parse


@pytest.mark.parametrize(
    ("command_line", "options", "file"),
    [
        ("/usr/sbin/sshd -D", {}, None),
        (
            "sshd: /usr/sbin/sshd -D -o ClientAliveInterval=0 -oTCPKeepAlive=no -f /srv/main",
            {"clientaliveinterval": "0", "tcpkeepalive": "no"},
            "/srv/main",
        ),
        ("sshd -o UseDNS yes -f/srv/main", {"usedns": "yes"}, "/srv/main"),
    ],
)
def test_what_a_command_line_sets(command_line, options, file):
    arguments = parse(command_line.split()[1:])
    assert arguments.settings() == options
    assert arguments.main == file
