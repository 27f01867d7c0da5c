import pytest
from ssh_keepalive.machine.trace import effective, is_read
from ssh_keepalive.machine.verification import Mismatch, mismatches

EXPECTED = (("ClientAliveInterval", "45"), ("ClientAliveCountMax", "3"), ("TCPKeepAlive", "no"))


@pytest.mark.parametrize(
    "report",
    [
        "port 22\nclientaliveinterval 45\nclientalivecountmax 3\ntcpkeepalive no\n",
        "Port 22\nClientAliveInterval 45\nClientAliveCountMax 3\nTCPKeepAlive no\n",
        "Port 22\nClientAliveInterval 45\nClientAliveCountMax 3\nTCPKeepAlive false\n",
    ],
    ids=["8.4-to-10.4", "10.5", "10.6"],
)
def test_what_sshd_reports_is_what_is_expected(report):
    assert mismatches(EXPECTED, report) == []


def test_what_sshd_reports_is_something_else():
    assert mismatches(EXPECTED, "clientaliveinterval 0\nclientalivecountmax 3\n") == [
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
    assert effective("ClientAliveInterval", GLOBALS, MAIN).place == "/etc/ssh/sshd_config.d/00-aaa.conf:1"


def test_a_match_block_wins_over_globals_and_the_main_file_gets_its_name():
    trace = GLOBALS + "debug3: match found\ndebug3: reprocess config:137 setting ClientAliveCountMax 17\n"
    assert effective("ClientAliveCountMax", trace, MAIN).place == "/etc/ssh/sshd_config:137"
    trace = GLOBALS + "debug3: match found\ndebug3: /etc/ssh/sshd_config.d/50-x.conf:2 setting clientalivecountmax 17\n"
    assert effective("ClientAliveCountMax", trace, MAIN).place == "/etc/ssh/sshd_config.d/50-x.conf:2"


def test_none_of_unused_connection_timeout_wins_wherever_it_is():
    def line(file, value):
        return f"debug3: {file} setting UnusedConnectionTimeout {value}\n"

    ours, none, another = line("/ours:1", "900"), line("/etc/x:2", "None"), line("/etc/y:3", "7")
    assert effective("UnusedConnectionTimeout", ours + another + none, MAIN).place == "/etc/x:2"
    in_match = "debug2: parse_server_config_depth: config reprocess config len 597\n"
    assert effective("UnusedConnectionTimeout", none + in_match + ours + another, MAIN).place == "/ours:1"
    assert effective("UnusedConnectionTimeout", ours + in_match + another + none, MAIN).place == "/etc/x:2"


def test_no_line_sets_it():
    assert effective("TCPKeepAlive", GLOBALS, MAIN) is None
    assert effective("TCPKeepAlive", "", MAIN) is None


def test_which_files_sshd_reads():
    assert is_read("/etc/ssh/sshd_config.d/00-ssh-keepalive.conf", GLOBALS)
    assert is_read("/etc/ssh/sshd_config", GLOBALS)
    assert not is_read("/etc/ssh/sshd_config.d/00-ssh-keepalive", GLOBALS)
    assert not is_read("ssh/sshd_config", GLOBALS)


def test_what_other_lines_say_leads_nobody_astray():
    # Whoever names files or writes values as sshd does in its trace
    trace = GLOBALS + (
        "debug3: reprocess config:9 setting Banner /etc/a setting TCPKeepAlive no\n"
        "debug3: reprocess config:10 setting \n"
        "debug3: reprocess config:11 setting ClientAliveInterval 17\n"
        "debug3: /etc/ssh/sshd_config.d/a: b.conf:2 setting ClientAliveCountMax 9\n"
        "debug3: reprocess config:12 setting Banner x: config reprocess config len\n"
    )
    assert effective("TCPKeepAlive", trace, MAIN) is None
    assert effective("ClientAliveInterval", trace, MAIN).place == "/etc/ssh/sshd_config:11"
    assert effective("ClientAliveCountMax", trace, MAIN).place == "/etc/ssh/sshd_config.d/a: b.conf:2"
