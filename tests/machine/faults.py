"""What can go wrong on a machine, one thing at a time, and what the module says then."""

from __future__ import annotations

from typing import NamedTuple

from baking import DROP_IN
from serving import FOLDER, MAIN

KEPT = None


def misbehaving(program: str, when: str, how: str) -> str:
    """Return a script that has a program misbehave where its arguments fit a pattern of the shell's."""
    # As a package replaces it: what runs goes on.
    return f"""\
cp -p {program} {program}.real
cat >{program}.new <<'WRAPPER'
#!/bin/sh
case " $* " in {when}) {how} ;; esac
exec {program}.real "$@"
WRAPPER
chmod 755 {program}.new
mv {program}.new {program}
"""


def sshd(when: str, how: str) -> str:
    return misbehaving("/usr/sbin/sshd", when, how)


def systemctl(when: str, how: str) -> str:
    return misbehaving("/usr/bin/systemctl", when, how)


IMMUTABLE = """\
python3 -B -c '
import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x40086602, struct.pack("l", 0x10))  # FS_IOC_SETFLAGS, FS_IMMUTABLE_FL
' {}
"""
NO_INCLUDE = f"sed -i /^Include/d {MAIN}\n"
SCHEMA = "/usr/lib/python3/dist-packages/ssh_keepalive/ssh-keepalive.schema.json"
READ_ONLY = "mount --bind /etc /etc; mount -o remount,bind,ro /etc\n"
# A file system of its own, with what was there
SMALL = "cp -a {0} /kept; mount -t tmpfs -o mode=755,{1} tmpfs {0}; cp -a /kept/. {0}; rm -r /kept\n"
FILL = "head -c 1M /dev/zero >{}/fill || true\n"


class Fault(NamedTuple):
    """A script that breaks the machine, and what the module says then (a regular expression), or KEPT."""

    script: str
    says: str | None
    section: str = "{client_alive_interval: 61}"
    environment: dict[str, str] = {}  # noqa: RUF012
    starts: bool = True  # whether sshd starts with the fault at all
    umask: str = "022"
    openssh: str | None = None  # the one version that it is about


TELLS = "sshd refuses its configuration: "
FAULTS = {
    # sshd
    "T-fails": Fault(sshd("*' -T '*", "echo no luck >&2; exit 1"), TELLS + "no luck"),
    "T-fails-silently": Fault(sshd("*' -T '*", "exit 3"), TELLS + "exit 3 without a word"),
    "T-crashes": Fault(sshd("*' -T '*", "kill -SEGV $$"), TELLS + "killed by SIGSEGV without a word"),
    "T-hangs": Fault(sshd("*' -T '*", "sleep 60"), "/usr/sbin/sshd (-G )?-T .* did not answer within 10.0 s"),
    "T-hangs-with-the-real-file-alone": Fault(
        sshd("*' -T '*' -f '*", 'exec /usr/sbin/sshd.real "$@" ;;\n*" -T "*) sleep 60'),
        "/usr/sbin/sshd (-G )?-T .* did not answer within 10.0 s",
    ),
    "T-prints-rubbish": Fault(
        sshd("*' -T '*", "head -c 100000 /dev/urandom; exit 0"),
        "sshd -T does not report ClientAliveInterval, 61 is expected: use an OpenSSH that does; .*",
    ),
    "T-prints-for-ever": Fault(sshd("*' -T '*", "exec yes"), "/usr/sbin/sshd (-G )?-T .* said more than 4 MB"),
    "T-fails-with-rubbish": Fault(sshd("*' -T '*", "head -c 100000 /dev/urandom >&2; exit 1"), TELLS + ".{1,400}"),
    "T-lies": Fault(
        sshd("*' -T '*", "echo ClientAliveInterval 5; echo ClientAliveCountMax 3; exit 0"),
        "ClientAliveInterval is 5 where 61 is expected, no line sets it: systemctl restart ssh.service",
    ),
    "V-hangs": Fault(sshd("*' -V '*", "sleep 60"), "/usr/sbin/sshd -V did not answer within 10.0 s"),
    "V-says-nothing": Fault(
        sshd("*' -V '*", "exit 1"), "/usr/sbin/sshd -V names no OpenSSH version: exit 1 without a word"
    ),
    "t-fails": Fault(
        sshd("*' -t '*", "echo no luck >&2; exit 1"),
        "sshd runs, but would not start again: no luck",
        starts=False,
    ),
    "t-hangs": Fault(sshd("*' -t '*", "sleep 60"), "/usr/sbin/sshd -t did not answer within 10.0 s", starts=False),
    "sshd-is-no-program": Fault(
        "cd /usr/sbin; echo rubbish >sshd.real; chmod 755 sshd.real; mv sshd.real sshd",
        "/usr/sbin/sshd: Exec format error",
        starts=False,
    ),
    "sshd-is-gone": Fault("rm /usr/sbin/sshd", "/usr/sbin/sshd is not on this machine .*", starts=False),
    # systemctl
    "show-fails": Fault(
        systemctl("*' show '*", "echo Failed to connect to bus >&2; exit 1"),
        "systemctl show does not say whether sshd runs: Failed to connect to bus",
    ),
    "show-hangs": Fault(systemctl("*' show '*", "sleep 60"), "systemctl .* did not answer within 10.0 s"),
    "try-restart-fails": Fault(
        systemctl("*' try-restart '*", "echo no luck >&2; exit 1"),
        "ssh.service was not restarted: no luck; the old configuration is restored, sshd is active",
    ),
    "try-restart-hangs": Fault(
        systemctl("*' try-restart '*", "sleep 60"),
        "systemctl .* try-restart ssh.service did not answer within 10.0 s; "
        "the old configuration is restored, sshd is active",
    ),
    "restart-leaves-sshd-dead": Fault(
        systemctl("*' try-restart '*", "/usr/bin/systemctl.real stop ssh; exit 0"),
        "after its restart ssh.service is inactive: .*; the old configuration is restored, sshd is active",
    ),
    "systemctl-is-gone": Fault("mv /usr/bin/systemctl /usr/bin/systemctl.real", "systemctl is not on this machine .*"),
    # The file system
    "folder-full": Fault(
        SMALL.format(FOLDER, "size=4k") + FILL.format(FOLDER), f"{FOLDER}/.*: No space left on device"
    ),
    "folder-without-inodes": Fault(SMALL.format(FOLDER, "nr_inodes=1"), f"{FOLDER}/.*: No space left on device"),
    "folder-with-one-inode": Fault(SMALL.format(FOLDER, "nr_inodes=2"), f"{FOLDER}/.*: No space left on device"),
    "etc-ssh-full": Fault(
        NO_INCLUDE + SMALL.format("/etc/ssh", "size=1m") + FILL.format("/etc/ssh"),
        "/etc/ssh/.*: No space left on device",
    ),
    "etc-ssh-without-inodes-for-a-block": Fault(
        NO_INCLUDE + f"rmdir {FOLDER}\n" + SMALL.format("/etc/ssh", "nr_inodes=$(find /etc/ssh | wc -l)"),
        "/etc/ssh/.*: No space left on device",
    ),
    "etc-read-only-with-the-policy-in-place": Fault("{apply}" + READ_ONLY, KEPT),
    "etc-read-only": Fault(READ_ONLY, f"{FOLDER}/.*: Read-only file system"),
    "folder-immutable": Fault(IMMUTABLE.format(FOLDER), f"{FOLDER}/.*: Operation not permitted"),
    "drop-in-immutable": Fault(
        f"echo >{DROP_IN}; " + IMMUTABLE.format(DROP_IN), f"{FOLDER}/.*: Operation not permitted"
    ),
    "main-immutable": Fault(NO_INCLUDE + IMMUTABLE.format(MAIN), "/etc/ssh/.*: Operation not permitted"),
    "main-mounted": Fault(
        NO_INCLUDE + f"mount --bind {MAIN} {MAIN}",
        f"{MAIN} is a mount of its own and cannot be replaced: "
        f"put 'Include {DROP_IN}' on its first line where it comes from",
    ),
    "drop-in-mounted": Fault(
        f"echo >{DROP_IN}; mount --bind {DROP_IN} {DROP_IN}",
        f"{DROP_IN} is a mount of its own and cannot be replaced: umount {DROP_IN}",
    ),
    "folder-missing": Fault(f"rmdir {FOLDER}", KEPT),
    "folder-is-a-file": Fault(f"rmdir {FOLDER}; echo >{FOLDER}", f"{FOLDER}.*: (File exists|Not a directory)"),
    "folder-is-a-dangling-link": Fault(
        f"rmdir {FOLDER}; ln -s /nowhere {FOLDER}",
        f"{FOLDER} is a link to /nowhere, which is not there: make that folder, or rm {FOLDER}",
    ),
    "folder-is-a-link": Fault(
        f"mkdir -p /elsewhere; rm -f /elsewhere/*; rmdir {FOLDER}; ln -s /elsewhere {FOLDER}", KEPT
    ),
    "drop-in-is-a-folder": Fault(f"mkdir {DROP_IN}", f"{DROP_IN}: is no regular file: move it away"),
    "drop-in-is-a-dangling-link": Fault(f"{{apply}}ln -sf /nowhere {DROP_IN}", KEPT),
    "drop-in-is-a-link-to-a-file": Fault(f"{{apply}}echo precious >/precious; ln -sf /precious {DROP_IN}", KEPT),
    "drop-in-is-a-link-to-null": Fault(f"ln -s /dev/null {DROP_IN}", KEPT),
    "drop-in-is-a-pipe": Fault(f"mkfifo {DROP_IN}", f"{DROP_IN}: is no regular file: move it away", starts=False),
    "aside-is-a-folder": Fault(f"mkdir {FOLDER}/.00-ssh-keepalive.conf.new", f"{FOLDER}/.*: Is a directory"),
    "aside-is-a-link": Fault(f"ln -s /precious {FOLDER}/.00-ssh-keepalive.conf.new", KEPT),
    "profile-missing": Fault(
        "rm -r /etc/profile.d",
        "/etc/profile.d is not there: mkdir /etc/profile.d",
        "{idle_timeout: 15m, idle_fallback: tmout}",
        openssh="8.4",
    ),
    # sshd's own configuration
    "no-include": Fault(NO_INCLUDE, KEPT),
    "no-include-and-no-folder": Fault(NO_INCLUDE + f"rmdir {FOLDER}", KEPT),
    "conditional-include": Fault(
        NO_INCLUDE + f"printf 'Match User nobody\\nInclude {FOLDER}/*.conf\\n' >>{MAIN}", KEPT
    ),
    "crlf": Fault(f"sed -i 's/$/\\r/' {MAIN}", KEPT),
    "crlf-without-include": Fault(NO_INCLUDE + f"sed -i 's/$/\\r/' {MAIN}", KEPT),
    "bytes-that-are-no-text": Fault(NO_INCLUDE + f"printf '# \\377\\376\\n' >>{MAIN}", KEPT),
    "main-is-empty": Fault(f": >{MAIN}", KEPT),
    "main-is-a-link": Fault(
        f"{NO_INCLUDE}mkdir -p /site; mv {MAIN} /site/sshd_config; ln -s /site/sshd_config {MAIN}", KEPT
    ),
    "main-is-a-link-to-null": Fault(f"ln -sf /dev/null {MAIN}", f"{MAIN}: is no regular file: move it away"),
    "main-is-a-dangling-link": Fault(
        f"ln -sf /nowhere {MAIN}", TELLS + f"{MAIN}: No such file or directory", starts=False
    ),
    "main-is-a-folder": Fault(f"rm {MAIN}; mkdir {MAIN}", f"{MAIN}: is no regular file: move it away", starts=False),
    "main-missing": Fault(f"rm {MAIN}", TELLS + f"{MAIN}: No such file or directory", starts=False),
    "bom": Fault(
        f"sed -i '1s/^/\\xef\\xbb\\xbf/; 1s/#/UsePAM yes #/' {MAIN}", TELLS + f".*{MAIN}.* line 1: .*", starts=False
    ),
    "nul-bytes": Fault(f"head -c 100 /dev/zero >>{MAIN}", KEPT),
    "main-without-rights": Fault(f"chmod 000 {MAIN}", KEPT),
    "a-broken-drop-in": Fault(
        f"echo 'NoSuchKeyword yes' >{FOLDER}/50-b.conf",
        f".*{FOLDER}/50-b.conf: line 1: .*NoSuchKeyword.*",
        starts=False,
    ),
    "a-drop-in-that-wins": Fault(
        f"echo 'ClientAliveInterval 7' >{FOLDER}/00-a.conf",
        f"ClientAliveInterval is 7 where 61 is expected, {FOLDER}/00-a.conf:1 overrides it: "
        "remove that line and restart sshd",
    ),
    "a-drop-in-that-is-a-folder": Fault(f"mkdir {FOLDER}/50-b.conf", KEPT),
    "no-host-keys": Fault(
        "rm /etc/ssh/ssh_host_*", "sshd runs, but would not start again: .*no hostkeys available.*", starts=False
    ),
    "no-host-keys-and-no-ssh-keygen": Fault(
        "rm /etc/ssh/ssh_host_*; mv /usr/bin/ssh-keygen /usr/bin/ssh-keygen.real",
        "ssh-keygen is not on this machine .*",
        starts=False,
    ),
    "no-run-sshd": Fault("rmdir /run/sshd", KEPT),
    "run-sshd-open-to-all": Fault(
        "mkdir -p /run/sshd; chmod 777 /run/sshd", TELLS + ".*/run/sshd must be owned by root .*", starts=False
    ),
    # The surroundings
    "turkish": Fault("", KEPT, environment={"LC_ALL": "tr_TR.ISO-8859-9", "LANG": "tr_TR.ISO-8859-9"}),
    "no-locale": Fault(
        "", KEPT, environment={"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ),
    "no-tmp": Fault("", KEPT, environment={"TMPDIR": "/nowhere"}),
    "lock-of-a-user": Fault(
        "setpriv --reuid 65534 --clear-groups flock /etc/ssh sleep 30 >/dev/null 2>&1 & sleep 0.2", KEPT
    ),
    "schema-missing": Fault(f"rm {SCHEMA}", f"{SCHEMA}: No such file or directory, install the module again"),
    "schema-empty": Fault(f": >{SCHEMA}", f"{SCHEMA}: damaged: Expecting value: .*, install the module again"),
    "schema-is-no-text": Fault(f"printf '\\377' >{SCHEMA}", f"{SCHEMA}: damaged: .*, install the module again"),
    "no-jsonschema": Fault(
        "mv /usr/lib/python3/dist-packages/jsonschema /",
        "No module named 'jsonschema': install jsonschema for /usr/bin/python3",
    ),
    "drop-in-cut-off": Fault(f"{{apply}}printf 'ClientAliveInt' >{DROP_IN}", KEPT),
    "drop-in-of-zeros": Fault(f"{{apply}}head -c 4096 /dev/zero >{DROP_IN}", KEPT),
    "drop-in-of-rubbish": Fault(f"{{apply}}head -c 4096 /dev/urandom >{DROP_IN}", KEPT),
    "umask-000": Fault("", KEPT, umask="000"),
    "umask-777": Fault(f"rmdir {FOLDER}", KEPT, umask="777"),
    "umask-777-block": Fault(NO_INCLUDE, KEPT, umask="777"),
    "wrong-clock": Fault("touch -d 2099-01-01 /etc/ssh/sshd_config /etc/ssh/sshd_config.d", KEPT),
}
