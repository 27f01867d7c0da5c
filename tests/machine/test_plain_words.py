"""What is rare is told in plain words, with a remedy that works."""

from __future__ import annotations

import time
from typing import NamedTuple

import pytest
from baking import DROP_IN
from machine import Machine
from serving import (
    FOLDER,
    MAIN,
    SECTION,
    apply,
    as_it_was,
    can_log_in,
    has_read,
    listener,
    run,
    status,
    unattended,
    until_it_listens,
)

OTHER = "{client_alive_interval: 62}"


class Remedy(NamedTuple):
    """What is in the way, a part of the words that tell it, and what the remedy says to do (None: nothing is)."""

    script: str
    says: str
    remedy: str
    section: str = OTHER


INCLUDES = "".join(f"echo 'Include /etc/ssh/deep/{level + 1}' >/etc/ssh/deep/{level}; " for level in range(1, 15))
REMEDIES = {
    "a folder that is a dangling link": Remedy(
        f"rm -r {FOLDER}; ln -s /srv/nowhere {FOLDER}", f"{FOLDER} is a link to /srv/nowhere", "mkdir /srv/nowhere"
    ),
    "the same, taken away": Remedy(f"rm -r {FOLDER}; ln -s /srv/nowhere {FOLDER}", f"rm {FOLDER}", f"rm {FOLDER}"),
    "a main file that is mounted": Remedy(
        f"sed -i /^Include/d {MAIN}; cp {MAIN} /srv/main; mount --bind /srv/main {MAIN}",
        f"{MAIN} is a mount",
        f"sed -i '1iInclude {DROP_IN}' /srv/main; umount {MAIN}; mount --bind /srv/main {MAIN}",
    ),
    "no folder of profiles": Remedy(
        "rm -r /etc/profile.d",
        "/etc/profile.d is not there",
        "mkdir /etc/profile.d",
        "{idle_timeout: 15m, idle_fallback: tmout}",
    ),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in REMEDIES])
def test_the_remedy_works(oldest: Machine, name: str) -> None:
    fault = REMEDIES[name]
    oldest.sh("rm -rf /srv/*")
    as_it_was(oldest)
    oldest.sh(fault.script + "; systemctl restart ssh")
    said = unattended(oldest, fault.section)
    assert said.code == 1
    assert fault.says in said.text
    assert "Errno" not in said.text
    oldest.sh(fault.remedy + "; systemctl restart ssh")
    said = apply(oldest, fault.section)
    assert said.code == 0, said
    found = status(oldest)
    assert found.code == 0, found.problems


@pytest.mark.slow
def test_includes_that_are_fifteen_deep(oldest: Machine) -> None:
    as_it_was(oldest)
    oldest.sh(f"mkdir /etc/ssh/deep; {INCLUDES} echo 'MaxAuthTries 5' >/etc/ssh/deep/15")
    oldest.sh(f"sed -i '1iInclude /etc/ssh/deep/1' {MAIN}; sshd -t; systemctl restart ssh; sleep 0.1")
    said = unattended(oldest, OTHER)
    assert said.code == 0, said
    assert has_read(oldest, "ClientAliveInterval 62")
    assert status(oldest).code == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["root@127.0.0.1", "root@10.*", "'*@10.0.0.1'"])
def test_a_user_with_an_address_is_no_user(oldest: Machine, name: str) -> None:
    as_it_was(oldest)
    said = apply(oldest, f"{{client_alive_interval: 61, match: [{{user: {name}, client_alive_interval: 55}}]}}")
    # sshd compares names alone; AllowUsers is what takes addresses.
    assert said.code == 1 or "@" in said.text.replace(name.strip("'"), "", 1)
    assert "address" in said.text


@pytest.mark.slow
@pytest.mark.parametrize("run_too", [True, False])
def test_in_a_chroot(oldest: Machine, run_too: bool) -> None:
    as_it_was(oldest)
    before = listener(oldest)
    # With systemd's folder in it, and without; what is mounted is gone with the command.
    mounts = "mkdir -p /srv/root; mount --bind / /srv/root; mount --bind /proc /srv/root/proc"
    mounts += "; mount --rbind /run /srv/root/run" if run_too else ""
    script = f"{mounts}; exec chroot /srv/root ssh-keepalive apply -"
    text = f"#cloud-config\nssh_keepalive: {OTHER}\n"
    said = run(oldest, "unshare", "--mount", "--propagation", "private", "sh", "-ec", script, input=text)
    enforced = has_read(oldest, "ClientAliveInterval 62")
    assert (said.code == 0) == enforced, said
    assert "sshd restarted" not in said.text or listener(oldest) != before
    assert can_log_in(oldest)


def test_no_pid_file(oldest: Machine) -> None:
    as_it_was(oldest)
    oldest.sh(f"echo 'PidFile none' >>{MAIN}; systemctl restart ssh; sleep 0.2; cd /tmp; rm -f none; mkfifo none")
    answer = oldest.sh("cd /tmp; exec timeout 30 ssh-keepalive status", check=False)
    assert answer.returncode == 0, answer.stdout
    said = oldest.sh(
        f"cd /tmp; echo 'ssh_keepalive: {OTHER}' | sed '1i#cloud-config' | timeout 60 ssh-keepalive apply -"
    )
    assert "sshd restarted" in said.stdout
    assert has_read(oldest, "ClientAliveInterval 62")
    oldest.sh("rm /tmp/none")


@pytest.mark.slow
def test_a_pid_file_that_is_a_pipe(oldest: Machine) -> None:
    as_it_was(oldest)
    oldest.sh("rm /run/sshd.pid; mkfifo /run/sshd.pid")
    try:
        assert oldest.run("ssh-keepalive", "status", check=False, timeout=30).returncode in (0, 2)
        start = time.monotonic()
        unattended(oldest, SECTION)
        assert time.monotonic() - start < 20
    finally:
        oldest.sh("rm -f /run/sshd.pid")


TITLES = [
    "sshd: /usr/sbin/sshd -D -o ClientAliveInterval=7 [listener] 0 of 10-100 startups",
    "sshd: /usr/sbin/sshd -f /home/debian/x [listener] 0 of 10-100 startups",
    "/usr/sbin/sshd -D -f /tmp/x",
]
LISTEN = "import socket, time; s = socket.socket(); s.bind(('127.0.0.1', 3333)); s.listen(); time.sleep(300)"


@pytest.mark.slow
@pytest.mark.parametrize("title", TITLES)
def test_somebody_who_looks_like_sshd(oldest: Machine, title: str) -> None:
    as_it_was(oldest)
    before = status(oldest)
    command = f'exec setpriv --reuid 65534 --clear-groups bash -c \'exec -a "$0" python3 -c "$1"\' "{title}" "{LISTEN}"'
    process = oldest.popen("sh", "-c", command)
    try:
        until_it_listens(oldest, 3333)
        found = status(oldest)
        assert (found.code, found.found["servers"]) == (0, before.found["servers"]), found.problems
        assert "sshd restarted" in unattended(oldest, OTHER).text
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_a_users_own_sshd(oldest: Machine) -> None:
    as_it_was(oldest)
    before = status(oldest)
    home = "/var/tmp/own"
    oldest.sh(f"rm -rf {home}; mkdir {home}; ssh-keygen -q -t ed25519 -N '' -f {home}/key; chown -R 65534 {home}")
    oldest.sh(
        f"setpriv --reuid 65534 --regid 65534 --clear-groups /usr/sbin/sshd -f /dev/null -h {home}/key -p 3333 "
        f"-o PidFile={home}/pid -o UsePAM=no; sleep 0.2"
    )
    try:
        assert listener(oldest, 3333)
        found = status(oldest)
        assert found.code == 0, found.problems
        assert found.server(unit="ssh.service")["pid"] == before.server(unit="ssh.service")["pid"]
    finally:
        oldest.run("kill", str(listener(oldest, 3333)))


ALIASES = "#cloud-config\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
ALIASES += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9))


@pytest.mark.slow
@pytest.mark.parametrize("section", ["*a8", "{match: *a8}", "{client_alive_interval: 61, match: [{user: *a8}]}"])
def test_user_data_with_aliases(oldest: Machine, section: str) -> None:
    as_it_was(oldest)
    oldest.sh("cp -p /var/lib/cloud/instance/cloud-config.txt /cloud-config")
    text = f"{ALIASES}ssh_keepalive: {section}\n"
    oldest.run("tee", "/var/lib/cloud/instance/cloud-config.txt", "/var/lib/cloud/instance/user-data.txt", input=text)
    try:
        for words in ("", " --json"):
            script = f"ulimit -v 400000; exec timeout 30 ssh-keepalive status{words}"
            answer = oldest.sh(script, check=False, timeout=40)
            assert answer.returncode in (0, 1, 2), answer.stderr
            assert "MemoryError" not in answer.stderr + answer.stdout
            assert len(answer.stdout) < 100_000
    finally:
        oldest.sh("cp -p /cloud-config /var/lib/cloud/instance/cloud-config.txt")
        oldest.sh("cp -p /cloud-config /var/lib/cloud/instance/user-data.txt")


def test_many_applies_in_a_row(oldest: Machine) -> None:
    as_it_was(oldest)
    for number in range(70, 78):
        said = apply(oldest, f"{{client_alive_interval: {number}}}")
        assert (said.code, "sshd restarted" in said.text) == (0, True), said
    assert has_read(oldest, "ClientAliveInterval 77")
    assert can_log_in(oldest)


def test_a_failure_that_was_there_before_is_not_hidden(oldest: Machine) -> None:
    as_it_was(oldest)
    folder = "/etc/systemd/system/ssh.service.d"
    fails = f"mkdir -p {folder}; printf '[Service]\\nExecStartPre=/bin/false\\n' >{folder}/x.conf; "
    oldest.sh(fails + "systemctl daemon-reload; systemctl restart ssh || true")
    oldest.sh("for i in $(seq 100); do systemctl is-failed -q ssh && exit; sleep 0.1; done; exit 1")
    for do in (unattended, apply):
        do(oldest, OTHER)
        assert oldest.run("systemctl", "is-failed", "ssh").stdout == "failed\n"
    found = status(oldest)
    assert found.code == 1
    assert "ssh.service has failed" in found.problems


@pytest.mark.parametrize("unit", ["CapabilityBoundingSet=~CAP_SYS_PTRACE", "PrivateUsers=yes"])
def test_what_may_not_look_at_sshd_says_so(oldest: Machine, unit: str) -> None:
    """As a unit of monitoring's may, which runs as root."""
    as_it_was(oldest)
    text = oldest.run("cat", DROP_IN).stdout
    (oldest.root / "srv/u").write_text("#cloud-config\nssh_keepalive: {client_alive_interval: 62}\n")
    for command in ("status", "apply /srv/u"):
        as_unit = ("systemd-run", "--quiet", "--wait", "--pipe", "-p", unit, "ssh-keepalive", *command.split())
        said = run(oldest, *as_unit)
        assert (said.code, "CAP_SYS_PTRACE" in said.text, "restart" in said.text) == (2, True, False), said
    assert oldest.run("cat", DROP_IN).stdout == text
