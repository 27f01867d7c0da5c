import pytest
from ssh_keepalive.machine.servers import file_option, overrides


@pytest.mark.parametrize(
    ("command_line", "options", "file"),
    [
        ("/usr/sbin/sshd -D", {}, None),
        (
            "sshd: /usr/sbin/sshd -D -o ClientAliveInterval=0 -oTCPKeepAlive=no -f /srv/main [listener] 0 of 10-100",
            {"clientaliveinterval": "0", "tcpkeepalive": "no"},
            "/srv/main",
        ),
        ("sshd -o UseDNS yes -f/srv/main", {"usedns": "yes"}, "/srv/main"),
    ],
)
def test_what_a_command_line_sets(command_line, options, file):
    assert overrides(command_line) == options
    assert file_option(command_line) == file
