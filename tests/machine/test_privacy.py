"""Who may read and write what the module leaves on a machine, whom it believes, and what it gives away."""

from __future__ import annotations

import concurrent.futures
import re
from collections.abc import Iterator

import pytest
from baking import DROP_IN, bake, effective
from machine import Machine
from serving import FOLDER, MAIN
from test_interruptions import bring_strace, strace

PROFILE = "/etc/profile.d/zz-ssh-keepalive.sh"
IDLE = "{client_alive_interval: 61, idle_timeout: 15m, idle_fallback: tmout}"
NO_INCLUDE = f"sed -i /^Include/d {MAIN}\n"
# Without cloud-init, for what it does not bear itself
APPLY = """\
import yaml
from ssh_keepalive import policy
from ssh_keepalive.machine.apply import apply
from ssh_keepalive.machine.host import Host
print(apply(policy.parse(yaml.safe_load({!r})), Host()))
"""


# The one release whose sshd has no ChannelTimeout, so that there are all three files.
@pytest.fixture(scope="module")
def booted() -> Iterator[Machine]:
    with Machine("bullseye") as machine:
        bake(machine)
        machine.boot()
        machine.wait()
        machine.sh("cp -a /etc/ssh /etc/profile.d /root/")
        yield machine


@pytest.fixture
def clean(booted: Machine) -> Iterator[Machine]:
    booted.sh("rm -rf /etc/ssh /etc/profile.d; cp -a /root/ssh /root/profile.d /etc")
    booted.sh("systemctl reset-failed ssh; systemctl restart ssh")
    yield booted
    assert booted.run("ssh", "localhost", "whoami").stdout == "root\n"


def modes(machine: Machine, *files: str) -> list[str]:
    return machine.run("stat", "-c", "%a %U:%G", *files).stdout.splitlines()


def apply(machine: Machine, section: str, before: str = "", redirections: str = "", **options: bool) -> str:
    script = f'{before}\nexec /usr/bin/python3 -c "$0" {redirections}'
    return machine.run("sh", "-ec", script, APPLY.format(section), **options).stdout


@pytest.mark.parametrize("umask", ["000", "077", "777"])
def test_modes_and_owners_are_the_same_whatever_the_umask(clean: Machine, umask: str) -> None:
    clean.sh(f"rmdir {FOLDER}; rm -rf /run/ssh-keepalive.lock; systemctl stop ssh; rm -rf /run/sshd")
    apply(clean, IDLE, f"umask {umask}")
    files = (FOLDER, DROP_IN, PROFILE, "/run/sshd")
    assert modes(clean, *files) == ["755 root:root", "600 root:root", "644 root:root", "755 root:root"]
    assert int(modes(clean, "/run/ssh-keepalive.lock")[0].split()[0], 8) & 0o077 == 0
    clean.run("systemctl", "start", "ssh")


@pytest.mark.parametrize("umask", ["000", "077", "777"])
def test_the_main_file_keeps_its_own(clean: Machine, umask: str) -> None:
    clean.sh(NO_INCLUDE + f"chmod 640 {MAIN}; chown root:adm {MAIN}; systemctl restart ssh")
    apply(clean, IDLE, f"umask {umask}")
    assert clean.run("cat", MAIN).stdout.startswith(f"# BEGIN ssh-keepalive\nInclude {DROP_IN}\n")
    assert modes(clean, MAIN) == ["640 root:adm"]
    apply(clean, "false", f"umask {umask}")
    assert modes(clean, MAIN) == ["640 root:adm"]


@pytest.mark.parametrize("file", [DROP_IN, PROFILE])
@pytest.mark.parametrize("spoil", ["chmod 666 {0}", "chown nobody {0}", "chgrp adm {0}", "mv {0} /x; ln -sf /x {0}"])
def test_the_right_text_in_other_hands_is_taken_back(clean: Machine, file: str, spoil: str) -> None:
    apply(clean, IDLE)
    before = modes(clean, file), clean.run("cat", file).stdout
    clean.sh(spoil.format(file))
    assert f"{DROP_IN} changed" in apply(clean, IDLE)
    assert (modes(clean, file), clean.run("cat", file).stdout) == before
    clean.sh(f"test ! -L {file}")
    assert f"{DROP_IN} unchanged" in apply(clean, IDLE)


def test_all_that_is_written_gets_its_label(clean: Machine) -> None:
    clean.sh(
        f"""rmdir {FOLDER}; systemctl stop ssh; rm -rf /run/sshd
        printf '#!/bin/sh\\necho "$@" >>/labelled\\n' >/usr/sbin/restorecon; chmod 755 /usr/sbin/restorecon"""
    )
    apply(clean, IDLE)
    clean.sh(f"cp -a /root/ssh/sshd_config {MAIN}; rm {DROP_IN}; {NO_INCLUDE}")
    apply(clean, IDLE)
    labelled = set(clean.run("cat", "/labelled").stdout.split())
    clean.sh("rm /usr/sbin/restorecon /labelled; systemctl start ssh")
    assert labelled == {FOLDER, DROP_IN, PROFILE, MAIN, "/run/sshd"}


def test_the_first_program_of_that_name_is_not_run(clean: Machine) -> None:
    programs = ("sshd", "systemctl", "ssh-keygen", "restorecon", "service", "rc-service", "sh")
    clean.sh("mkdir -p /evil; systemctl stop ssh; rm -rf /run/sshd; mkdir /keys; mv /etc/ssh/ssh_host_* /keys")
    for program in programs:
        clean.sh(f"printf '#!/bin/cat\\nevil\\n' >/evil/{program}; chmod 755 /evil/{program}")
    apply(clean, IDLE, "export PATH=/evil:$PATH LD_LIBRARY_PATH=/evil BASH_ENV=/evil/sh ENV=/evil/sh")
    apply(clean, "{client_alive_interval: 62}", "cd /evil; export PATH=")
    clean.sh("mv /keys/* /etc/ssh; rm -r /keys /evil; systemctl start ssh")
    assert effective(clean)["clientaliveinterval"] == "62"


def test_no_shell_comes_in_between(clean: Machine) -> None:
    bring_strace(clean)
    options = ("-f", "-o", "/trace", "-e", "trace=execve")
    section = {"client_alive_interval": 63, "match": [{"group": "adm", "client_alive_interval": 64}]}
    assert strace(clean, section, *options).returncode == 0
    programs = re.findall(r'execve\("([^"]+)".* = 0$', clean.run("cat", "/trace").stdout, re.MULTILINE)
    assert set(programs) == {"/usr/bin/python3", "/usr/sbin/sshd", "/bin/systemctl"}


def test_nothing_is_written_through_a_link_that_was_there_before(clean: Machine) -> None:
    names = [".00-ssh-keepalive.conf." + purpose for purpose in ("new", "main", "old", "key", "key.pub")]
    places = [f"{FOLDER}/{name}" for name in names]
    places += [f"/etc/ssh/.00-ssh-keepalive.conf.main.{purpose}" for purpose in ("new", "old", "key", "key.pub")]
    places += [f"/etc/profile.d/.zz-ssh-keepalive.sh.{purpose}" for purpose in ("new", "old")]
    clean.sh("echo precious >/precious; mkdir /keys; mv /etc/ssh/ssh_host_* /keys; systemctl stop ssh")
    clean.sh("".join(f"ln -s /precious {place}\n" for place in (*places, DROP_IN, PROFILE)))
    before = clean.sh("ls -A /tmp /var/tmp").stdout
    apply(clean, IDLE)
    assert clean.run("cat", "/precious").stdout == "precious\n"
    clean.sh("".join(f"test ! -L {place}\n" for place in (*places, DROP_IN, PROFILE)))
    assert clean.sh("ls -A /tmp /var/tmp").stdout == before
    clean.sh("mv /keys/* /etc/ssh; rmdir /keys; systemctl start ssh")


def test_nobody_else_can_hold_the_lock(clean: Machine) -> None:
    apply(clean, IDLE)
    user = "setpriv --reuid 65534 --regid 65534 --clear-groups "
    answer = clean.sh(user + "flock --nonblock /run/ssh-keepalive.lock true", check=False)
    assert "Permission denied" in answer.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full 2>/dev/full"])
def test_closed_streams_are_nobodys_files(clean: Machine, closed: str) -> None:
    apply(clean, IDLE, redirections=closed, check=False)
    assert effective(clean)["clientaliveinterval"] == "61"
    assert clean.run("head", "-n", "1", DROP_IN).stdout.startswith("# Managed by cloud-init's cc_ssh_keepalive")
    texts = clean.sh(f"cat {DROP_IN} {PROFILE}").stdout
    assert apply(clean, IDLE).endswith(" unchanged\n")
    assert clean.sh(f"cat {DROP_IN} {PROFILE}").stdout == texts


# systemd starts nothing more often than five times in ten seconds, and nobody waits for nine others on a busy machine.
TOLD = "SshdError: (after its restart ssh.service is |another run holds /run/ssh-keepalive.lock for too long$)"


@pytest.mark.parametrize("same", [True, False], ids=["the-same", "others"])
def test_ten_runs_at_once(clean: Machine, same: bool) -> None:
    sections = [f"{{client_alive_interval: {70 if same else 70 + number}}}" for number in range(10)]
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        ends = list(pool.map(lambda section: clean.run("python3", "-c", APPLY.format(section), check=False), sections))
    assert clean.run("systemctl", "is-active", "ssh").stdout == "active\n"
    changed = [end for end in ends if end.stdout.endswith("changed, sshd restarted\n")]
    if same:
        assert (len(changed), [end.returncode for end in ends]) == (1, [0] * 10)
    for end in ends:
        assert end.stdout.startswith("ssh_keepalive: ") or re.search(TOLD, end.stderr), end
    kept = [section for section, end in zip(sections, ends) if end.returncode == 0]
    assert "{{client_alive_interval: {}}}".format(effective(clean)["clientaliveinterval"]) in kept
    assert clean.run("ls", "-A", FOLDER).stdout == "00-ssh-keepalive.conf\n"


SECRETS = ("hunter2hunter2", "AAAAC3NzaSECRET", "tokentokentoken", "misplaced-secret", "nested-secret")
USER_DATA = f"""\
#cloud-config
password: {SECRETS[0]}
chpasswd: {{expire: false}}
write_files:
  - {{path: /root/token, content: {SECRETS[2]}}}
ssh_authorized_keys: [ssh-ed25519 {SECRETS[1]}]
ssh_keepalive:
  unresponsive_timeout: 10s
  misplaced: {SECRETS[3]}
  chpasswd:
    list: [root:{SECRETS[4]}]
"""


def test_what_is_not_ours_is_not_said(oldest_or_newest: str) -> None:
    with Machine(oldest_or_newest, USER_DATA) as machine:
        bake(machine)
        machine.boot()
        machine.wait()
        status = machine.run("cloud-init", "status", "--long", check=False).stdout
        result = machine.run("cat", "/run/cloud-init/result.json").stdout
        assert "expected a time from 15s to 1d" in result
        log = machine.run("cat", "/var/log/cloud-init.log").stdout
        ours = "".join(line for line in log.splitlines(True) if "ssh_keepalive" in line)
        # Others of cloud-init's files there hold all user-data, and are root's alone.
        said = machine.sh("cat /run/cloud-init/status.json; journalctl -b -t sshd -t python3").stdout
        assert not [secret for secret in SECRETS if secret in status + result + ours + said]
