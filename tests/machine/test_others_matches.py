"""Match lines of somebody else's: whom they fit, and what is said of that."""

from __future__ import annotations

import time
from typing import NamedTuple

import pytest
import serving
from machine import Machine
from serving import MAIN, SECTION, apply, status, unattended

IDLE = "{client_alive_interval: 61, idle_timeout: 15m}"
BLOCK = "  ClientAliveInterval 7\n"
SAME = "  ClientAliveInterval 61\n"
PEOPLE = "getent group devs || { groupadd devs && useradd -G devs d1 && useradd -G devs d2; }"


class Line(NamedTuple):
    """A Match line, the exit codes that status may have with it, and whether it fits all who log in, root too."""

    match: str
    codes: tuple[int, ...] = (1,)
    fits_all: bool = False
    block: str = BLOCK
    since: float = 0.0


LINES = {
    "local port": Line("LocalPort 22", fits_all=True),
    "local port, others": Line("LocalPort 2222"),
    "any group": Line("Group *", fits_all=True),
    "any group, after a line for root": Line(
        "User root", fits_all=True, block=f"X11Forwarding no\nMatch Group *\n{BLOCK}"
    ),
    "any user": Line("User *", fits_all=True),
    "all": Line("all", fits_all=True),
    "any address": Line("Address *", fits_all=True),
    "all networks": Line("Address 0.0.0.0/0,::/0", fits_all=True),
    "any host": Line("Host *", fits_all=True),
    "any local address": Line("LocalAddress *", fits_all=True),
    "all but somebody": Line("User *,!deploy", fits_all=True),
    "all but a group": Line("Group *,!deploy", fits_all=True),
    "all but an address": Line("Address *,!192.0.2.77", fits_all=True),
    "several that fit all": Line("User * LocalPort 22 Address *", fits_all=True),
    "root": Line("User root"),
    "root by wildcard": Line("User ro?t"),
    "the group root": Line("Group root"),
    "a group by wildcard": Line("Group ro*"),
    "group and user": Line("Group root User r*"),
    "user and group": Line("User r* Group root"),
    "a user whom nobody knows": Line("User nobody-knows"),
    "users by wildcard": Line("User backup-*"),
    "addresses by wildcard": Line("Address 192.168.1.*"),
    "addresses by question marks": Line("Address 10.0.0.??"),
    "a network": Line("Address 10.0.0.0/8"),
    "a network without parts": Line("Address 10.0.0.0/8,!10.1.0.0/16"),
    "a network of six": Line("Address 2001:db8::/32"),
    "six by wildcard": Line("Address 2001:db8:*"),
    "user and address": Line("User alice,bob Address 10.0.0.0/8"),
    "hosts": Line("Host *.example.com", (1, 2)),
    "a local address": Line("LocalAddress 10.0.0.1"),
    "a local network": Line("LocalAddress 10.0.0.0/8 LocalPort 22"),
    "a routing domain": Line("RDomain blue", (1, 2)),
    "a group that nobody is in": Line("Group no-such-group", (2,)),
    "user in a group that nobody is in": Line("User root Group no-such-group", (0, 2)),
    "nobody": Line("User root,!root", (0, 2)),
    "all but root, as many mean it": Line("User !root", (0,)),
    "all but groups, as many mean it": Line("Group !sftp,!wheel", (0,)),
    "all but a network, as many mean it": Line("Address !10.0.0.0/8", (0,)),
    "a user, and all but a network": Line("User root Address !10.0.0.0/8", (0,)),
    "a network and a comment": Line("Address 10.0.0.0/8 # office"),
    "in quotes": Line('User "root"'),
    "with a sign": Line("User=root"),
    "a comment": Line("User root # not forever", since=8.9),
    "tabs": Line("\tUser\troot\t"),
    "lower case": Line("user root"),
    "an invalid user": Line("Invalid-User", (0, 1, 2), since=10.0),
    "CRLF": Line("User root", block="  ClientAliveInterval 7\r\n"),
    "an equals sign": Line("User root", block="ClientAliveInterval=7\n"),
    "quotes": Line("User root", block='ClientAliveInterval "7"\n'),
    "quotes in the keyword": Line("User alice", block='Client"AliveInterval" 7\n'),
    "members whom an earlier line leaves": Line("User d1", block=f"{SAME}Match Group devs\n{BLOCK}"),
    "a pattern that an earlier line fits first": Line("User e,e1", block=f"{SAME}Match User e*\n{BLOCK}"),
    "no members whom an earlier line leaves": Line("User d?", (2,), block=f"{SAME}Match Group devs\n{BLOCK}"),
    "after a line that fits all": Line("all", (0,), block=f"{SAME}Match Group devs\n{BLOCK}"),
    "the same users again": Line("User d1", (0,), block=f"{SAME}Match User d1\n{BLOCK}"),
    "upper case": Line("User alice", block="CLIENTALIVEINTERVAL 7\n"),
    "an Include": Line("User alice", block="Include /etc/ssh/extra.conf\n"),
    "an Include of a Match": Line("User alice", (1, 2), block="Include /etc/ssh/match.conf\n"),
    "a hundred users": Line("User " + ",".join(f"customer-{number:04}" for number in range(100))),
    "the second of two users": Line("User al", block="  ClientAliveInterval 61\nMatch User al,bo\n" + BLOCK),
    "a form feed in a comment": Line("User al", block="  # page \fMatch User x\n" + BLOCK),
    "a name that is no ASCII": Line("User müller", (0,), block="  X11Forwarding no\n"),
    "a directory's group": Line('Group "CORP\\domain admins"', (0,), block="  X11Forwarding no\n"),
    "no keyword of ours": Line("User root", (0,), block="  X11Forwarding no\n"),
    "no keyword of ours, nobody": Line("Group no-such-group", (0,), block="  ForceCommand internal-sftp\n"),
    "the same value": Line("User root", (0,), block="  ClientAliveInterval 61\n"),
}
NAMES = [name for name, line in LINES.items()]


def restart(machine: Machine) -> None:
    machine.sh("systemctl reset-failed ssh; systemctl restart ssh")


def oracle(machine: Machine, who: str = "user=root,addr=127.0.0.1") -> str:
    text = machine.run("sshd", "-T", "-C", f"{who},host=localhost,laddr=127.0.0.1,lport=22").stdout.lower()
    return text.partition("clientaliveinterval ")[2].partition("\n")[0]


def stand(machine: Machine, name: str) -> None:
    """Have status and a run meet a Match line."""
    line = LINES[name]
    if line.since > float(machine.release.openssh):
        return
    serving.as_it_was(machine)
    machine.sh(PEOPLE)
    machine.sh("echo ClientAliveInterval 7 >/etc/ssh/extra.conf")
    machine.sh("printf 'Match Address 10.0.0.0/8\\nClientAliveInterval 7\\n' >/etc/ssh/match.conf")
    machine.run("tee", "-a", MAIN, input=f"\nMatch {line.match}\n{line.block}")
    restart(machine)
    found = status(machine)
    assert found.code in line.codes, (found.problems, found.notes)
    if 1 in line.codes and found.code == 1:
        assert "ClientAliveInterval" in found.problems
    said = unattended(machine, "{client_alive_interval: 62}")
    if line.fits_all:
        assert oracle(machine, "user=debian,addr=192.0.2.9") == "7"
        assert said.code == 1, said
        assert f"{MAIN}:" in said.text
    elif said.code == 0:
        assert oracle(machine, "user=debian,addr=192.0.2.9") == "62"
        assert oracle(machine) == "62" or "root" in said.text or 1 in line.codes


@pytest.mark.parametrize("name", NAMES[::10])
def test_the_newest(newest: Machine, name: str) -> None:
    stand(newest, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_each(each: Machine, name: str) -> None:
    stand(each, name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("match", "entry", "who"),
    [
        ("User root,backup", "{user: root, client_alive_interval: 300}", "user=backup,addr=192.0.2.9"),
        ("Group devs", "{user: d1, client_alive_interval: 300}", "user=d2,addr=192.0.2.9"),
        ("User dev*", "{user: [dev, dev1], client_alive_interval: 300}", "user=deva,addr=192.0.2.9"),
        (
            "Address 10.0.0.0/8",
            "{address: [10.0.0.0/24, 10.255.0.0/16], client_alive_interval: 300}",
            "user=x,addr=10.7.0.1",
        ),
        (
            "Address 10.0.0.0/8,192.168.0.0/16",
            "{address: 10.0.0.0/8, client_alive_interval: 300}",
            "user=x,addr=192.168.0.9",
        ),
    ],
)
def test_those_whom_an_entry_of_ours_leaves_to_a_line(newest: Machine, match: str, entry: str, who: str) -> None:
    serving.as_it_was(newest)
    newest.sh(PEOPLE)
    newest.run("tee", "-a", MAIN, input=f"\nMatch {match}\n{BLOCK}")
    restart(newest)
    assert apply(newest, f"{{client_alive_interval: 61, match: [{entry}]}}").code == 0
    assert oracle(newest, who) == "7"
    found = status(newest)
    assert (found.code, f"for Match {match}" in found.problems) == (1, True)


@pytest.mark.slow
@pytest.mark.parametrize("match", ["LocalPort 22", "Group *", "Address 0.0.0.0/0,::/0"])
def test_what_fits_all_at_the_first_boot_is_told(newest: Machine, match: str) -> None:
    serving.as_it_was(newest)
    assert apply(newest, "false").code == 0
    newest.run("systemctl", "stop", "ssh")
    newest.run("tee", "-a", MAIN, input=f"\nMatch {match}\n{BLOCK}")
    said = unattended(newest, SECTION)
    assert said.code == 1
    assert "overrides it" in said.text


def closing(machine: Machine, match: str, block: str) -> serving.Status:
    serving.as_it_was(machine)
    machine.run("tee", "-a", MAIN, input=f"\nMatch {match}\n  {block}\n")
    restart(machine)
    assert apply(machine, IDLE).code == 0
    restart(machine)
    return status(machine)


@pytest.mark.slow
@pytest.mark.parametrize("match", ["User alice", "User root", "Group root", "Address 10.0.0.0/8"])
def test_channel_timeout_in_a_match(each: Machine, match: str) -> None:
    if each.release.openssh == "8.4":
        return
    # 9.2 to 10.4 print it, and do nothing (caa6d7d19 of 10.5)
    acts = each.release.openssh == "10.6"
    found = closing(each, match, "ChannelTimeout session:*=7200")
    assert found.code == int(acts), found.problems
    assert ("overrides it" in found.problems) == acts
    found = closing(each, match, "UnusedConnectionTimeout 7200")
    assert found.code == 1
    assert "UnusedConnectionTimeout is 7200" in found.problems


@pytest.mark.slow
def test_none_after_our_line(each: Machine) -> None:
    if each.release.openssh == "8.4":
        return
    serving.as_it_was(each)
    assert apply(each, IDLE).code == 0
    # It is the default, and the one line that an earlier one does not override.
    each.run("tee", "-a", MAIN, input="\nUnusedConnectionTimeout none\n")
    restart(each)
    found = status(each)
    assert (found.code, "-o " in found.problems) == (1, False), found.problems
    assert f"{MAIN}:" in found.problems
    assert unattended(each, IDLE.replace("61", "62")).code == 1
    each.sh(f"sed -i '/^UnusedConnectionTimeout/d' {MAIN}")
    restart(each)
    assert status(each).code == 0


@pytest.mark.slow
def test_a_user_whom_an_entry_names_is_in_the_group_of_another(each: Machine) -> None:
    serving.as_it_was(each)
    each.sh(PEOPLE)
    entries = "{group: devs, client_alive_interval: 63}, {user: d1, client_alive_interval: 64}"
    assert unattended(each, f"{{client_alive_interval: 62, match: [{entries}]}}").code == 0
    # The first entry that fits is in effect.
    assert oracle(each, "user=d1,addr=192.0.2.9") == "63"
    assert status(each).code == 0
    # For that user a line of somebody else's changes nothing either, which may be hard to tell.
    each.run("tee", "-a", MAIN, input="\nMatch User d1\n  ClientAliveInterval 64\n")
    restart(each)
    found = status(each)
    assert found.code in (0, 2), found.problems
    assert "does not read" not in found.problems


SFTP = "Match User customer-{0}\n  ChrootDirectory /srv/{0}\n  ForceCommand internal-sftp\n  X11Forwarding no\n"


@pytest.mark.parametrize("line", ["", pytest.param(SAME, marks=pytest.mark.slow)], ids=["something else", "the same"])
def test_a_thousand_lines_that_change_nothing(newest: Machine, line: str) -> None:
    serving.as_it_was(newest)
    newest.run("tee", "-a", MAIN, input="\n" + "".join(SFTP.format(number) + line for number in range(1000)))
    restart(newest)
    start = time.monotonic()
    found = status(newest)
    assert found.code == 0, found.problems
    assert time.monotonic() - start < 10
    assert unattended(newest, "{client_alive_interval: 62}").code == 0


@pytest.mark.slow
def test_a_thousand_lines_that_may_change_it_end_in_time(each: Machine) -> None:
    serving.as_it_was(each)
    lines = "".join(SFTP.format(number) + '  ClientAliveInterval "61"\n' for number in range(1000))
    each.run("tee", "-a", MAIN, input="\n" + lines)
    restart(each)
    start = time.monotonic()
    found = status(each)
    assert time.monotonic() - start < 50
    # All set what is expected; who was not asked about is not known.
    assert found.code in (0, 2), found.problems
    assert ("there was no time to ask about" in found.problems) == (found.code == 2), found.problems
