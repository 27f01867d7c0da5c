"""The roots of machines that are not booted: what is in them, and what apt and others do to them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
import subprocess
from pathlib import Path

import yaml
from images import SCHEMA

# What a boot may write for itself: state, logs, host keys, users.
OURS = ("usr", "etc/cloud", "etc/ssh/sshd_config", "etc/ssh/sshd_config.d")

# What installers keep for themselves, and what every start of sshd makes.
RECORDS = (
    "var/lib/dpkg/",
    "var/lib/rpm",
    "var/lib/dnf",
    "var/lib/zypp",
    "var/adm",
    "var/log/",
    "var/cache/",
    "run/sshd",
)


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


def restored(root: Path, before: dict[str, tuple[object, ...]]) -> None:
    """Assert that a root's tree is as it was, but for the installers' records."""

    now = tree(root)
    paths = [path for path in {**before, **now} if not path.startswith(RECORDS)]
    changed = [(path, before.get(path), now.get(path)) for path in paths if before.get(path) != now.get(path)]
    assert changed == [], changed
    with contextlib.suppress(FileNotFoundError):
        assert "cloud-init-ssh-keepalive" not in (root / "var/lib/dpkg/diversions").read_text()


def modules(root: Path, file: str) -> list[object]:
    """Return the list of modules in a file."""
    found: list[object] = yaml.safe_load((root / file).read_text())["cloud_init_modules"]
    return found


def knows_the_key(root: Path, schema: str = SCHEMA) -> bool:
    return "cc_ssh_keepalive" in json.loads((root / schema).read_text())["$defs"]


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
