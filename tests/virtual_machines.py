"""Virtual machines with a kernel of their own, which qemu boots from a disk without partitions."""

from __future__ import annotations

import contextlib
import fcntl
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


def disk_of(root: Path, disk: Path) -> Path:
    """Make a disk of a root."""
    subprocess.run(("mke2fs", "-q", "-t", "ext4", "-d", root, disk, "4G"), check=True)
    return disk


def unhurried(root: Path) -> None:
    """Lift the time limit of both our units: without a processor's help Python takes long to start."""
    folder = root / "etc/systemd/system/ssh-keepalive-.service.d"
    folder.mkdir()
    (folder / "slow.conf").write_text("[Service]\nTimeoutStartSec=infinity\n")


@contextlib.contextmanager
def turn() -> Iterator[None]:
    """Wait until fewer than two others run, whichever worker has them: each takes as many processors as it gets."""
    with contextlib.ExitStack() as stack:
        places = [Path(tempfile.gettempdir(), f"virtual-machine-{number}") for number in (1, 2)]
        locks = [stack.enter_context(place.open("w")) for place in places]
        while not any(map(_locks, locks)):
            time.sleep(1)
        yield


def _locks(stream: IO[str]) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def mounted(disk: Path, folder: Path, option: str = "ro") -> Iterator[Path]:
    """Mount a disk on a new folder."""
    folder.mkdir()
    subprocess.run(("mount", "--options", f"loop,{option}", disk, folder), check=True)
    try:
        yield folder
    finally:
        subprocess.run(("umount", folder), check=True)


def boot(root: Path, disk: Path, *options: str, kernel: str = "", inside: tuple[str, ...] = ()) -> str:
    """Boot a disk with the kernel of its root until it switches itself off; return what its console says.

    Options are qemu's, inside is a command that runs it.
    """
    qemu = (
        *("qemu-system-x86_64", "-accel", "tcg", "-machine", "q35", "-cpu", "max", "-smp", "2", "-m", "1G"),
        *("-nographic", "-no-reboot", "-kernel", root / "vmlinuz", "-initrd", root / "initrd.img"),
        *("-append", f"root=/dev/vda rw console=ttyS0 {kernel}"),
        *("-drive", f"file={disk},format=raw,if=virtio,cache=unsafe"),
    )
    streams: Any = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE}
    with turn():
        done = subprocess.run((*inside, *qemu, *options), timeout=600, check=True, **streams)
    return done.stdout.decode(errors="replace")


def read(disk: Path, path: str) -> str:
    """Return what a file on a disk holds, nothing if it is not there."""
    return subprocess.run(("debugfs", "-R", f"cat {path}", disk), stdout=subprocess.PIPE, text=True, check=True).stdout
