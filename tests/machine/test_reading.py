"""Whether sshd has read its files as they are now: what status says, against what is in sshd's memory."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import serving
from baking import DROP_IN, bake
from machine import Machine
from serving import FOLDER, MAIN, OURS, SECTION, apply, has_read, status

THEIRS = "ClientAliveInterval 7"
RESTART = "systemctl reset-failed ssh; systemctl restart ssh\n"
# A SIGHUP, of which systemd only says that it was sent.
RELOAD = "systemctl reload ssh; sleep 0.5\n"
# A start has the unit note what was read.
NOTED = "sleep 0.5; while systemctl show ssh-keepalive-note | grep -q ActiveState=activating; do sleep 0.1; done\n"
NO_RECORD = "rm -f /run/ssh-keepalive.json\n"
CONFLICT = f"echo '{THEIRS}' >{FOLDER}/00-a.conf\n"
OVERRIDE = "mkdir -p /etc/systemd/system/ssh.service.d; cat >/etc/systemd/system/ssh.service.d/x.conf <<'X'\n{}\nX\n"


def include(pattern: str) -> str:
    return f"sed -i '1iInclude {pattern}' {MAIN}\n"


class Event(NamedTuple):
    """What somebody does, the exit codes that status may have then, and whether sshd's memory holds our value."""

    script: str
    codes: tuple[int, ...] = (0,)
    enforces: bool = True


GOOD = (0,)
# The policy is in effect, or will be; to say less is no lie.
NOT_SURE = (0, 2)
# It is not in effect.
BAD = (1, 2)

EVENTS = {
    # No false alarms
    "nothing": Event(""),
    "chmod": Event(f"chmod 600 {MAIN}; chmod 700 {FOLDER}; chmod 640 {DROP_IN}; chmod 600 {DROP_IN}"),
    "touch": Event(f"touch {MAIN} {DROP_IN} {FOLDER}"),
    "an editor's files": Event(f"touch {FOLDER}/.x.swp {MAIN}~ {FOLDER}/#x#; rm {FOLDER}/.x.swp; touch {MAIN}.swp"),
    "cp -p and back": Event(f"cp -p {MAIN} /main; cp -p /main {MAIN}.new; mv {MAIN}.new {MAIN}"),
    "sed on another keyword": Event(f"sed -i 's/^#*X11Forwarding .*/X11Forwarding no/' {MAIN}"),
    "another keyword added": Event(f"echo 'MaxAuthTries 5' >>{MAIN}; echo 'LogLevel VERBOSE' >{FOLDER}/50-b.conf"),
    "another keyword, and a restart": Event(f"sed -i '1iMaxAuthTries 5' {MAIN}\n{RESTART}"),
    "another keyword, and a reload": Event(f"sed -i '1iMaxAuthTries 5' {MAIN}\n{RELOAD}"),
    "a restart": Event(RESTART),
    "two reloads": Event(RELOAD + RELOAD),
    "edited and put back": Event(f"cp -p {MAIN} /main; echo 'Port 2200' >>{MAIN}; cat /main >{MAIN}"),
    "another option of the service's": Event("echo 'SSHD_OPTS=-4' >/etc/default/ssh"),
    "files of old, and a restart": Event(NO_RECORD + "sleep 0.1\n" + RESTART),
    "a conflict that nobody has read, taken away": Event(CONFLICT + f"rm {FOLDER}/00-a.conf"),
    "a conflict that sshd has read, taken away, and a restart": Event(
        CONFLICT + RESTART + f"rm {FOLDER}/00-a.conf; sleep 0.1\n" + RESTART
    ),
    "a conflict that comes after ours": Event(f"echo '{THEIRS}' >{FOLDER}/50-b.conf\n" + RESTART),
    "other files without a record": Event(NO_RECORD + f"sed -i '1iMaxAuthTries 5' {MAIN}", NOT_SURE),
    # It is noted after each start.
    "a restart, and a chmod later": Event(RESTART + NOTED + f"chmod 600 {MAIN}"),
    "a restart, and another keyword later": Event(RESTART + NOTED + f"echo 'MaxAuthTries 5' >>{MAIN}"),
    # No holes
    "a conflict": Event(CONFLICT, BAD),
    "a conflict that sshd has read": Event(CONFLICT + RESTART, BAD, False),
    "a conflict that a reload has read": Event(CONFLICT + RELOAD, BAD, False),
    "a conflict taken away after a restart": Event(CONFLICT + RESTART + f"rm {FOLDER}/00-a.conf", BAD, False),
    "the same a moment later": Event(CONFLICT + RESTART + f"sleep 0.3; rm {FOLDER}/00-a.conf", BAD, False),
    "the same after a reload": Event(CONFLICT + RELOAD + f"rm {FOLDER}/00-a.conf", BAD, False),
    "the same without a record": Event(CONFLICT + RESTART + NO_RECORD + f"rm {FOLDER}/00-a.conf", BAD, False),
    "the same with old times": Event(
        CONFLICT + RESTART + f"rm {FOLDER}/00-a.conf; touch -d 2020-01-01 {FOLDER} {MAIN} {DROP_IN}", BAD, False
    ),
    "the same with a PID file of tomorrow": Event(
        CONFLICT + RESTART + f"rm {FOLDER}/00-a.conf; touch -d tomorrow /run/sshd.pid", BAD, False
    ),
    "the same with both": Event(
        CONFLICT + RESTART + NO_RECORD + f"rm {FOLDER}/00-a.conf; touch -d tomorrow /run/sshd.pid", BAD, False
    ),
    "the same by a backup's times": Event(
        f"cp -a {FOLDER} /srv/backup\n" + CONFLICT + RESTART + f"rm {FOLDER}/00-a.conf; touch -r /srv/backup {FOLDER}",
        BAD,
        False,
    ),
    "another folder moved there": Event(
        f"cp -a {FOLDER} {FOLDER}.good; sleep 0.1\n"
        + CONFLICT
        + RESTART
        + f"mv {FOLDER} {FOLDER}.bad; mv {FOLDER}.good {FOLDER}",
        BAD,
        False,
    ),
    "another folder moved to where a link leads": Event(
        f"mkdir -p /srv/conf /srv/good; echo '{THEIRS}' >/srv/conf/a.conf; echo '# x' >/srv/good/a.conf\n"
        f"ln -s /srv/conf/a.conf {FOLDER}/00-a.conf; sleep 0.1\n"
        + RESTART
        + "mv /srv/conf /srv/bad; mv /srv/good /srv/conf",
        BAD,
        False,
    ),
    "a file with a name that is no ASCII, emptied": Event(
        f"echo '{THEIRS}' >{FOLDER}/00-Zürich.conf\n" + RESTART + f": >{FOLDER}/00-Zürich.conf", BAD, False
    ),
    "a file emptied": Event(CONFLICT + RESTART + f": >{FOLDER}/00-a.conf", BAD, False),
    "a file renamed": Event(CONFLICT + RESTART + f"mv {FOLDER}/00-a.conf {FOLDER}/00-a.conf.off", BAD, False),
    "a file of another folder removed": Event(
        "mkdir /etc/ssh/extra; echo ClientAliveInterval 7 >/etc/ssh/extra/a.conf\n"
        + include("/etc/ssh/extra/*.conf")
        + RESTART
        + "rm /etc/ssh/extra/a.conf",
        BAD,
        False,
    ),
    "another folder removed": Event(
        "mkdir -p /srv/sshd/extra; echo ClientAliveInterval 7 >/srv/sshd/extra/a.conf\n"
        + include("/srv/sshd/extra/*.conf")
        + RESTART
        + "rm -r /srv/sshd/extra",
        BAD,
        False,
    ),
    "another folder removed with its parent": Event(
        "mkdir -p /srv/sshd/extra; echo ClientAliveInterval 7 >/srv/sshd/extra/a.conf\n"
        + include("/srv/sshd/extra/*.conf")
        + RESTART
        + "rm -r /srv/sshd",
        BAD,
        False,
    ),
    "a file of a folder with a wildcard removed": Event(
        "mkdir -p /etc/ssh/site-a; echo ClientAliveInterval 7 >/etc/ssh/site-a/x.conf\n"
        + include("/etc/ssh/site-*/x.conf")
        + RESTART
        + "rm -r /etc/ssh/site-a",
        BAD,
        False,
    ),
    "an included file without a pattern removed": Event(
        "echo ClientAliveInterval 7 >/etc/ssh/extra.conf\n"
        + include("extra.conf")
        + RESTART
        + "rm /etc/ssh/extra.conf",
        BAD,
        False,
    ),
    "a file of an Include that is gone": Event(
        f"cp -p {MAIN} /main; mkdir /etc/ssh/extra; echo ClientAliveInterval 7 >/etc/ssh/extra/a.conf\n"
        + include("/etc/ssh/extra/*.conf")
        + RESTART
        + f"cp -p /main {MAIN}",
        BAD,
        False,
    ),
    "a link turned to another folder": Event(
        "mkdir -p /srv/one /srv/two; echo ClientAliveInterval 7 >/srv/one/a.conf; ln -s one /srv/now; sleep 0.1\n"
        + include("/srv/now/*.conf")
        + RESTART
        + "ln -sfn two /srv/now",
        BAD,
        False,
    ),
    "folders that changed places": Event(
        "mkdir -p /srv/one /srv/two; echo ClientAliveInterval 7 >/srv/one/a.conf; sleep 0.1\n"
        + include("/srv/one/*.conf")
        + RESTART
        + "mv /srv/one /srv/three; mv /srv/two /srv/one",
        BAD,
        False,
    ),
    "a Match that sshd has read, taken away": Event(
        f"printf 'Match User root\\n{THEIRS}\\n' >{FOLDER}/50-r.conf\n" + RESTART + NOTED + f"rm {FOLDER}/50-r.conf",
        (1,),
        False,
    ),
    "a Match of somebody's that sshd has read, taken away": Event(
        f"printf 'Match User bob\\n{THEIRS}\\n' >{FOLDER}/50-b.conf\n" + RESTART + NOTED + f"rm {FOLDER}/50-b.conf",
        (1,),
        False,
    ),
    "a Match that changes nothing, taken away": Event(
        f"printf 'Match User bob\\nX11Forwarding no\\n' >{FOLDER}/50-b.conf\n"
        + RESTART
        + NOTED
        + f"rm {FOLDER}/50-b.conf",
    ),
    "an option of the service's": Event("echo SSHD_OPTS=-oClientAliveInterval=7 >/etc/default/ssh", (1,)),
    "an option that has been taken away": Event(
        "echo SSHD_OPTS=-oClientAliveInterval=7 >/etc/default/ssh\n" + RESTART + ": >/etc/default/ssh", BAD
    ),
    "another command of the unit's": Event(
        OVERRIDE.format("[Service]\nExecStart=\nExecStart=/usr/sbin/sshd -D -f /etc/ssh/other")
        + f"grep -v ^Include {MAIN} >/etc/ssh/other; systemctl daemon-reload",
        (1,),
    ),
    "our own file removed": Event(f"rm {DROP_IN}", (1,)),
    "our own file changed": Event(f"sed -i 's/Interval 61/Interval 7/' {DROP_IN}", BAD),
    "our own file changed, and a restart": Event(
        f"sed -i 's/Interval 61/Interval 7/' {DROP_IN}\n{RESTART}", BAD, False
    ),
    "sshd stopped": Event("systemctl stop ssh", NOT_SURE),
}
NAMES = list(EVENTS)


def stand(machine: Machine, name: str) -> None:
    """Have an event happen, and ask for the status."""
    event = EVENTS[name]
    machine.sh("rm -rf /srv/*")
    serving.as_it_was(machine)
    machine.sh(event.script)
    if serving.listener(machine):
        assert has_read(machine, OURS) or not event.enforces
        assert event.enforces or has_read(machine, THEIRS)
    found = status(machine)
    assert found.code in event.codes, (found.problems, found.notes)


@pytest.mark.parametrize("name", NAMES[5::8])
def test_the_newest(newest: Machine, name: str) -> None:
    stand(newest, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_each(each: Machine, name: str) -> None:
    stand(each, name)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [-86400, -30, 30, 86400])
@pytest.mark.parametrize("record", [True, False])
def test_a_clock_that_was_set(newest: Machine, seconds: int, record: bool) -> None:
    serving.as_it_was(newest)
    clock = f"import time; real = time.time; time.time = lambda: real() + {seconds}\n"
    ask = clock + "import sys; sys.argv = ['ssh-keepalive', 'status']\n"
    ask += "import runpy; runpy.run_path('/usr/bin/ssh-keepalive', run_name='__main__')\n"
    if not record:
        newest.sh(NO_RECORD)
    assert newest.run("python3", "-c", ask, check=False).returncode in (GOOD if record else NOT_SURE)
    newest.sh(CONFLICT + RESTART + f"sleep 0.3; rm {FOLDER}/00-a.conf")
    assert has_read(newest, THEIRS)
    assert newest.run("python3", "-c", ask, check=False).returncode in BAD


RUNCMD = f"""\
#cloud-config
ssh_keepalive: {SECTION}
runcmd:
  - sed -i 's/^#*PermitRootLogin .*/PermitRootLogin prohibit-password/' {MAIN}
  - [sed, -i, -e, 's/^#*PasswordAuthentication .*/PasswordAuthentication no/', {MAIN}]
  - echo 'MaxAuthTries 5' >>{MAIN}
  - echo 'LogLevel VERBOSE' >{FOLDER}/50-b.conf
  - chmod 600 {MAIN} {FOLDER}/50-b.conf
"""


@pytest.mark.parametrize("end", ["bullseye", pytest.param("forky", marks=pytest.mark.slow)])
def test_what_runcmd_edits_at_the_first_boot(end: str) -> None:
    with Machine(end, RUNCMD) as machine:
        bake(machine)
        machine.boot()
        machine.wait()
        assert has_read(machine, OURS)
        assert not has_read(machine, "MaxAuthTries 5")
        found = status(machine)
        assert found.code == 0, found.problems
        machine.reboot()
        machine.wait()
        assert has_read(machine, OURS)
        assert has_read(machine, "MaxAuthTries 5")
        found = status(machine)
        assert found.code == 0, found.problems
        machine.sh(f"sed -i s/VERBOSE/INFO/ {FOLDER}/50-b.conf")
        found = status(machine)
        assert found.code == 0, found.problems


def test_a_run_that_others_have_overtaken_is_no_evidence(newest: Machine) -> None:
    serving.as_it_was(newest)
    newest.sh(CONFLICT + RESTART + f"rm {FOLDER}/00-a.conf")
    said = apply(newest, SECTION)
    # A person looks on: sshd may be restarted, or it is said that it was not.
    assert has_read(newest, THEIRS) == (said.code != 0)
    assert (status(newest).code == 0) == (said.code == 0)
