"""A run that is killed or refused something at any of its system calls: nothing is lost, the next run repairs."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from baking import bake
from machine import Machine
from releases import RELEASES
from serving import FOLDER, MAIN

FILES = (MAIN, f"{FOLDER}/00-ssh-keepalive.conf", "/etc/profile.d/zz-ssh-keepalive.sh")

# Says by its exit code how a run has ended, for it may be unable to print; exit 1 is a traceback.
RUN = """\
import os
from ssh_keepalive import policy
from ssh_keepalive.machine.apply import apply
from ssh_keepalive.machine.host import Host
from ssh_keepalive.machine.problem import SshdError
code = 0
try:
    said = apply(policy.parse({section!r}), Host())
except (policy.PolicyError, SshdError) as error:
    code, said = 3, error
try:
    print(said, flush=True)
finally:
    os._exit(code)
"""
ENDS = {0: "kept", 3: "told", -9: "killed", 137: "killed"}
# A refused step may be one that only looks: whether others have changed something meanwhile, or which process listens.
# What is written stays then.
NOT_KNOWN = re.compile(r"sshd's files were changed while |process \d+ of ssh\.service is not seen to listen")
# What changes files, and what starts programs; after the lock has been taken, which is the marker.
CALLS = "openat,write,fsync,fchmod,chmod,fchown,mkdir,rmdir,link,linkat,rename,unlink,flock,clone,clone3,vfork,close"
MARKER = "flock"
STRACE = "/opt/strace"
# What an interrupted run must never keep from happening.
START = """\
systemctl reset-failed ssh
timeout 20 systemctl restart ssh || { systemctl list-jobs; journalctl --no-pager -n 30; exit 1; }
timeout 20 ssh localhost whoami || { ps axf; journalctl --no-pager -n 30; exit 1; }
"""


class Change(NamedTuple):
    """What a machine is like, has as its policy, and is to have; what changes in between."""

    setup: str
    before: object
    after: object
    between: str = ""


NO_INCLUDE = f"sed -i /^Include/d {MAIN}\n"
PAIR = {"client_alive_interval": 61}
OTHER = {"client_alive_interval": 62}
IDLE = {"idle_timeout": "15m", "idle_fallback": "tmout"}
CHANGES = {
    "first-drop-in": Change(f"rmdir {FOLDER}\n", None, PAIR),
    "drop-in": Change("", PAIR, OTHER),
    "block": Change(NO_INCLUDE, PAIR, OTHER),
    "drop-in-and-tmout": Change("", {**PAIR, **IDLE}, {**OTHER, **IDLE, "idle_timeout": "16m"}),
    "block-and-tmout": Change(NO_INCLUDE, {**PAIR, **IDLE}, {**OTHER, **IDLE, "idle_timeout": "16m"}),
    "drop-in-to-block": Change("", PAIR, OTHER, NO_INCLUDE),
    "off": Change("", {**PAIR, **IDLE}, False),
    "block-off": Change(NO_INCLUDE, {**PAIR, **IDLE}, False),
}
INTERRUPTIONS = {
    "killed": "signal=KILL:when={}",
    "refused-once": "error=ENOSPC:when={}",
    # A quota: that of a user does not bind root, that of a project does.
    "refused-from-then-on": "error=EDQUOT:when={}+",
}


def bring_strace(machine: Machine) -> None:
    """Copy the host's strace into a machine, with its own libraries."""
    program = shutil.which("strace")
    assert program, "apt install strace"
    folder = machine.root / STRACE[1:]
    folder.mkdir(parents=True)
    libraries = subprocess.run(("ldd", program), stdout=subprocess.PIPE, text=True, check=True).stdout
    for file in (program, *re.findall(r"/\S+", libraries)):
        shutil.copy(file, folder)


def strace(machine: Machine, change: object, *options: str) -> subprocess.CompletedProcess[str]:
    """Apply a section under strace, the run itself and not what it starts."""
    (loader,) = (machine.root / STRACE[1:]).glob("ld-linux*")
    command = (f"{STRACE}/{loader.name}", "--library-path", STRACE, f"{STRACE}/strace", *options)
    return machine.run(*command, "python3", "-B", "-c", RUN.format(section=change), check=False, timeout=90)


def steps(machine: Machine, change: object) -> list[tuple[str, int]]:
    """Return the system calls of a run from the lock on: what is called, for the how manieth time."""
    answer = strace(machine, change, "-o", "/trace", "-e", f"trace={CALLS}")
    assert answer.returncode == 0, answer
    found, counts = [], dict.fromkeys(CALLS.split(","), 0)
    for line in (machine.root / "trace").read_text().splitlines():
        call = line.partition("(")[0]
        if call in counts:
            counts[call] += 1
            if counts[MARKER]:
                found.append((call, counts[call]))
    return found


def texts(machine: Machine) -> dict[str, bytes | None]:
    """Return what the files are, and whatever else of ours lies about."""
    places = {machine.root / file[1:] for file in FILES}
    for folder in ("etc/ssh", "etc/ssh/sshd_config.d", "etc/profile.d"):
        places |= set((machine.root / folder).glob(".*ssh-keepalive*"))
    return {f"/{place.relative_to(machine.root)}": _bytes(place) for place in sorted(places)}


def _bytes(place: Path) -> bytes | None:
    return place.read_bytes() if place.exists() else None


@pytest.fixture(
    scope="module",
    params=[pytest.param(suite, marks=[] if suite == "bullseye" else pytest.mark.slow) for suite in RELEASES],
)
def booted(request: pytest.FixtureRequest) -> Iterator[Machine]:
    with Machine(request.param) as machine:
        bake(machine)
        bring_strace(machine)
        machine.boot()
        machine.wait()
        # Another run, at each start of sshd
        machine.run("systemctl", "mask", "--now", "ssh-keepalive-note")
        machine.sh("cp -a /etc/ssh /etc/profile.d /root/")
        # Python's cache is written by the first
        machine.run("python3", "-c", RUN.format(section=False))
        yield machine


# What others have changed is read by sshd before the module comes.
# A process's start is known to 10 ms.
RESTART = "sleep 0.02; systemctl reset-failed ssh; systemctl restart ssh\n"
RESTORE = "rm -rf /etc/ssh /etc/profile.d; cp -a {0}/ssh {0}/profile.d /etc\n"


def interrupt(machine: Machine, change: Change, how: str, stride: int) -> int:
    """Interrupt a change at each of its steps (or at each so manieth), and return how many there were."""
    machine.sh(RESTORE.format("/root") + change.setup + RESTART)
    if change.before is not None:
        machine.run("python3", "-c", RUN.format(section=change.before))
    machine.sh(change.between + "rm -rf /before; mkdir /before; cp -a /etc/ssh /etc/profile.d /before\n" + RESTART)
    old = texts(machine)
    all_steps = steps(machine, change.after)
    new = texts(machine)
    assert set(old) == set(new) == set(FILES)
    assert old != new
    ends = {"kept": 0, "told": 0, "killed": 0}
    missed = 0
    for call, number in all_steps[::stride]:
        machine.sh(RESTORE.format("/before") + RESTART)
        where = f"{call} {number}"
        inject = f"inject={call}:" + INTERRUPTIONS[how].format(number)
        answer = strace(machine, change.after, "-o", "/dev/null", "-e", "trace=" + call, "-e", inject)
        end = "kept" if NOT_KNOWN.match(answer.stdout) else ENDS[answer.returncode]
        if how == "killed" and end == "kept":
            # A restart is waited for in more steps or fewer, so that the last ones may not be reached.
            missed += 1
            assert missed <= 3, (where, answer)
            continue
        assert (end == "killed") == (how == "killed"), (where, answer)
        ends[end] += 1
        found = texts(machine)
        for file in FILES:
            assert found[file] in (old[file], new[file]), (where, file, found[file])
        if how == "refused-once":
            # What could not be taken away or put back, and is read by nobody, may lie about until the next run.
            is_read = b"\nInclude" in (old[MAIN] or b"")
            files = FILES if is_read or end == "kept" else (MAIN, FILES[2])
            expected = new if end == "kept" else old
            assert [found[file] for file in files] == [expected[file] for file in files], (where, answer.stdout)
        answer = machine.sh(START, check=False)
        assert answer.stdout == "root\n", (where, answer)
        answer = machine.run("python3", "-B", "-c", RUN.format(section=change.after), check=False)
        assert answer.returncode == 0, (where, answer)
        assert texts(machine) == new, where
    machine.run("ssh", "localhost", "whoami")
    print(f"{machine.suite} {how}: {sum(ends.values())} of {len(all_steps)} steps, {ends}")
    return sum(ends.values())


@pytest.mark.parametrize(
    ("name", "how"), [("drop-in-and-tmout", "killed"), ("block", "killed"), ("off", "refused-once")]
)
def test_a_run_may_end_anywhere(booted: Machine, name: str, how: str) -> None:
    assert interrupt(booted, CHANGES[name], how, stride=61 if how == "killed" else 37) > 3


# Each change and each way on one of the releases, by turns
TURNS = [(suite, *one) for suite, one in zip(itertools.cycle(RELEASES), itertools.product(CHANGES, INTERRUPTIONS))]


@pytest.mark.slow
@pytest.mark.parametrize(("booted", "name", "how"), TURNS, indirect=["booted"])
def test_a_run_may_end_at_every_system_call(booted: Machine, name: str, how: str) -> None:
    # A step takes two seconds, and there are a thousand in each change: no multiple of what repeats.
    stride = 41 if how == "killed" else 59
    assert interrupt(booted, CHANGES[name], how, stride) > 4
