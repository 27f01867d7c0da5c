import pytest
from ssh_keepalive.machine import trace

# What OpenSSH 8.4 and 10.6 say, the parts that count
OLD = """\
debug2: load_server_config: filename /etc/ssh/sshd_config
debug2: load_server_config: done config len = 397
debug2: /etc/ssh/sshd_config line 13: including /etc/ssh/sshd_config.d/00-ssh-keepalive.conf
debug2: load_server_config: filename /etc/ssh/sshd_config.d/00-ssh-keepalive.conf
debug3: checking syntax for 'Match User alice,bob Address 10.0.0.0/8'
debug2: parse_server_config_depth: config reprocess config len 397
debug3: checking match for 'User alice,bob Address 10.0.0.0/8' user alice host x addr 10.0.0.0 laddr y lport 1
debug1: user alice matched 'User alice,bob' at line 125
debug1: connection from 10.0.0.0 matched 'Address 10.0.0.0/8' at line 125
debug3: match found
debug3: checking match for 'Group adm' user alice host .invalid addr 10.0.0.0 laddr 192.0.2.1 lport 1
debug1: Can't match group at line 127 because user alice does not exist
debug3: match not found
"""
NEW = """\
debug2: load_server_config: filename /etc/ssh/sshd_config\r
debug3: checking match for 'Group adm' user x host y addr 10.0.0.0 laddr z lport 1 rdomain (null) on line 127
debug3: match not found on line 127
debug3: checking match for 'all' user x host y addr 10.0.0.0 laddr z lport 1 rdomain (null) on line 129
debug3: match found on line 129
debug3: checking match for 'Group adm' user x host y addr 10.0.0.0 laddr z lport 1 rdomain (null) on line 130
debug3: match found on line 130
"""


def test_the_files_that_sshd_has_read():
    assert trace.files(OLD) == ("/etc/ssh/sshd_config", "/etc/ssh/sshd_config.d/00-ssh-keepalive.conf")
    assert trace.files(NEW) == ("/etc/ssh/sshd_config",)


def test_match_lines_and_whether_they_fit():
    assert trace.matches(OLD) == [("User alice,bob Address 10.0.0.0/8", True), ("Group adm", False)]
    assert trace.matches(NEW) == [("Group adm", False), ("all", True), ("Group adm", True)]


@pytest.mark.parametrize(
    ("match", "criteria"),
    [
        ("User alice,bob Address 10.0.0.0/8", [("user", ("alice", "bob")), ("address", ("10.0.0.0/8",))]),
        ('Group "domain users",adm', [("group", ("domain users", "adm"))]),
        ("Group 'domain users',adm", [("group", ("domain users", "adm"))]),
        ("Group domain\\ users User x", [("group", ("domain users",)), ("user", ("x",))]),
        ('Group "CORP\\domain users",CORP\\adm', [("group", ("CORP\\domain users", "CORP\\adm"))]),
        ('Group "CORP\\\\domain users",CORP\\\\adm', [("group", ("CORP\\domain users", "CORP\\adm"))]),
        ("localport=22", [("localport", ("22",))]),
        ("all", []),
    ],
)
def test_criteria(match, criteria):
    assert trace.criteria(match) == criteria


def test_the_complaint_without_the_trace():
    text = "debug2: load_server_config: filename /x\n/x: line 1: Bad configuration option: y\ndebug1: z\nfatal: end"
    assert trace.complaint(text) == "/x: line 1: Bad configuration option: y\nfatal: end"


def test_includes_and_the_places_of_their_lines():
    text = (
        "debug2: /etc/ssh/sshd_config line 13: new include /etc/ssh/sshd_config.d/*.conf\r\n"
        "debug2: /etc/ssh/sshd_config line 13: including /etc/ssh/sshd_config.d/a.conf\n"
        "debug2: /etc/ssh/a b line 2: new include /x\n"
    )
    assert trace.includes(text * 2) == (
        trace.Include("/etc/ssh/sshd_config.d/*.conf", "/etc/ssh/sshd_config", 13),
        trace.Include("/x", "/etc/ssh/a b", 2),
    )


def test_the_size_of_all_that_is_read_once():
    text = (
        "debug2: parse_server_config_depth: config /etc/ssh/sshd_config len 340\r\n"
        "debug2: parse_server_config_depth: config /etc/ssh/a len 63\n"
        "debug2: parse_server_config_depth: config /etc/ssh/b len 23 [checking syntax only]\r\n"
        "debug2: parse_server_config_depth: config /etc/ssh/b len 23\n"
        "debug2: parse_server_config_depth: config reprocess config len 340\n"
        "debug2: parse_server_config_depth: config /etc/ssh/a len 63\n"
    )
    names = ("/etc/ssh/sshd_config", "/etc/ssh/a", "/etc/ssh/b", "/etc/ssh/b")
    assert trace.size(text) == 340 + 63 + 23 + 23 + sum(2 * len(name) + 16 for name in names)


def test_what_is_no_ascii_is_read_as_it_is_in_the_files():
    said = "debug3: checking match for 'User m\\303\\274ller,CORP\\\\anna' user x"
    assert trace.matches(trace.decoded(said)) == [("User m\u00fcller,CORP\\anna", False)]
    assert trace.decoded("a \\012 b") == "a \\012 b"


def test_a_match_that_is_cut_off_is_one():
    assert trace.matches("debug3: checking match for 'User a,b\ndebug3: match not found\n") == [("User a,b", False)]


@pytest.mark.parametrize("length", range(980, 1010))
def test_a_match_line_is_known_again_wherever_the_trace_is_cut(length):
    ours = "User " + "x" * (length - 5)
    said = f"debug3: checking match for '{ours}' user root host x addr 10.0.0.0 laddr y lport 1 on line 127"[:1021]
    found = [match for match, _ in trace.matches(said)]
    assert trace.missing([ours], found) == []
    assert trace.others([ours], found) == []


def test_lines_of_which_the_trace_has_cut_the_end_off_are_known_again():
    ours = "User " + ",".join("customer-{:03}".format(number) for number in range(250))
    cut, short, other = ours[:1000], "User alice", "User " + "x" * 995
    assert trace.missing([ours, short], [cut, short]) == []
    assert trace.missing([ours, short], [other, "User alic"]) == [ours, short]
    assert trace.others([ours, short], [cut, short, other, "User ali"]) == [other, "User ali"]


def test_the_lines_of_the_blocks_that_fit():
    text = (
        "debug3: /etc/a.conf:1 setting KeepAlive no\n"
        "debug2: parse_server_config_depth: config reprocess config len 340\n"
        "debug3: reprocess config:137 setting ClientAliveInterval 7 \r\n"
        "debug3: /etc/a.conf:2 setting CLIENTALIVEINTERVAL 8\n"
    )
    assert trace.set_by_matches(text, "/main") == [
        trace.Line("clientaliveinterval", "/main:137", "7"),
        trace.Line("clientaliveinterval", "/etc/a.conf:2", "8"),
    ]
    assert trace.effective("TCPKeepAlive", text, "/main") == trace.Line("tcpkeepalive", "/etc/a.conf:1", "no")


def test_the_match_that_a_line_in_effect_is_in():
    text = (
        "debug3: /etc/a.conf:1 setting KeepAlive no\n"
        "debug2: parse_server_config_depth: config reprocess config len 340\n"
        "debug3: checking match for 'User root' user root host x addr y\n"
        "debug3: match found\n"
        "debug3: reprocess config:137 setting X11Forwarding no\n"
        "debug3: checking match for 'Group *' user root host x addr y\n"
        "debug3: match found\n"
        "debug3: reprocess config:139 setting ClientAliveInterval 7\n"
    )
    assert trace.match_around("/main:137", text, "/main") == "User root"
    assert trace.match_around("/main:139", text, "/main") == "Group *"
    assert trace.match_around("/main:13", text, "/main") is None
    assert trace.match_around("/etc/a.conf:1", text, "/main") is None


def test_a_line_of_the_same_words_is_somebody_elses_too():
    assert trace.others(["User a", "User b", "User b"], ["User b", "User a", "User b"]) == []
    assert trace.others(["User a", "User b"], ["User b", "User a", "User b"]) == ["User b"]
