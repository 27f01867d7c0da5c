"""No policy that is accepted locks anybody out, and a real sshd takes each as it was meant."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from accounts import Accounts
from baking import DROP_IN
from hypothesis import given, settings
from hypothesis import strategies as st
from machine import CommandError, Machine
from ssh_keepalive import openssh, sshd_config
from ssh_keepalive.machine import verification
from ssh_keepalive.openssh import Connection
from ssh_keepalive.policy import Policy, parse
from strategies import connections, sections

USERS = [Connection(user, (), "127.0.0.1") for user in ("root", "ordinary")]
NOBODY = Connection(".invalid", (), "192.0.2.1")
ANSWERS = "try"

# A second sshd with the machine's own configuration, but for PAM, which is slow and has no part in this. It serves one
# login of each user, while each line of `who` is asked about. The key exchange is the quickest that all of them have.
TRY = """
cd /try
sshd=/usr/sbin/sshd
$sshd -D -E log -p 2222 -o UsePAM=no -o PidFile=/try/pid &
server=$!
trap 'kill $server; wait $server' EXIT
until [ -s pid ]; do kill -0 $server; sleep 0.01; done
login="timeout 10 ssh -F none -p 2222 -i /root/.ssh/id_ed25519 -o BatchMode=yes -o LogLevel=ERROR"
login="$login -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o KexAlgorithms=curve25519-sha256"
{ $login root@127.0.0.1 id -un || :; } >root 2>&1 &
root=$!
{ $login ordinary@127.0.0.1 id -un || :; } >ordinary 2>&1 &
ordinary=$!
number=0
while read -r who; do
    $sshd -T -C "$who,host=.invalid,laddr=192.0.2.1,lport=1" >report-$number
    number=$((number + 1))
done <who
wait $root $ordinary
"""


@pytest.fixture(scope="module")
def booted(oldest_or_newest: str) -> Iterator[Machine]:
    with Machine(oldest_or_newest) as machine:
        machine.boot()
        machine.wait()
        machine.sh("useradd --create-home --password '*' --shell /bin/sh ordinary; mkdir -p /run/sshd")
        machine.sh("cp -r /root/.ssh /home/ordinary; chown -R ordinary: /home/ordinary")
        yield machine


def logins(machine: Machine) -> list[str]:
    """Return what each user was told."""
    return [(machine.root / ANSWERS / user.user).read_text() for user in USERS]


def reports(machine: Machine, text: str, people: list[Connection]) -> list[str]:
    """Have an sshd run with a drop-in, and all users log in; return what it says of each of these people."""
    answers = machine.root / ANSWERS
    shutil.rmtree(answers, ignore_errors=True)
    answers.mkdir()
    (machine.root / DROP_IN[1:]).write_text(text)
    (answers / "who").write_text("".join(f"user={one.user},addr={one.address}\n" for one in people))
    machine.sh(TRY)
    assert logins(machine) == ["root\n", "ordinary\n"]
    return [(answers / f"report-{number}").read_text() for number in range(len(people))]


@pytest.mark.parametrize("count", [15, pytest.param(200, marks=pytest.mark.slow)])
def test_everybody_logs_in_and_sshd_reports_what_was_asked_for(booted: Machine, count: int) -> None:
    version = openssh.parse_version(booted.sh("/usr/sbin/sshd -V 2>&1 || :").stdout)
    assert version is not None
    idle, idle_in_match = (openssh.has(version, fact) for fact in ("channel-timeout", "channel-timeout-in-match"))
    accounts = Accounts(booted)
    tried: list[Policy] = []

    @settings(max_examples=count)
    @given(st.data(), sections(idle, idle_in_match))
    def one(data: st.DataObject, section: object) -> None:
        policy = parse(section)
        assert policy is not None
        translated = openssh.translate(policy, version)
        near = [data.draw(connections(entry, policy)) for entry in policy.match]
        people = accounts.add([NOBODY, data.draw(st.sampled_from(USERS)), *near])
        for person, report in zip(people, reports(booted, sshd_config.render(translated), people)):
            assert verification.mismatches(openssh.expected(translated, person), report) == [], person
        tried.append(policy)

    one()
    assert len(tried) >= count


def test_a_policy_of_the_greatest_size_locks_nobody_out(booted: Machine) -> None:
    entry = {"group": "x" * 64, "client_alive_interval": 3600, "client_alive_count_max": 100}
    policy = parse({"match": [entry] * 250})
    assert policy is not None
    text = sshd_config.render(openssh.translate(policy, (9, 2)))
    reports(booted, text, [])
    if booted.suite == "trixie":
        # What the limit is there for, and no check of sshd's finds
        (booted.root / DROP_IN[1:]).write_text(text + "#" * 256 * 1024)
        booted.run("/usr/sbin/sshd", "-t")
        with pytest.raises(AssertionError):
            reports(booted, text + "#" * 256 * 1024, [])
        assert "root\n" not in logins(booted)


def test_what_locks_people_out_does_not_pass_here(booted: Machine) -> None:
    if booted.suite == "bullseye":
        with pytest.raises(CommandError):
            reports(booted, "ChannelTimeout session:*=900\n", [])
        assert "Bad configuration option: ChannelTimeout" in (booted.root / ANSWERS / "log").read_text()
        return
    for who in ("all", "User ordinary"):
        with pytest.raises(AssertionError):
            reports(booted, f"Match {who}\n    ChannelTimeout none\n", [])
        root, ordinary = logins(booted)
        assert (root == "root\n") == (who == "User ordinary")
        assert ordinary != "ordinary\n"
        booted.run("/usr/sbin/sshd", "-t")
