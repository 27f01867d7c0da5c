"""Whom sshd is asked about."""

import pytest
from ssh_keepalive.machine import accounts
from ssh_keepalive.machine.accounts import Account
from ssh_keepalive.machine.connections import chosen, nobody
from ssh_keepalive.machine.match_lines import connections_for as of_line
from ssh_keepalive.openssh import NOBODY, Connection, translate
from ssh_keepalive.policy import Entry, Policy

PEOPLE = {"anna": ("anna", "staff"), "root": ("root",), "bob": ("bob", "staff", "wheel")}


@pytest.fixture
def people(monkeypatch):
    """Have a machine know some people, or not answer."""
    asked = []

    def several(wanted, host, most):
        asked.append(list(wanted))
        return [list(filter(None, (who(name, *one) for name in PEOPLE)))[:most] for one in wanted]

    def who(name, users, groups):
        account = accounts.Account(name, PEOPLE[name])
        fits_user = not users or accounts.fits(name, users)
        fits_group = not groups or any(accounts.fits(group, groups) for group in account.groups)
        return account if fits_user and fits_group else None

    monkeypatch.setattr(accounts, "several", several)
    return asked


def entry(criterion, *patterns, seconds=60):
    return Entry(criterion, patterns, None, seconds, 3)


def settings(*entries):
    return translate(Policy(unresponsive_timeout=180, match=entries), (9, 9))


def choose(*entries, like=NOBODY, has_others=False):
    return chosen(settings(*entries), like, None, has_others)


@pytest.mark.parametrize(
    ("values", "address", "port"),
    [
        ({}, "192.0.2.1", 22),
        ({"port": ["2222"], "listenaddress": ["0.0.0.0:2222", "[::]:2222"]}, "192.0.2.1", 2222),
        ({"port": ["22"], "listenaddress": ["[::]:22", "10.0.0.5:2200"]}, "10.0.0.5", 2200),
        ({"port": ["22"], "listenaddress": ["[2001:db8::5]:23"]}, "2001:db8::5", 23),
        ({"port": ["22", "2222"]}, "192.0.2.1", 22),
    ],
)
def test_nobody_connects_to_an_address_that_sshd_listens_on(values, address, port):
    assert nobody(values) == NOBODY._replace(local_address=address, local_port=port)


def test_roots_groups_are_looked_up_only_where_they_matter(people):
    assert choose(entry("user", "anna")).root == NOBODY._replace(user="root")
    assert people == [[]]
    assert choose(entry("group", "staff")).root == NOBODY._replace(user="root", groups=("root",))
    assert len(people[-1]) == 2


def test_root_is_not_asked_about_where_its_groups_matter_and_are_not_known(monkeypatch):
    monkeypatch.setattr(accounts, "several", lambda wanted, host, most: None)
    assert choose(entry("group", "staff")).root is None


def test_one_of_each_set_of_times(people):
    like = NOBODY._replace(local_port=2222)
    found = choose(
        entry("user", "bac*"),
        entry("address", "10.0.0.0/8", "2001:db8::/32", seconds=61),
        entry("group", "wheel", "nix", seconds=62),
        like=like,
    )
    assert found.notes == ()
    assert found.connections == (
        like._replace(user="bac"),
        like._replace(address="10.0.0.0"),
        like._replace(user="bob", groups=PEOPLE["bob"]),
    )


def test_of_many_entries_a_bounded_number_is_asked_about(people):
    entries = [entry("user", "u{}".format(number), seconds=9 - 2 * (number == 17)) for number in range(20)]
    found = choose(*entries)
    assert [one.user for one in found.connections] == ["u0", "u17"]
    assert found.notes == ("18 of 20 match entries are read, not asked about",)
    # Somebody else's Match may override any of them.
    found = choose(*entries, has_others=True)
    assert [one.user for one in found.connections] == ["u0", "u1", "u2", "u3", "u4", "u17"]
    assert found.notes == ("14 of 20 match entries are read, not asked about",)
    found = choose(*(entry("user", "u{}".format(number), seconds=5 + number) for number in range(250)))
    assert [one.user for one in found.connections] == ["u0", "u1", "u2", "u3", "u4", "u5"]
    assert found.notes == ("244 of 250 match entries are read, not asked about",)


def test_an_entry_without_anybody_is_noted(people):
    assert choose(entry("group", "nix")).notes == (
        "match[0] is not verified, Match Group nix fits nobody who is known here yet",
    )


def test_an_entry_of_which_nobody_answers_is_noted(monkeypatch):
    monkeypatch.setattr(accounts, "several", lambda wanted, host, most: None)
    assert choose(entry("user", "anna")).connections == (NOBODY._replace(user="anna"),)
    # In which groups that user is is not known either.
    found = choose(entry("user", "anna"), entry("group", "staff", seconds=61))
    assert found.connections == ()
    assert found.notes == (
        "match[0] is not verified, Match User anna needs names that nothing here answers",
        "match[1] is not verified, Match Group staff needs names that nothing here answers",
    )


def test_a_user_whom_an_entry_names_is_in_the_groups_that_others_are_for(people):
    found = choose(entry("group", "wheel"), entry("user", "bob", seconds=61), entry("user", "eve", seconds=62))
    bob = NOBODY._replace(user="bob", groups=PEOPLE["bob"])
    assert found.connections == (bob, NOBODY._replace(user="eve"))
    # Of a line of somebody else's as well
    assert of_line("User anna,bob,eve", NOBODY, None) == [
        NOBODY._replace(user="anna", groups=PEOPLE["anna"]),
        bob,
        NOBODY._replace(user="eve"),
    ]


@pytest.mark.parametrize(
    ("match", "changes"),
    [
        ("all", {}),
        ("User anna", {"user": "anna", "groups": PEOPLE["anna"]}),
        ("User !bob,*", {"user": "anna", "groups": PEOPLE["anna"]}),
        ("User stranger*", {"user": "stranger", "groups": ()}),
        ("Group wheel", {"user": "bob", "groups": PEOPLE["bob"]}),
        ("Group staff User bob", {"user": "bob", "groups": PEOPLE["bob"]}),
        ("Address 10.0.0.0/8,!10.0.0.0", {"address": "10.0.0.1"}),
        ("LocalAddress 192.0.2.9", {"local_address": "192.0.2.9"}),
        ("LocalPort 2222", {"local_port": 2222}),
        ("Host *.example.org", {"host": ".example.org"}),
        ("User anna Address 10.0.0.0/8", {"user": "anna", "groups": PEOPLE["anna"], "address": "10.0.0.0"}),
    ],
)
def test_one_whom_a_match_line_fits(people, match, changes):
    assert of_line(match, NOBODY, None)[0] == NOBODY._replace(**changes)


def test_one_for_each_pattern_of_a_match_line(people):
    found = of_line("User anna,bob,x* Address 10.0.0.0/8,192.0.2.7", NOBODY, None)
    assert {one.user for one in found} >= {"anna", "bob", "x", "x1"}
    assert {one.address for one in found} == {"10.0.0.0", "10.255.255.255", "192.0.2.7"}
    assert {one.user for one in of_line("Group staff,wheel", NOBODY, None)} == {"anna", "bob"}


def test_more_of_those_whom_a_match_line_fits(people):
    assert [one.user for one in of_line("Group staff", NOBODY, None)] == ["anna"]
    assert [one.user for one in of_line("Group staff", NOBODY, None, 9)] == ["anna", "bob"]
    users = {one.user for one in of_line("User dev*", NOBODY, None, 9)}
    assert len(users) == 8
    assert users >= {"dev", "devx", "dev1", "devaaa"}
    assert {one.address for one in of_line("Address 10.0.0.0/8", NOBODY, None, 9)} >= {"10.0.0.1", "10.127.255.255"}
    assert {one.local_port for one in of_line("LocalPort 22*", NOBODY, None, 9)} == {22, 221}


@pytest.mark.parametrize(
    "match", ["Group nix", "User !*", "Address !10.0.0.0/8", "LocalPort x*", "Host !*", "Version old", "RDomain x"]
)
def test_a_match_line_that_fits_nobody_who_is_known(people, match):
    assert of_line(match, NOBODY, None) == []


def test_a_connection_as_sshd_wants_it():
    one = Connection("anna", ("staff",), "10.0.0.1", "h", "192.0.2.9", 2222)
    assert str(one) == "user=anna,host=h,addr=10.0.0.1,laddr=192.0.2.9,lport=2222"
    assert Account("anna", ("staff",)).groups == one.groups
