from ssh_keepalive.machine.match_lines import all_of, normalized, that_set

TEXT = """\
ClientAliveInterval 7
Match User alice
    X11Forwarding no
match user bob # of the office
\tclientaliveinterval=8
Match "Group" "adm"
"ClientAliveCountMax" 9
Match Address 10.0.0.0/8
Include /etc/ssh/office.conf
Match all
# ClientAliveInterval 1
"""


def test_match_lines_whose_blocks_set_a_keyword_or_may_include_a_line_that_does():
    keywords = ["ClientAliveInterval"]
    assert that_set([TEXT], keywords) == {"user bob", "address 10.0.0.0/8"}
    assert that_set([TEXT], [*keywords, "ClientAliveCountMax"]) == {"user bob", "group adm", "address 10.0.0.0/8"}
    assert that_set([TEXT], []) == {"address 10.0.0.0/8"}


def test_a_block_ends_with_its_file():
    assert that_set(["Match User alice\n", "ClientAliveInterval 7\n"], ["ClientAliveInterval"]) == set()


def test_all_match_lines():
    assert all_of([TEXT]) == {"user alice", "user bob", "group adm", "address 10.0.0.0/8", "all"}
    assert all_of(["Matching x\n", "\n"]) == set()


def test_criteria_as_sshd_traces_them():
    assert normalized('  User  "alice,bob"   Address=10.0.0.0/8 # x') == "user alice,bob address 10.0.0.0/8"
