import pytest
from ssh_keepalive.dropin import (
    Mismatch,
    holds_policy,
    is_read,
    lines_before,
    mismatches,
    read_policy,
    render,
    winner,
    with_block,
    with_include,
    without_block,
)
from ssh_keepalive.openssh import Expression
from ssh_keepalive.policy import Entry, Policy

WANTED = (("ClientAliveInterval", "45"), ("ClientAliveCountMax", "3"), ("TCPKeepAlive", "no"))


def test_the_text_is_a_header_the_policy_and_plain_directives():
    policy = Policy(unresponsive_timeout=180, tcp_keep_alive=False)
    header, comment, *directives = render(policy, Expression(WANTED, 180)).splitlines()
    assert header.startswith("# Written by cloud-init's cc_ssh_keepalive")
    assert comment == '# policy: {"tcp_keep_alive": false, "unresponsive_timeout": 180}'
    assert read_policy(render(policy, Expression(WANTED, 180))) == policy
    assert directives == ["ClientAliveInterval 45", "ClientAliveCountMax 3", "TCPKeepAlive no"]


def test_blocks_come_after_what_is_for_everybody():
    entries = (
        Entry("user", ("alice", "b*"), client_alive_interval=60, client_alive_count_max=3),
        Entry("address", ("10.0.0.0/8",), idle_timeout=0),
    )
    blocks = ((entries[0], WANTED[:2]), (entries[1], (("UnusedConnectionTimeout", "0"),)))
    text = render(Policy(tcp_keep_alive=False, match=entries), Expression(WANTED[2:], None, blocks))
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


@pytest.mark.parametrize(
    "report",
    [
        "port 22\nclientaliveinterval 45\nclientalivecountmax 3\ntcpkeepalive no\n",
        "Port 22\nClientAliveInterval 45\nClientAliveCountMax 3\nTCPKeepAlive no\n",
        "Port 22\nClientAliveInterval 45\nClientAliveCountMax 3\nTCPKeepAlive false\n",
    ],
    ids=["8.4-to-10.4", "10.5", "10.6"],
)
def test_what_sshd_reports_is_what_was_wanted(report):
    assert mismatches(WANTED, report) == []


def test_what_sshd_reports_is_something_else():
    assert mismatches(WANTED, "clientaliveinterval 0\nclientalivecountmax 3\n") == [
        Mismatch("ClientAliveInterval", "45", "0"),
        Mismatch("TCPKeepAlive", "no", None),
    ]
    assert mismatches((("TCPKeepAlive", "yes"),), "TCPKeepAlive true\n") == []
    exempt = (("ChannelTimeout", "session:*=0 global=0"), ("UnusedConnectionTimeout", "0"))
    assert mismatches(exempt, "channeltimeout session:*=0 global=0\nunusedconnectiontimeout none\n") == []
    assert mismatches(exempt, "channeltimeout none\nunusedconnectiontimeout 60\n") == [
        Mismatch("ChannelTimeout", "session:*=0 global=0", "none"),
        Mismatch("UnusedConnectionTimeout", "0", "60"),
    ]


# As sshd -T -ddd of 8.4 to 10.6 traces it, shortened
GLOBALS = """\
debug2: parse_server_config_depth: config /etc/ssh/sshd_config len 597
debug3: /etc/ssh/sshd_config.d/00-aaa.conf:1 setting ClientAliveInterval 10
debug3: /etc/ssh/sshd_config.d/00-ssh-keepalive.conf:3 setting ClientAliveInterval 45
debug3: /etc/ssh/sshd_config.d/00-ssh-keepalive.conf:4 setting ClientAliveCountMax 3
debug3: /etc/ssh/sshd_config:20 setting clientalivecountmaximum 9
debug3: checking syntax for 'Match User *,!root'
debug2: parse_server_config_depth: config reprocess config len 597
"""
MAIN = "/etc/ssh/sshd_config"


def test_the_first_line_wins_among_globals():
    assert winner("ClientAliveInterval", GLOBALS, MAIN) == "/etc/ssh/sshd_config.d/00-aaa.conf:1"


def test_a_match_block_wins_over_globals_and_the_main_file_gets_its_name():
    trace = GLOBALS + "debug3: match found\ndebug3: reprocess config:137 setting ClientAliveCountMax 17\n"
    assert winner("ClientAliveCountMax", trace, MAIN) == "/etc/ssh/sshd_config:137"
    trace = GLOBALS + "debug3: match found\ndebug3: /etc/ssh/sshd_config.d/50-x.conf:2 setting clientalivecountmax 17\n"
    assert winner("ClientAliveCountMax", trace, MAIN) == "/etc/ssh/sshd_config.d/50-x.conf:2"


def test_no_line_sets_it():
    assert winner("TCPKeepAlive", GLOBALS, MAIN) is None
    assert winner("TCPKeepAlive", "", MAIN) is None


def test_which_files_sshd_reads():
    assert is_read("/etc/ssh/sshd_config.d/00-ssh-keepalive.conf", GLOBALS)
    assert is_read("/etc/ssh/sshd_config", GLOBALS)
    assert not is_read("/etc/ssh/sshd_config.d/00-ssh-keepalive", GLOBALS)
    assert not is_read("ssh/sshd_config", GLOBALS)


PAIR = Expression(WANTED[:2], 180)
SOME = Expression(WANTED[:2], 180, ((Entry("user", ("alice",)), (("ClientAliveInterval", "60"),)),))
POLICY = Policy(unresponsive_timeout=180)
MAIN_FILES = ["", "\n", "Port 22", "Port 22\n", "Port 22\r\n", "Port 22\n\n", "Match User x\n  X11Forwarding no\n"]


@pytest.mark.parametrize("expression", [PAIR, SOME], ids=["for-all", "for-some"])
@pytest.mark.parametrize("main", MAIN_FILES)
def test_blocks_come_and_go_to_the_byte(main, expression):
    text = with_block(main, POLICY, expression)
    assert text.startswith("# BEGIN ssh-keepalive\n# Written by")
    assert text.endswith("\n") == (main.endswith("\n") or not main)
    assert with_block(text, POLICY, expression) == text
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
    assert with_include(with_block(main, POLICY, PAIR), "/etc/ssh/a.conf") == text


def test_what_is_for_some_stands_at_the_end():
    assert with_block("Port 22\n", POLICY, SOME) == (
        "# BEGIN ssh-keepalive\n"
        "# Written by cloud-init's cc_ssh_keepalive and overwritten by it: change ssh_keepalive in user-data instead.\n"
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
    assert with_block("Port 22\n", POLICY, PAIR).endswith("# END ssh-keepalive\nPort 22\n")


def test_only_a_block_holds_a_policy():
    assert holds_policy(with_block("Port 22\n", POLICY, SOME))
    assert not holds_policy("# policy: {}\n")
    assert not holds_policy("# BEGIN ssh-keepalive\n# END ssh-keepalive\n# policy: {}\n")


def test_nobody_elses_lines_go_with_a_block():
    text = with_block("Port 22\n", POLICY, SOME)
    assert without_block(text + "# later\n") == "Port 22\n# later\n"
    broken = text.replace("# END ssh-keepalive\n", "", 1)
    assert "\nPort 22\n" in without_block(broken)
    assert "Match" not in without_block(broken)
    assert without_block("# BEGIN ssh-keepalive\nPort 22\n") == "# BEGIN ssh-keepalive\nPort 22\n"
    assert without_block("# BEGIN ssh-keepalive-2\n# END ssh-keepalive-2\n").count("\n") == 2


def test_what_other_lines_say_leads_nobody_astray():
    # Whoever names files or writes values as sshd does in its trace
    trace = GLOBALS + (
        "debug3: reprocess config:9 setting Banner /etc/a setting TCPKeepAlive no\n"
        "debug3: reprocess config:10 setting \n"
        "debug3: reprocess config:11 setting ClientAliveInterval 17\n"
        "debug3: /etc/ssh/sshd_config.d/a: b.conf:2 setting ClientAliveCountMax 9\n"
        "debug3: reprocess config:12 setting Banner x: config reprocess config len\n"
    )
    assert winner("TCPKeepAlive", trace, MAIN) is None
    assert winner("ClientAliveInterval", trace, MAIN) == "/etc/ssh/sshd_config:11"
    assert winner("ClientAliveCountMax", trace, MAIN) == "/etc/ssh/sshd_config.d/a: b.conf:2"
