import pytest
from ssh_keepalive.machine.match_lines import Block, are_covered, blocks, normalized

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


def changing(text, **values):
    by_keyword = {keyword.lower(): set(given) for keyword, given in values.items()}
    return {block.name for block in blocks({"/x": text}) if block.may_change(by_keyword)}


def test_match_lines_whose_blocks_set_a_keyword_or_may_include_a_line_that_does():
    one, both = {"ClientAliveInterval": ["5"]}, {"ClientAliveInterval": ["5"], "ClientAliveCountMax": ["3"]}
    assert changing(TEXT, **one) == {"user bob", "address 10.0.0.0/8"}
    assert changing(TEXT, **both) == {"user bob", "group adm", "address 10.0.0.0/8"}
    assert changing(TEXT) == {"address 10.0.0.0/8"}


@pytest.mark.parametrize(
    "line",
    [
        'Client"AliveInterval" 7',
        '"clientaliveinterval"7',
        'ClientAliveInterval"" 7',
        "=ClientAliveInterval=7",
        '\t"ClientAliveInterval" = 7\r',
        "KEEPALIVE no",
        'inc"lude" /x',
    ],
)
def test_a_keyword_in_any_form_that_sshd_takes(line):
    assert changing('Ma"tch" User alice\n' + line, ClientAliveInterval=["5"], TCPKeepAlive=["yes"]) == {"user alice"}


def test_a_value_that_everybody_is_to_have_changes_nothing():
    text = "Match User alice\n ClientAliveInterval 5\r\n"
    assert changing(text, ClientAliveInterval=["5"]) == set()
    # Whom others are expected for it might be given to.
    assert changing(text, ClientAliveInterval=["5", "6"]) == {"user alice"}
    assert changing(text + "ClientAliveInterval 7", ClientAliveInterval=["5"]) == {"user alice"}
    assert changing(text.replace("5", "5 # s"), ClientAliveInterval=["5"]) == {"user alice"}


def test_a_block_ends_with_its_file():
    found = blocks({"/a": "Match User alice\n", "/b": "ClientAliveInterval 7\n"})
    assert found == [Block("User alice", {"/a:2": ("", "")})]


def test_the_places_of_the_lines_of_a_block():
    (found,) = blocks({"/a": "UsePAM yes\nMatch User Alice # x\n  ClientAliveInterval 7\n"})
    assert (found.criteria, found.name) == ("User Alice", "user alice")
    assert found.lines["/a:3"] == ("clientaliveinterval", "7")


@pytest.mark.parametrize(
    ("match", "by", "are"),
    [
        ("User alice", ["User alice"], True),
        ("User alice", ["User bob,al*"], True),
        ("User alice,bob", ["User alice"], False),
        ("User alice,bob", ["User alice", "User bob"], True),
        ("User al*", ["User al*"], True),
        ("User al*", ["User a*"], False),
        ("User alice", ["User *,!alice"], False),
        ("User *,!bob", ["User *,!bob"], True),
        ("User alice", ["Group devs"], False),
        ("Group devs", ["User alice"], False),
        ("Group devs User alice", ["User alice"], True),
        ("User alice", ["User alice Address 10.0.0.0/8"], False),
        ("Address 10.1.0.0/16", ["Address 10.0.0.0/8"], True),
        ("Address 10.0.0.0/8", ["Address 10.0.0.0/24,10.255.0.0/16"], False),
        ("Address 10.0.0.1", ["Address 10.0.*"], True),
        ("User alice", ["Address 0.0.0.0/0,::/0"], True),
        ("User alice", ["Address 0.0.0.0/0"], False),
        ("User alice", ["User bob", "all"], True),
        ("Group devs", ["User *"], True),
        ("Group devs", ["User *,!alice"], False),
        ("User alice", ["Group *"], False),
        ("User alice", ["User * Address 10.0.0.0/8"], False),
        ("User alice", [""], False),
        ("User alice", [], False),
    ],
)
def test_whether_others_cover_all_whom_a_line_fits(match, by, are):
    assert are_covered(match, by) is are


def test_criteria_as_sshd_traces_them():
    assert normalized('  User  "alice,bob"   Address=10.0.0.0/8 # x') == "user alice,bob address 10.0.0.0/8"
