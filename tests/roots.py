"""The roots of machines that are not booted: what is in them, and what apt and others do to them."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
from pathlib import Path

SCHEMA = "usr/lib/python3/dist-packages/cloudinit/config/schemas/schema-cloud-config-v1.json"
ORIGINAL = SCHEMA + ".ssh-keepalive-original"

# What a boot may write for itself: state, logs, host keys, users.
OURS = ("usr", "etc/cloud", "etc/ssh/sshd_config", "etc/ssh/sshd_config.d")


def tree(root: Path, folders: tuple[str, ...] = ("",)) -> dict[str, tuple[object, ...]]:
    """Return kind, mode, owner and content of all that is in some folders of a root."""
    found = {}
    for top in folders:
        paths = [root / top]
        for folder, names, files in os.walk(root / top):
            paths += [Path(folder, name) for name in names + files]
        for path in paths:
            status = path.lstat()
            content = None
            if stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(status.st_mode):
                content = hashlib.sha256(path.read_bytes()).hexdigest()
            found[str(path.relative_to(root))] = (stat.filemode(status.st_mode), status.st_uid, status.st_gid, content)
    return found


def chroot(root: Path, script: str) -> str:
    """Run a shell script in a root that is not booted, as image builds do; return what it prints."""
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        ("chroot", root, "sh", "-ec", script),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def apt(sources: tuple[str, ...], *command: str) -> str:
    """Return a call of apt-get, which takes packages from these releases, the first one's if need be."""
    options = ("Dir::Etc::SourceList=/srv/sources", "Dir::Etc::SourceParts=-", f"APT::Default-Release={sources[0]}")
    return " ".join(("apt-get -qy --no-install-recommends -o", " -o ".join(options), *command))


def fetch(root: Path, sources: tuple[str, ...], *wanted: str) -> None:
    """Have a machine's apt download packages, with what they need, before its boot: it has no network then."""
    lists = "".join(f"deb http://deb.debian.org/debian {source} main\n" for source in sources)
    (root / "srv/sources").write_text(lists)
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    chroot(root, f"{apt(sources, 'update')}; {apt(sources, '--download-only install', *wanted)}")
    (root / "etc/resolv.conf").unlink()
