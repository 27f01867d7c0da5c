import pytest
from ssh_keepalive.machine.arguments import expanded, parse, variables


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
        ("sshd -4oUseDNS=no", {"usedns": "no"}, None),
        ("sshd -ef /srv/main", {}, "/srv/main"),
        ("sshd -f /a -f /b", {}, "/b"),
        ("sshd -o UseDNS=1 -o usedns=2", {"usedns": "1"}, None),
        ("sshd -o UseDNS = 1", {"usedns": "1"}, None),
        ("sshd -o", {}, None),
        ("sshd -E /var/log/f -f /srv/main", {}, "/srv/main"),
    ],
)
def test_what_a_command_line_sets(command_line, options, file):
    arguments = parse(command_line.split()[1:])
    assert arguments.settings() == options
    assert arguments.main == file


@pytest.mark.parametrize(
    ("words", "handed_on"),
    [
        ("-D", ()),
        ("-Dep 2222", ("-p", "2222")),
        ("-4 -h /key -c /cert -o A=b", ("-4", "-h", "/key", "-c", "/cert", "-o", "A=b")),
        ("-46", ("-4", "-6")),
        ("-o ListenAddress 192.0.2.5 x", ("-o", "ListenAddress 192.0.2.5 x")),
        ("-p 22 x", ("-p", "22")),
        ("-E /log -g 60 -u 0 -b 1 -k 2 -C x", ()),
        ("- x", ()),
    ],
)
def test_what_is_handed_on_to_one_that_is_asked(words, handed_on):
    found = parse(words.split())
    assert (found.main, found.options) == (None, handed_on)


@pytest.mark.parametrize(
    ("words", "expected"),
    [("-D", (False, True)), ("-ei", (True, False)), ("-o A=-i -p 22", (False, False)), ("-ddd", (False, True))],
)
def test_how_it_serves(words, expected):
    found = parse(words.split())
    assert (found.serves_one, found.stays) == expected


def test_options_that_say_nothing_of_a_policy_are_left_out_for_comparisons():
    words = [
        "-4",
        "-o",
        "AuthorizedKeysFile=/x",
        "-o",
        "ClientAliveInterval=7",
        "-p",
        "22",
        "-o",
        "PidFile=/y",
        "-o",
        "banner",
        "z",
    ]
    assert parse(words).telling == ("-4", "-o", "ClientAliveInterval=7", "-p", "22")


def test_words_of_a_unit_with_its_variables():
    environment = {"SSHD_OPTS": "-4 -o 'A b'", "PORT": "2222", "NONE": ""}
    words = ["-D", "$SSHD_OPTS", "-p${PORT}", "$NONE", "$MISSING", "$PORT.x", "${MISSING}"]
    assert expanded(words, environment) == ["-D", "-4", "-o", "A b", "-p2222", "$PORT.x", ""]
    assert expanded(["$A"], {"A": "it's"}) == ["it's"]


def test_files_of_assignments():
    text = "# SSHD_OPTS=-1\nSSHD_OPTS='-4 -o A=b'\n export OPTIONS=\"-6\"\nA=1 \\\n2\nno assignment\nB=\n"
    of_systemd = {"SSHD_OPTS": "-4 -o A=b", "A": "1 2", "B": ""}
    assert variables(text) == of_systemd
    assert variables(text, is_for_shell=True) == {**of_systemd, "OPTIONS": "-6"}
