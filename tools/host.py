"""What machines take of this host, cache, mounts and cgroups, and how it gets that back."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("mmdebstrap", "systemd-nspawn", "nsenter", "mount", "umount")


class MachineError(AssertionError):
    """Something about a machine is not as it must be."""


@functools.lru_cache
def unavailable() -> str | None:
    """Say why machines cannot be booted here, or return None."""
    if os.geteuid() != 0:
        return "booting machines needs root"
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"booting machines needs {', '.join(missing)} (apt install mmdebstrap systemd-container)"
    if not cgroups():
        return "booting machines needs a cgroup hierarchy of systemd's in /sys/fs/cgroup"
    with tempfile.TemporaryDirectory() as folder:
        lower = Path(folder, "lower")
        scratch = Path(folder, "scratch")
        lower.mkdir()
        scratch.mkdir()
        try:
            mount_overlay(lower, scratch)
        except MachineError as error:
            return f"booting machines needs tmpfs and overlay mounts: {error}"
        finally:
            unmount(scratch)
    return None


def cache(*names: str) -> Path:
    """Return a folder of the cache, which is made if need be."""
    folder = Path(os.environ.get("SSH_KEEPALIVE_CACHE", "/var/cache/cloud-init-ssh-keepalive"), *names)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def locked(folder: Path, how: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Hold a lock on a folder; it ends with this process at the latest. BlockingIOError if how has LOCK_NB."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)


def remove(folder: Path) -> None:
    """Remove a folder, but nothing that is mounted in it."""
    if folder.exists():
        subprocess.run(("rm", "-rf", "--one-file-system", folder), check=True)


def _mount(*argv: str | Path) -> None:
    done = subprocess.run(("mount", *argv), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise MachineError(done.stdout.partition("\n")[0])


def mount_overlay(lower: Path, scratch: Path) -> Path:
    """Mount a writable view of lower, and return its path."""
    # A tmpfs is quick, holds an upper layer where the host itself runs on an overlay, and is gone with one umount.
    _mount("-t", "tmpfs", "-o", "mode=755", "machine", scratch)
    upper, work, root = scratch / "upper", scratch / "work", scratch / "root"
    for folder in (upper, work, root):
        folder.mkdir()
    _mount("-t", "overlay", "-o", f"lowerdir={lower},upperdir={upper},workdir={work}", "machine", root)
    return root


def unmount(scratch: Path) -> None:
    """Unmount scratch and all in it, if it is mounted."""
    for options in ((), ("--lazy",)):
        if os.path.ismount(scratch):
            subprocess.run(("umount", "--recursive", *options, scratch), stderr=subprocess.DEVNULL)


def cgroups() -> list[Path]:
    """Return the tops of systemd's cgroup hierarchies: unified, or version 2 and 1 side by side, or only version 1."""
    places = (Path("/sys/fs/cgroup", name) for name in ("", "unified", "systemd"))
    return [place for place in places if (place / "cgroup.procs").exists()]


def exhausted() -> str:
    """Say what of the host is used up, without which no systemd starts; inotify(7)."""
    descriptor = ctypes.CDLL(None).inotify_init()
    if descriptor < 0:
        limit = int(Path("/proc/sys/fs/inotify/max_user_instances").read_text())
        return f", all {limit} inotify instances are in use: sysctl fs.inotify.max_user_instances={8 * limit}"
    os.close(descriptor)
    return ""


def sweep() -> None:
    """Throw away the machines whose owner was killed."""
    for work in cache("run").glob("machine-*"):
        # One in use is locked; one which its owner throws away at this moment may be gone.
        with contextlib.suppress(BlockingIOError, FileNotFoundError), locked(work, fcntl.LOCK_EX | fcntl.LOCK_NB):
            discard(work)


def discard(work: Path) -> None:
    """Kill what runs of a machine, and remove all traces of it from the host."""
    for top in cgroups():
        _kill(top / work.name)
    unmount(work / "scratch")
    with contextlib.suppress(FileNotFoundError):
        (work / "scratch").rmdir()
    work.rmdir()
    # nspawn leaves this behind where /run is no tmpfs.
    with contextlib.suppress(OSError):
        Path("/run/systemd/nspawn/propagate", work.name).rmdir()


def _kill(cgroup: Path, timeout: float = 10) -> None:
    """Kill all processes of a cgroup, and remove it with its children; timeout in seconds."""
    deadline = time.monotonic() + timeout
    while cgroup.is_dir():
        for folder, _, _ in os.walk(cgroup, topdown=False):
            with contextlib.suppress(OSError):
                for pid in Path(folder, "cgroup.procs").read_text().split():
                    os.kill(int(pid), signal.SIGKILL)
            with contextlib.suppress(OSError):
                os.rmdir(folder)
        if time.monotonic() > deadline:
            raise MachineError(f"processes in {cgroup} cannot be killed")
        time.sleep(0.01)
