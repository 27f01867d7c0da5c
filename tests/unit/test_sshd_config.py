import pytest
from ssh_keepalive import paths
from ssh_keepalive.openssh import Settings
from ssh_keepalive.policy import Entry, Policy
from ssh_keepalive.sshd_config import (
    criterion,
    holds_policy,
    is_same,
    lines_before,
    read_policy,
    render,
    with_block,
    with_include,
    without_block,
)

VERSION = (9, 2)
DIRECTIVES = (("ClientAliveInterval", "45"), ("ClientAliveCountMax", "3"), ("TCPKeepAlive", "no"))


def test_the_text_is_a_header_the_policy_and_plain_directives():
    policy = Policy(unresponsive_timeout=180, tcp_keep_alive=False)
    text = render(Settings(policy, VERSION, DIRECTIVES, 180))
    header, comment, *directives = text.splitlines()
    assert header == paths.HEADER
    assert header.startswith("# Managed by cloud-init's cc_ssh_keepalive")
    assert comment == '# policy: {"tcp_keep_alive": false, "unresponsive_timeout": 180}'
    assert read_policy(text) == policy
    assert directives == ["ClientAliveInterval 45", "ClientAliveCountMax 3", "TCPKeepAlive no"]


def test_blocks_come_after_what_is_for_everybody():
    entries = (
        Entry("user", ("alice", "b*"), client_alive_interval=60, client_alive_count_max=3),
        Entry("address", ("10.0.0.0/8",), idle_timeout=0),
    )
    blocks = ((entries[0], DIRECTIVES[:2]), (entries[1], (("UnusedConnectionTimeout", "0"),)))
    text = render(Settings(Policy(tcp_keep_alive=False, match=entries), VERSION, DIRECTIVES[2:], None, blocks))
    assert text.splitlines()[1:] == [
        '# policy: {"match": [{"client_alive_count_max": 3, "client_alive_interval": 60, "user": ["alice", "b*"]}, '
        '{"address": ["10.0.0.0/8"], "idle_timeout": "none"}], "tcp_keep_alive": false}',
        "TCPKeepAlive no",
        "Match User alice,b*",
        "    ClientAliveInterval 45",
        "    ClientAliveCountMax 3",
        "Match Address 10.0.0.0/8",
        "    UnusedConnectionTimeout 0",
    ]
    assert read_policy(text) == Policy(tcp_keep_alive=False, match=entries)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ClientAliveInterval 45\n",
        "# policy: {\n",
        '# policy: {"x": 1}\n',
        "# policy: null\n",
        "#policy: true\n",
        "# policy: " + "[" * 10**6,
        '# policy: {"idle_timeout": ' + "9" * 5000 + "}\n",
    ],
    ids=lambda text: text[:30],
)
def test_a_text_that_does_not_say_its_policy(text):
    assert read_policy(text) is None


POLICY = Policy(unresponsive_timeout=180)
PAIR = Settings(POLICY, VERSION, DIRECTIVES[:2], 180)
SOME = PAIR._replace(blocks=((Entry("user", ("alice",)), (("ClientAliveInterval", "60"),)),))
MAIN_FILES = ["", "\n", "Port 22", "Port 22\n", "Port 22\r\n", "Port 22\n\n", "Match User x\n  X11Forwarding no\n"]


@pytest.mark.parametrize("settings", [PAIR, SOME], ids=["for-all", "for-some"])
@pytest.mark.parametrize("main", MAIN_FILES)
def test_blocks_come_and_go_to_the_byte(main, settings):
    text = with_block(main, settings)
    assert text.startswith("# BEGIN ssh-keepalive\n# Managed by")
    assert text.endswith("\n") == (main.endswith("\n") or not main)
    assert with_block(text, settings) == text
    assert without_block(text) == main
    assert without_block(main) == main
    assert read_policy(text) == POLICY
    assert lines_before(text) == 6
    assert lines_before(main) == 0


@pytest.mark.parametrize("main", MAIN_FILES)
def test_an_include_comes_and_goes_to_the_byte(main):
    text = with_include(main, "/etc/ssh/a.conf")
    assert text == "# BEGIN ssh-keepalive\nInclude /etc/ssh/a.conf\n# END ssh-keepalive\n" + main
    assert with_include(text, "/etc/ssh/a.conf") == text
    assert without_block(text) == main
    assert not holds_policy(text)
    assert with_include(with_block(main, PAIR), "/etc/ssh/a.conf") == text


def test_what_is_for_some_stands_at_the_end():
    assert with_block("Port 22\n", SOME) == (
        "# BEGIN ssh-keepalive\n"
        "# Managed by cloud-init's cc_ssh_keepalive; change ssh_keepalive in user-data instead.\n"
        '# policy: {"unresponsive_timeout": 180}\n'
        "ClientAliveInterval 45\n"
        "ClientAliveCountMax 3\n"
        "# END ssh-keepalive\n"
        "Port 22\n"
        "# BEGIN ssh-keepalive\n"
        "Match User alice\n"
        "    ClientAliveInterval 60\n"
        "Match all\n"
        "# END ssh-keepalive\n"
    )
    assert with_block("Port 22\n", PAIR).endswith("# END ssh-keepalive\nPort 22\n")


def test_only_a_block_holds_a_policy():
    assert holds_policy(with_block("Port 22\n", SOME))
    assert not holds_policy("# policy: {}\n")
    assert not holds_policy("# BEGIN ssh-keepalive\n# END ssh-keepalive\n# policy: {}\n")


def test_nobody_elses_lines_go_with_a_block():
    text = with_block("Port 22\n", SOME)
    assert without_block(text + "# later\n") == "Port 22\n# later\n"
    broken = text.replace("# END ssh-keepalive\n", "", 1)
    assert broken != text
    assert "\nPort 22\n" in without_block(broken)
    assert "Match" not in without_block(broken)
    assert without_block("# BEGIN ssh-keepalive\nPort 22\n") == "# BEGIN ssh-keepalive\nPort 22\n"
    assert without_block("# BEGIN ssh-keepalive-2\n# END ssh-keepalive-2\n").count("\n") == 2


def test_a_text_with_the_header_of_the_first_packages_is_the_same():
    text = with_block("Port 22\n", SOME)
    assert paths.HEADER in text
    old = text.replace(paths.HEADER, paths.OLD_HEADER)
    assert old != text
    assert is_same(old, text)
    assert is_same(text, old)
    assert "Interval 45" in old
    assert not is_same(old.replace("Interval 45", "Interval 46"), text)


def test_a_criterion_as_its_match_line_has_it():
    assert criterion(Entry("address", ("10.0.0.0/8", "::1"))) == "Address 10.0.0.0/8,::1"
