"""What happens to a run from outside: name services that hang, slow starts, others' edits, a container's process 1."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import serving
from baking import DROP_IN, bake
from clients import Client
from machine import Machine, Process
from serving import MAIN, OURS, apply, as_it_was, can_log_in, has_read, listener, reapply, status, unattended

OTHER = "{client_alive_interval: 62}"


# Name services: what lists all hangs, and what is asked about some does.
HANGING = """\
#include <errno.h>
#include <grp.h>
#include <nss.h>
#include <pwd.h>
#include <string.h>
#include <unistd.h>
static enum nss_status hang(void) { for (;;) pause(); }
enum nss_status _nss_hang_setpwent(int s) { return NSS_STATUS_SUCCESS; }
enum nss_status _nss_hang_endpwent(void) { return NSS_STATUS_SUCCESS; }
enum nss_status _nss_hang_setgrent(int s) { return NSS_STATUS_SUCCESS; }
enum nss_status _nss_hang_endgrent(void) { return NSS_STATUS_SUCCESS; }
enum nss_status _nss_hang_getpwent_r(struct passwd *p, char *b, size_t n, int *e) { return hang(); }
enum nss_status _nss_hang_getgrent_r(struct group *g, char *b, size_t n, int *e) { return hang(); }
enum nss_status _nss_hang_getgrnam_r(const char *name, struct group *g, char *b, size_t n, int *e) {
    if (!strncmp(name, "dir-", 4)) return hang();
    return NSS_STATUS_NOTFOUND;
}
enum nss_status _nss_hang_initgroups_dyn(const char *user, gid_t group, long *start, long *size, gid_t **groups,
                                         long limit, int *e) {
    if (!strcmp(user, "hangs")) return hang();
    return NSS_STATUS_NOTFOUND;
}
"""


@pytest.fixture(scope="session")
def hanging(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A module for nsswitch.conf that never answers."""
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    folder = tmp_path_factory.mktemp("hanging")
    (folder / "hang.c").write_text(HANGING)
    library = folder / "libnss_hang.so.2"
    command = ("cc", "-shared", "-fPIC", "-Wl,-soname,libnss_hang.so.2", "-o", library, folder / "hang.c")
    subprocess.run(command, check=True)
    return library


def hang(machine: Machine, library: Path) -> None:
    shutil.copy(library, machine.root / "usr/lib/x86_64-linux-gnu/libnss_hang.so.2")
    file = machine.root / "etc/nsswitch.conf"
    text = re.sub(r"^(passwd|group|initgroups):.*\n", "", file.read_text(), flags=re.MULTILINE)
    file.write_text(text + "passwd: files hang\ngroup: files hang\n")


@pytest.mark.parametrize(
    ("end", "entry"),
    [
        pytest.param("forky", "{group: dir-admins, client_alive_interval: 55}", marks=pytest.mark.slow),
        pytest.param("bullseye", "{group: 'dir-*', client_alive_interval: 55}", marks=pytest.mark.slow),
        pytest.param("bullseye", "{user: hangs, client_alive_interval: 55}", marks=pytest.mark.slow),
        pytest.param("trixie", "{group: [root, dir-admins], client_alive_interval: 55}", marks=pytest.mark.slow),
        pytest.param("bookworm", "{user: [root, 'x*'], client_alive_interval: 55}", marks=pytest.mark.slow),
    ],
)
def test_a_name_service_that_hangs_holds_no_boot_up(hanging: Path, end: str, entry: str) -> None:
    section = f"{{client_alive_interval: 61, match: [{entry}]}}"
    with Machine(end, f"#cloud-config\nssh_keepalive: {section}\n") as machine:
        bake(machine)
        hang(machine, hanging)
        machine.boot()
        machine.wait(timeout=75)
        assert machine.run("systemctl", "list-jobs", "--no-legend").stdout == ""
        assert has_read(machine, OURS)
        assert can_log_in(machine)
        start = time.monotonic()
        found = status(machine)
        assert time.monotonic() - start < 45
        if "group" in entry:
            assert found.code != 0 or "not verified" in found.notes


# OpenSSH 9.8 to 10.2 refuse every login when their configuration is above 256 KiB.
BIG = "mkdir -p {0}; for i in $(seq 2200); do printf '# %059d\\n' $i; done >{0}/big.conf\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    "include", ["/etc/ssh/extra/*.conf\nInclude /etc/ssh/extra/big.conf", "/srv/ssh/*.conf /srv/ssh/big.conf"]
)
def test_every_file_counts_as_often_as_it_is_read(include: str) -> None:
    folder = include.partition("*")[0].rstrip("/")
    with serving.enforcing("trixie") as machine:
        machine.sh(BIG.format(folder))
        size = int(machine.run("stat", "-c", "%s", f"{folder}/big.conf").stdout)
        assert 131072 < size < 250000
        machine.sh(f"cp {MAIN} /main; cat - /main >{MAIN}", input=f"Include {include}\n")
        said = unattended(machine, OTHER)
        assert said.code == 1
        assert "256 KiB" in said.text
        assert OURS in machine.run("cat", DROP_IN).stdout
        assert can_log_in(machine)
        assert status(machine).code != 0


SLOW = """\
mkdir -p /etc/systemd/system/ssh.service.d
printf '[Service]\\nExecStartPre=/bin/sh -c "sleep $(cat /srv/seconds)"\\n' \\
    >/etc/systemd/system/ssh.service.d/slow.conf
echo 0 >/srv/seconds
systemctl daemon-reload
systemctl restart ssh
echo {} >/srv/seconds
"""


def stops(machine: Machine) -> int:
    log = machine.run("journalctl", "-b", "--no-pager", "-u", "ssh").stdout
    return len(re.findall(r"Stopped .*(?:ssh\.service|OpenBSD)", log))


def until(machine: Machine, state: str, timeout: float = 60) -> None:
    end = time.monotonic() + timeout
    while machine.run("systemctl", "is-active", "ssh", check=False).stdout.strip() != state:
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("seconds", "run"),
    [
        pytest.param(17, unattended, marks=pytest.mark.slow),
        (5, unattended),
        pytest.param(12, unattended, marks=pytest.mark.slow),
        pytest.param(12, apply, marks=pytest.mark.slow),
        pytest.param(30, apply, marks=pytest.mark.slow),
        pytest.param(65, apply, marks=pytest.mark.slow),
    ],
)
def test_a_slow_start_is_waited_for_and_not_begun_anew(newest: Machine, seconds: int, run: object) -> None:
    as_it_was(newest)
    newest.sh(SLOW.format(seconds))
    before = stops(newest)
    start = time.monotonic()
    said = run(newest, OTHER)  # type: ignore[operator]
    took = time.monotonic() - start
    patience = 15 if run is unattended else 60
    assert took < patience + 8
    if seconds < patience:
        assert (said.code, "sshd restarted" in said.text) == (0, True), said
    else:
        assert said.code == (1 if run is unattended else 2)
        assert "still starting" in said.text
        # The next run, which has something to write, does not restart what is starting.
        again = unattended(newest, "{client_alive_interval: 63}")
        assert "start" in again.text
        assert "sshd restarted" not in again.text
        until(newest, "active", seconds)
    assert stops(newest) == before + 1
    assert "62" in newest.run("cat", DROP_IN).stdout or "63" in newest.run("cat", DROP_IN).stdout
    assert can_log_in(newest)
    found = status(newest)
    assert (found.code == 0) == any(has_read(newest, f"ClientAliveInterval {one}") for one in (62, 63))


@pytest.mark.slow
def test_a_slow_stop_is_no_failure(newest: Machine) -> None:
    as_it_was(newest)
    newest.sh(SLOW.format(18).replace("ExecStartPre=", "ExecStopPost="))
    said = unattended(newest, OTHER)
    assert (said.code, "still stopping" in said.text) == (1, True), said
    until(newest, "active", 18)
    assert has_read(newest, "ClientAliveInterval 62")
    assert can_log_in(newest)
    found = status(newest)
    assert found.code == 0, found.problems


def test_ctrl_c_before_a_policy_is_in_place_changes_nothing(newest: Machine) -> None:
    as_it_was(newest)
    before = newest.run("sha256sum", DROP_IN).stdout
    with newest.popen("flock", "--no-fork", "/run/ssh-keepalive.lock", "sleep", "60") as other:
        with apply_by_hand(newest) as applied:
            opened = "until [ $(ls -l /proc/[0-9]*/fd 2>&1 | grep -c ssh-keepalive.lock) = 2 ]; do sleep 0.1; done"
            newest.sh(opened)
            applied.send_signal(signal.SIGINT)
            assert applied.communicate() == ("", "ssh-keepalive: interrupted: nothing was changed\n")
        other.kill()
    assert applied.returncode == 130
    assert newest.run("sha256sum", DROP_IN).stdout == before


def test_ctrl_c_while_sshd_starts_restores_what_was(newest: Machine) -> None:
    as_it_was(newest)
    newest.sh(SLOW.format(3))
    with apply_by_hand(newest) as applied:
        until(newest, "activating")
        applied.send_signal(signal.SIGINT)
        said, complaints = applied.communicate()
    assert complaints == "ssh-keepalive: interrupted: the old configuration is restored, sshd is active\n"
    assert (applied.returncode, said) == (130, "")
    assert OURS in newest.run("cat", DROP_IN).stdout
    assert has_read(newest, OURS)
    assert can_log_in(newest)
    assert status(newest).code == 0


def apply_by_hand(machine: Machine) -> Process:
    """Start an apply of another policy, as a person does who may press Ctrl-C."""
    (machine.root / "srv/other.yaml").write_text("#cloud-config\nssh_keepalive: {unresponsive_timeout: 4m}\n")
    return machine.popen("ssh-keepalive", "apply", "/srv/other.yaml")


# In a container sshd itself is process 1; nspawn would take it for such a container too.
PROCESS_1 = """\
#!/bin/sh
mkdir -p /run/sshd
ip link set lo up
mkfifo /run/initctl
exec /usr/sbin/sshd -D -e
"""


@pytest.mark.parametrize("end", ["forky", pytest.param("bullseye", marks=pytest.mark.slow)])
@pytest.mark.parametrize("pid_file", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_containers_process_1_is_not_stopped(end: str, pid_file: bool) -> None:
    with Machine(end) as machine:
        machine.init = "sshd"
        bake(machine)
        init = machine.root / "sbin/init"
        init.unlink()
        init.write_text(PROCESS_1)
        init.chmod(0o755)
        if not pid_file:
            with (machine.root / "etc/ssh/sshd_config").open("a") as stream:
                stream.write("PidFile none\n")
        machine.boot()
        serving.until_it_listens(machine)
        assert listener(machine) == 1
        with Client(machine) as client:
            for run, section in ((unattended, "{client_alive_interval: 61}"), (apply, OTHER), (unattended, "true")):
                said = run(machine, section)
                assert machine.running
                assert listener(machine) == 1
                assert client.answers()
                value = re.findall("ClientAliveInterval .*", machine.run("cat", DROP_IN).stdout)[0]
                assert has_read(machine, value) == (said.code == 0), said
                if said.code:
                    assert "container" in said.text
            assert reapply(machine).code in (0, 1, 2)
            assert (status(machine).code == 0) == (said.code == 0)


NO_INCLUDE = f"sed -i /^Include/d {MAIN}\n"
# Waits for a moment of a run, and edits the main file then, as somebody does who knows nothing of it.
WATCH = """\
import glob, os, subprocess, sys, time
moment, edit = sys.argv[1:]
end = time.monotonic() + 30
def has_come():
    if moment == "staged":
        return glob.glob("/etc/ssh/.00-ssh-keepalive*main*")
    with open("/etc/ssh/sshd_config") as stream:
        return moment in stream.read()
print("ready", flush=True)
while not has_come():
    if time.monotonic() > end:
        sys.exit("it did not come")
subprocess.run(["sh", "-ec", edit], check=True)
"""
EDITS = {
    "added": f"echo '# theirs' >>{MAIN}",
    "sed": f"sed -i '$a# theirs' {MAIN}",
    "an editor's": f"(cat {MAIN}; echo '# theirs') >/etc/ssh/x; chmod 644 /etc/ssh/x; mv /etc/ssh/x {MAIN}",
}
FAILS = """\
mkdir -p /etc/systemd/system/ssh.service.d
printf '[Service]\\nExecStartPre=/bin/sh -c "! grep -q ssh-keepalive {}"\\n' >/etc/systemd/system/ssh.service.d/x.conf
systemctl daemon-reload
systemctl restart ssh
"""


def watched(machine: Machine, moment: str, edit: str) -> Process:
    process = machine.popen("python3", "-c", WATCH, moment, EDITS[edit])
    assert process.stdout.readline() == "ready\n"  # type: ignore[union-attr]
    return process


@pytest.mark.parametrize("moment", ["staged", pytest.param("# BEGIN ssh-keepalive", marks=pytest.mark.slow)])
@pytest.mark.parametrize("edit", [pytest.param(one, marks=() if one == "added" else pytest.mark.slow) for one in EDITS])
def test_an_edit_during_a_run_stays(newest: Machine, moment: str, edit: str) -> None:
    as_it_was(newest)
    assert apply(newest, "false").code == 0
    newest.sh(NO_INCLUDE + "systemctl restart ssh; sleep 0.2")
    with watched(newest, moment, edit) as process:
        said = unattended(newest, OTHER)
        _, error = process.communicate(timeout=40)
    assert process.returncode == 0, error
    text = newest.run("cat", MAIN).stdout
    assert "# theirs" in text
    assert ("# BEGIN ssh-keepalive" in text) == (said.code == 0 or "is written" in said.text or "read" in said.text)
    assert (status(newest).code == 0) == has_read(newest, "ClientAliveInterval 62")


@pytest.mark.parametrize("edit", [pytest.param(one, marks=() if one == "sed" else pytest.mark.slow) for one in EDITS])
def test_an_edit_during_a_run_that_is_undone_stays(newest: Machine, edit: str) -> None:
    as_it_was(newest)
    assert apply(newest, "false").code == 0
    newest.sh(NO_INCLUDE + FAILS.format(MAIN) + "systemctl restart ssh; sleep 0.2")
    before = newest.run("cat", MAIN).stdout
    with watched(newest, "# BEGIN ssh-keepalive", edit) as process:
        said = unattended(newest, OTHER)
        process.communicate(timeout=40)
    assert said.code == 1
    text = newest.run("cat", MAIN).stdout
    assert "# theirs" in text
    if "is written" not in said.text:
        assert text == f"{before}# theirs\n"
        until(newest, "active")
    assert can_log_in(newest)
    assert json.dumps(status(newest).found)
