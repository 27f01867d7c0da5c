"""What can go wrong on a machine, one thing at a time: the policy is kept all the same, or it is told why not."""

from __future__ import annotations

import contextlib
import functools
import json
import re
import subprocess
from collections.abc import Iterator

import pytest
from baking import apply, bake, effective, set_default
from faults import FAULTS, KEPT, TELLS
from machine import Machine

# Where the fault is in files that others have, too: all that a case may change, put away and brought back.
PUT_AWAY = """\
# It would use what is taken away and brought back here, after each start of sshd.
systemctl mask --now ssh-keepalive-note
mkdir -p /pristine/usr
# Debian 11 need not have /bin and /usr/bin in one.
test -e /usr/bin/systemctl || mv /bin/systemctl /usr/bin
cp -a /etc /pristine
cp -a /usr/sbin/sshd /usr/bin/systemctl /usr/bin/ssh-keygen /pristine/usr
cp -a /usr/lib/python3/dist-packages/ssh_keepalive /pristine/usr
"""
# What is mounted goes first; a bind mount of the whole of /etc has the same content.
BRING_BACK = """\
for place in $(awk '$2 ~ "^/etc" {print $2}' /proc/mounts | sort -r); do umount "$place"; done
python3 -B - <<'PYTHON'
import fcntl, os, struct
for folder, _, files in os.walk("/etc/ssh"):
    for name in [".", *files]:
        try:
            descriptor = os.open(os.path.join(folder, name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            fcntl.ioctl(descriptor, 0x40086602, struct.pack("l", 0))  # FS_IOC_SETFLAGS
            os.close(descriptor)
        except OSError:
            pass
PYTHON
chmod 755 /run/sshd
rm -rf /etc/ssh /etc/profile.d /usr/lib/python3/dist-packages/ssh_keepalive
cp -a /pristine/usr/ssh_keepalive /usr/lib/python3/dist-packages
test ! -e /jsonschema || mv /jsonschema /usr/lib/python3/dist-packages
cp -a /pristine/etc/ssh /pristine/etc/profile.d /etc
for file in sshd ssh-keygen systemctl; do
    place=/usr/bin/$file
    test $file != sshd || place=/usr/sbin/sshd
    rm -f $place.real
    cmp -s /pristine/usr/$file $place || { cp -a /pristine/usr/$file $place.new; mv $place.new $place; }
done
"""
# All that is ours to leave alone: kinds, modes, owners and links, and what is in the files.
STATE = """\
find /etc/ssh /etc/profile.d -printf '%p %y %m %u %g %l\\n' | sort
find /etc/ssh /etc/profile.d -type f -exec sha256sum {} + | sort
"""
LOGIN = ("ssh", "-o", "ConnectTimeout=10", "localhost", "whoami")


@contextlib.contextmanager
def booted(suite: str) -> Iterator[Machine]:
    """Yield a machine whose faults can be mended, and say at the end how many it has stood."""
    with Machine(suite) as machine:
        bake(machine)
        machine.boot()
        machine.wait()
        machine.sh(PUT_AWAY)
        yield machine
        told, kept = tally(suite)
        print(f"\n{machine.release.name}: {told + kept} faults, {kept} kept, {told} told, the rest is failures")


@functools.lru_cache(maxsize=None)
def tally(suite: str) -> list[int]:
    """Return how many faults a release has told of, and under how many it has kept the policy, to be counted on."""
    return [0, 0]


@pytest.fixture(scope="module")
def oldest() -> Iterator[Machine]:
    with booted("bullseye") as machine:
        yield machine


@pytest.fixture(scope="module")
def newest() -> Iterator[Machine]:
    with booted("forky") as machine:
        yield machine


@pytest.fixture(scope="module")
def each(suite: str) -> Iterator[Machine]:
    with booted(suite) as machine:
        yield machine


@contextlib.contextmanager
def mended(machine: Machine) -> Iterator[None]:
    """Have sshd run as it was; once the body's fault is mended, root logs in by the sshd that it has left."""
    machine.sh("systemctl reset-failed ssh; systemctl restart ssh")
    try:
        yield
    finally:
        machine.sh(BRING_BACK)
    assert machine.run("systemctl", "is-active", "ssh").stdout == "active\n"
    assert machine.run(*LOGIN).stdout == "root\n"


def reason(log: str) -> str:
    """Return what cloud-init's log has last as the module's exception: its words, in one line."""
    return re.findall(r"^(?:ssh_keepalive\.[\w.]+\.)?\w+Error: (.*)$", log, re.MULTILINE)[-1]


def stand(machine: Machine, name: str) -> None:
    """Have the policy kept, or told why not, under a fault."""
    fault = FAULTS[name]
    with mended(machine):
        script = fault.script
        is_applied = script.startswith("{apply}")
        if is_applied:
            apply(machine, fault.section)
            script = script[len("{apply}") :]
        machine.sh(script)
        # What somebody has changed, sshd has read where it can: a restart by the module would put it into effect.
        if "/etc/ssh" in script and fault.starts:
            machine.sh("systemctl reset-failed ssh; ! sshd -t || systemctl restart ssh")
        before = machine.sh(STATE).stdout
        could_log_in = machine.run(*LOGIN, check=False).stdout
        set_default(machine, fault.section)
        environment = " ".join(f"{name}={value}" for name, value in fault.environment.items())
        command = "/usr/bin/cloud-init single --name ssh_keepalive --frequency always"
        script = f"umask {fault.umask}; exec /usr/bin/env {environment} {command}"
        machine.sh(": >/var/log/cloud-init.log")
        answer = machine.sh(script, check=False)
        log = machine.run("cat", "/var/log/cloud-init.log").stdout
        said = reason(log) if answer.returncode else KEPT
        if fault.says is KEPT:
            assert said is KEPT
            assert effective(machine)["clientaliveinterval"] == "61"
            ends = "changed(, sshd restarted)?|unchanged" if is_applied else "changed, sshd restarted|unchanged"
            assert re.search(rf"ssh_keepalive: .* ({ends})$", log, re.MULTILINE)
        else:
            assert said is not KEPT
            remedy = ": correct that until /usr/sbin/sshd -t is silent" if fault.says.startswith(TELLS) else ""
            assert re.fullmatch(fault.says + remedy, said)
            assert machine.sh(STATE).stdout == before
        assert machine.run(*LOGIN, check=False).stdout == could_log_in or not could_log_in
        if fault.says is KEPT:
            assert not re.search(r"/\.\S*ssh-keepalive", machine.sh(STATE).stdout)
        if fault.starts:
            machine.sh("test ! -e /usr/bin/systemctl.real || exec systemctl.real restart ssh; systemctl restart ssh")
        tally(machine.suite)[fault.says is KEPT] += 1


# One that is for another release, or waits for a time-out, has no place where little time is.
QUICK = [name for name, fault in FAULTS.items() if fault.openssh is None and "sleep 60" not in fault.script]


@pytest.mark.parametrize("name", QUICK[::5])
def test_the_oldest_stands(oldest: Machine, name: str) -> None:
    stand(oldest, name)


@pytest.mark.parametrize("name", QUICK[1::5])
def test_the_newest_stands(newest: Machine, name: str) -> None:
    stand(newest, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_each_stands(each: Machine, name: str) -> None:
    if FAULTS[name].openssh in (None, each.release.openssh):
        stand(each, name)


# Those that sshd starts with: what stops sshd itself stops it with our module or without.
AT_BOOT = (
    "T-fails",
    "schema-empty",
    "no-jsonschema",
    "a-drop-in-that-wins",
    "main-is-a-link-to-null",
    "folder-missing",
    "no-include-and-no-folder",
    "conditional-include",
    "crlf-without-include",
    "main-is-empty",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", AT_BOOT)
def test_fault_at_the_first_boot(suite: str, name: str) -> None:
    fault = FAULTS[name]
    with Machine(suite, f"#cloud-config\nssh_keepalive: {fault.section}\n") as machine:
        bake(machine)
        subprocess.run(("chroot", machine.root, "sh", "-ec", fault.script), check=True)
        machine.boot()
        machine.wait()
        assert machine.run(*LOGIN).stdout == "root\n"
        errors = json.loads(machine.run("cat", "/run/cloud-init/result.json").stdout)["v1"]["errors"]
        said = [words for error in errors for words in re.findall(r"ssh_keepalive.*|\w+Error\(.*", error)]
        if fault.says is KEPT:
            assert said == []
            assert effective(machine)["clientaliveinterval"] == "61"
        else:
            assert re.search(fault.says, "\n".join(said))
            assert "Error(" in machine.run("cloud-init", "status", "--long", check=False).stdout
            told = machine.run("ssh-keepalive", "status", check=False).stdout
            assert re.search(fault.says, told.replace("\nremedy: ", ": "))
