# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The root of an image, out of which no path leads."""

import contextlib
import errno
import os
import shlex
import shutil
import stat
from typing import Iterable, Iterator, List


class ImageError(Exception):
    """Say why the module cannot be put into an image, or taken out; nothing was changed."""


def is_this_machine(root: str) -> bool:
    """Return whether a root is that of this machine."""
    # An empty name would be the folder that we happen to be in.
    return root != "" and os.path.realpath(root) == "/"


def option(root: str) -> str:
    """Return what a command that is typed needs to be about a root: " --root DIR", "" for this machine."""
    return "" if is_this_machine(root) else f" --root {shlex.quote(root)}"


class Root:
    """Own the files below one folder, as if it were /: no path and no symbolic link leads out of it."""

    def __init__(self, folder: str) -> None:
        self._folder = os.path.realpath(folder)
        # An empty name would be the folder that we happen to be in.
        if not folder or not os.path.isdir(self._folder):
            raise ImageError(f"{folder}: no such folder")

    def real(self, path: str, follow: bool = True) -> str:
        """Return where a path of the image is on this machine; `follow` tells whether to follow a link at its end."""
        parts = path.split("/")[::-1]
        at: List[str] = []
        links = 0
        while parts:
            part = parts.pop()
            if part in ("", "."):
                continue
            if part == "..":
                del at[-1:]
                continue
            here = os.path.join(self._folder, *at, part)
            if os.path.islink(here) and (follow or any(parts)):
                links += 1
                if links > 40:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                target = os.readlink(here)
                if target.startswith("/"):
                    at = []
                parts += target.split("/")[::-1]
            else:
                at.append(part)
        return os.path.join(self._folder, *at)

    def names(self, path: str) -> List[str]:
        """Return the sorted names in a folder, none if it is not there."""
        try:
            return sorted(os.listdir(self.real(path)))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def exists(self, path: str) -> bool:
        """Return whether something has this path."""
        return os.path.lexists(self.real(path, follow=False))

    def is_folder(self, path: str) -> bool:
        """Return whether a folder has this path, and not a link to one."""
        return self._is_folder(self.real(path, follow=False))

    def is_file(self, path: str) -> bool:
        """Return whether a file has this path, or a link to one."""
        try:
            return os.path.isfile(self.real(path))
        except OSError:
            # A link to itself
            return False

    def read(self, path: str) -> bytes:
        """Return what a file holds."""
        with open(self.real(path), "rb") as stream:
            return stream.read()

    def holds(self, path: str, content: bytes) -> bool:
        """Return whether a file is there and holds this."""
        try:
            return self.read(path) == content
        except (FileNotFoundError, NotADirectoryError):
            return False

    def is_read_only(self, path: str) -> bool:
        """Return whether a path is on a file system that cannot be written, also for one that is not there."""
        place = self.real(path)
        while not os.path.exists(place):
            place = os.path.dirname(place)
        return bool(os.statvfs(place).f_flag & os.ST_RDONLY)

    def mode(self, path: str) -> int:
        """Return the permissions of a file."""
        return stat.S_IMODE(os.stat(self.real(path)).st_mode)

    def write(self, path: str, content: bytes, mode: int = 0o644) -> None:
        """Write a file in one step, unless it holds that already; its folder is made if need be."""
        if self.holds(path, content) and self.mode(path) == mode:
            return
        file = self.real(path)
        try:
            with self._staged(file) as staged, open(staged, "xb") as stream:
                os.fchmod(stream.fileno(), mode)
                stream.write(content)
                # A power cut may not leave an empty module under a name that cloud-init runs.
                stream.flush()
                os.fsync(stream.fileno())
                os.rename(staged, file)
        except OSError as error:
            # Of a full disk nobody says where it is.
            raise OSError(error.errno, error.strerror, error.filename or file) from error

    def label(self, paths: Iterable[str]) -> List[str]:
        """Give the files that are there the SELinux contexts of their names; return what went wrong, in one line.

        What a unit writes may have the context that its domain gives to new files. Others label images that are not
        booted, as they label all that packages write there.
        """
        if not is_this_machine(self._folder):
            return []
        from ..machine.host import Host
        from ..machine.problem import SshdError

        try:
            wrong = Host().label(*(self.real(path, follow=False) for path in paths if self.exists(path)))
        except SshdError as error:
            return [str(error)]
        return [f"restorecon: {wrong}"] if wrong else []

    def symlink(self, path: str, target: str) -> None:
        """Make a symbolic link, unless it is there already; its folder is made if need be."""
        file = self.real(path, follow=False)
        if os.path.islink(file) and os.readlink(file) == target:
            return
        with self._staged(file) as staged:
            os.symlink(target, staged)
            os.rename(staged, file)

    def remove(self, path: str) -> None:
        """Remove a file or a folder with all that it holds, if it is there; a link is removed, not followed."""
        file = self.real(path, follow=False)
        self.clear(path)
        if self._is_folder(file):
            shutil.rmtree(file)
        else:
            self._unlink(file)

    def clear(self, path: str) -> None:
        """Remove what killed runs have left staged for a file."""
        folder, name = os.path.split(self.real(path))
        for other in os.listdir(folder) if os.path.isdir(folder) else ():
            if other.startswith(f".{name}.") and other.endswith(".new"):
                self._unlink(f"{folder}/{other}")

    def link(self, path: str, new: str) -> None:
        """Give a file a second name, which outlasts a write to the first one; what had that name loses it."""
        link = self.real(new, follow=False)
        with self._staged(link) as staged:
            os.link(self.real(path), staged)
            os.rename(staged, link)

    def rename(self, path: str, new: str) -> None:
        """Put a file, with all that is its own, in another one's place in one step."""
        os.rename(self.real(path, follow=False), self.real(new))

    @staticmethod
    def _is_folder(file: str) -> bool:
        return os.path.isdir(file) and not os.path.islink(file)

    @contextlib.contextmanager
    def _staged(self, file: str) -> Iterator[str]:
        """Yield where this run makes a file before it gets its name, and make its folder; others may do so, too."""
        folder, name = os.path.split(file)
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder)
            os.chmod(folder, 0o755)
        staged = f"{folder}/.{name}.{os.getpid()}.new"
        self._unlink(staged)
        try:
            yield staged
        finally:
            self._unlink(staged)

    @staticmethod
    def _unlink(file: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(file)
