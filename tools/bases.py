"""The roots of freshly installed releases, built once and kept."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import signal
import subprocess
from pathlib import Path

import host
from releases import BACKPORTS, FOREIGN

# The packages of each init system; Debian's OpenRC is started by sysvinit's init.
INITS = {
    "systemd": "systemd,systemd-sysv,dbus,libpam-systemd",
    "sysvinit": "sysvinit-core",
    "openrc": "openrc,sysvinit-core",
}

MMDEBSTRAP = (
    "mmdebstrap",
    "--variant=apt",
    # The package indexes of an old release, or of a snapshot, may have passed their date.
    '--aptopt=Acquire::Check-Valid-Until "false"',
    '--aptopt=Acquire::Languages "none"',
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    # mount, passwd and locales are what the init system and cloud-init call without depending on them.
    "--include={init},mount,passwd,locales,iproute2,ca-certificates,openssh-server,openssh-client,cloud-init,python3",
)

# Shell scripts which mmdebstrap runs on the host, with the new root as $1.
BACKPORTED = r"""
set -e
cd "$1/etc/apt"
mkdir -p sources.list.d preferences.d
echo 'deb http://deb.debian.org/debian {suite} main' >sources.list.d/backports.list
printf 'Package: openssh-*\nPin: release n={suite}\nPin-Priority: 990\n' >preferences.d/backports
"""
CUSTOMIZE = r"""
set -e
cd "$1"
: >etc/machine-id
echo machine >etc/hostname
printf '127.0.0.1 localhost machine\n::1 localhost ip6-localhost\n' >etc/hosts
rm -f etc/resolv.conf
printf 'datasource_list: [ NoCloud, None ]\nlocale: C.UTF-8\n' >etc/cloud/cloud.cfg.d/90_machine.cfg

install -d -m 700 root/.ssh
chroot . ssh-keygen -q -t ed25519 -N '' -C machine -f /root/.ssh/id_ed25519
cp root/.ssh/id_ed25519.pub root/.ssh/authorized_keys
printf 'Host localhost 127.0.0.1 ::1\n  %s\n  %s\n  %s\n  %s\n' 'StrictHostKeyChecking no' \
    'UserKnownHostsFile /dev/null' 'LogLevel ERROR' 'BatchMode yes' >root/.ssh/config
chmod 600 root/.ssh/*
"""


def base(suite: str, init: str = "systemd", packages: tuple[str, ...] = (), announce: str = "") -> Path:
    """Return the root of a freshly installed release, built once and cached; never to be written to.

    If it is to be built, announce is printed, and then what mmdebstrap says.
    """
    command = _mmdebstrap(suite, init, packages)
    recipe = "\0".join((suite, *command, CUSTOMIZE))
    folder = host.cache("base", "-".join((suite, *((init,) if init != "systemd" else ()), *packages)))
    root = folder / hashlib.sha256(recipe.encode()).hexdigest()[:12]
    if not root.is_dir():
        if announce:
            print(announce.format(folder=folder), flush=True)
        with host.locked(folder):
            if not root.is_dir():  # another process may have built it while this one waited
                _build(suite, root, command, shown=bool(announce))
                for old in set(folder.iterdir()) - {root}:
                    _remove_base(old)
    return root


def _mmdebstrap(suite: str, init: str, packages: tuple[str, ...]) -> tuple[str, ...]:
    command = tuple(part.format(init=",".join((INITS[init], *packages))) for part in MMDEBSTRAP)
    if suite in BACKPORTS:
        return (*command, f"--setup-hook={BACKPORTED.format(suite=suite)}")
    return (*command, f"--architectures={suite.partition('-')[2]}") if suite in FOREIGN else command


def _build(suite: str, root: Path, command: tuple[str, ...], shown: bool) -> None:
    fresh = root.with_name(f"new-{root.name}")
    # Not each mirror has the security updates of other architectures.
    source = (f"deb http://deb.debian.org/debian {suite.partition('-')[0]} main",) if suite in FOREIGN else ()
    host.remove(fresh)
    process = subprocess.Popen(
        (*command, f"--customize-hook={CUSTOMIZE}", suite.partition("-")[0], fresh, *source),
        stdin=subprocess.DEVNULL,
        # On a terminal it draws progress bars.
        stdout=None if shown else subprocess.PIPE,
        stderr=None if shown else subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    try:
        stdout, _ = process.communicate()
        if process.returncode:
            raise host.MachineError(f"mmdebstrap could not build {suite}:\n{(stdout or '')[-8000:]}")
        fresh.rename(root)
    except BaseException:
        # As a terminal would: it waits for what it has started, and unmounts what it has mounted there.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        process.communicate()
        host.remove(fresh)
        raise


def _remove_base(root: Path) -> None:
    """Remove a base which an older recipe built, unless a machine uses it."""
    with contextlib.suppress(BlockingIOError), host.locked(root, fcntl.LOCK_EX | fcntl.LOCK_NB):
        host.remove(root)
