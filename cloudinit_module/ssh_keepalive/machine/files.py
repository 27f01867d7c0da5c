# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The files that a policy is written to: staged, replaced and restored, by one run at a time."""

import contextlib
import errno
import fcntl
import logging
import os
import stat
import time
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence

from .. import paths, sshd_config
from . import processes, record, servers
from .host import Host
from .problem import Problem, SshdError
from .processes import Listener

LOG = logging.getLogger(__name__)

_PURPOSES = ("new", "key", "key.pub", "old", "main")


class ChangedError(SshdError):
    """Say that somebody else has changed a file while it was about to be replaced."""


class File(NamedTuple):
    """Hold a file that a run may replace.

    `mode` is the mode that it is to have, None to leave that as it is. `aside` begins the names of what is staged for
    it: dot files of the same file system, which no sshd reads.
    """

    path: str
    mode: Optional[int]
    aside: str

    def temporary(self, purpose: str) -> str:
        """Return the name of a file beside this one."""
        return f"{self.aside}.{purpose}"


def drop_in(host: Host) -> File:
    """Return the drop-in; others' are root's alone as well."""
    return File(host.at(paths.DROP_IN), 0o600, host.at(f"{paths.DROP_IN_FOLDER}/.{paths.DROP_IN_NAME}"))


def profile(host: Host) -> File:
    """Return the profile, which every shell reads."""
    folder, name = os.path.split(paths.PROFILE)
    return File(host.at(paths.PROFILE), 0o644, host.at(f"{folder}/.{name}"))


def main(path: str, host: Host) -> File:
    """Return a main file, which stays what and whose it is; a link to it stays one."""
    real = os.path.realpath(path)
    # Nothing of ours may look like another's, and the vendor's folder may be read-only.
    folder = host.at(paths.SSH) if path == host.at(paths.VENDOR_MAIN) else os.path.dirname(real)
    return File(real, None, f"{folder}/.{paths.DROP_IN_NAME}.main")


def key_for_asking(host: Host) -> str:
    """Return where a host key is made that only questions use."""
    return main(host.at(paths.MAIN), host).temporary("key")


def text(path: str) -> Optional[str]:
    """Return the text of a file, to the byte; None without one. Raise SshdError if it is no file to be read."""
    try:
        # A pipe must not have us wait for somebody who writes.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise SshdError(Problem(f"{path}: is no regular file", "move it away"))
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as stream:
            return stream.read()
    except FileNotFoundError:
        return None


def stands(file: File, content: Optional[str]) -> bool:
    """Return whether a file has a text already (None: there is no such file), and is as it would be written."""
    if file.mode is None:
        return text(file.path) == content
    # A link would have another file decide, and one that others may write to is not ours, whatever it says now.
    if os.path.islink(file.path) or not _is_same(text(file.path), content):
        return False
    if content is None:
        return True
    status = os.stat(file.path)
    owners = (status.st_uid, status.st_gid)
    return stat.S_IMODE(status.st_mode) == file.mode and owners == (os.geteuid(), os.getegid())


def says(file: File, content: Optional[str]) -> bool:
    """Return whether a file has a text already (None: there is no such file), whatever else it is."""
    with contextlib.suppress(SshdError):
        return _is_same(text(file.path), content)
    return False


def _is_same(now: Optional[str], content: Optional[str]) -> bool:
    return now == content if now is None or content is None else sshd_config.is_same(now, content)


def policy_file(host: Host) -> str:
    """Return the file in which the policy is, or would be if sshd reads drop-ins: the drop-in or the main file."""
    main_file = servers.main_file(host)
    return main_file if sshd_config.holds_policy(text(main_file) or "") else host.at(paths.DROP_IN)


@contextlib.contextmanager
def exclusive(host: Host) -> Iterator[None]:
    """Keep other runs out; raise SshdError if one takes too long."""
    lock_file = host.at(paths.LOCK)
    # Not a folder of sshd's: who can read it could lock it, and this is root's alone.
    lock = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        _wait_for(lock, lock_file, host)
        yield
    finally:
        # It is closed whatever this says, and what was done is done.
        with contextlib.suppress(OSError):
            os.close(lock)


def _wait_for(lock: int, lock_file: str, host: Host) -> None:
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if host.seconds_left <= 0:
                raise SshdError(Problem(f"another run holds {lock_file} for too long")) from None
            time.sleep(0.1)


class Transaction:
    """Write the files of one run; `unfinished` says that an earlier run was killed, and may have left what it wrote."""

    def __init__(self, host: Host, main_file: File) -> None:
        self._host = host
        self.files = (drop_in(host), profile(host), main_file)
        self.unfinished = False
        # What this run may touch, as it was before
        self._before = record.Inputs({}, {})
        self._names_before: Optional[List[str]] = None
        # The digests of what this run has put in place
        self._in_place: Dict[str, str] = {}

    @contextlib.contextmanager
    def tidied(self, listeners: Sequence[Listener]) -> Iterator[None]:
        """Take away what this run leaves beside the files, and what a killed one has left.

        The listeners are those that have read the files as they are.
        """
        self._before, self._names_before = self._identity(), self._names()
        self.unfinished = self.tidy()
        try:
            yield
        finally:
            # Nobody reads what cannot be taken away, and the next run tries again.
            with contextlib.suppress(OSError, SshdError):
                self.tidy()
                known = list(map(record.generation, listeners))
                is_as_before = self._names_before == self._names() and not self.unfinished
                # One that has read the files meanwhile may have read what was in their place.
                if is_as_before and all(record.generation(one) in known for one in processes.listeners(self._host)):
                    record.carry_over(self._before, self._identity(), self._host)

    def text_of_main(self) -> str:
        """Return the text of the main file on which what is written is based: somebody may just have changed it."""
        main = self.files[2].path
        content = text(main) or ""
        # Afterwards: a change in between shows before the file is replaced.
        now = record.identify([main], []).files
        self._before.files.update({name: found for name, found in now.items() if not self._is_as_before(name, found)})
        return content

    def _is_as_before(self, name: str, now: List[Any]) -> bool:
        """Return whether a file has the bytes that it had before; a way that was tried in vain changes its times."""
        return name in self._before.files and self._before.files[name][-1] == now[-1]

    def without_this_run(self, inputs: record.Inputs) -> record.Inputs:
        """Return what a server reads, without what this run has changed of it."""
        drop_in_file = self.files[0]

        def file_without(name: str, now: List[Any]) -> List[Any]:
            # A main file may be a link to the one that is written.
            real = os.path.realpath(name)
            # In an overlay whatever is written beside a file may change the times on the way to it.
            is_ours = self._is_as_before(real, now) or self._in_place.get(real) == now[-1]
            return self._before.files.get(real, now) if is_ours else now

        ours = {os.path.basename(drop_in_file.temporary(purpose)) for purpose in _PURPOSES}
        ours.add(os.path.basename(drop_in_file.path))
        names_before, names = (set(found or ()) - ours for found in (self._names_before, self._names()))
        folders_before = self._before.folders if names_before == names else {}
        return record.Inputs(
            {name: file_without(name, now) for name, now in inputs.files.items()},
            {name: folders_before.get(name, now) for name, now in inputs.folders.items()},
        )

    def _identity(self) -> record.Inputs:
        drop_in_file, _, main_file = self.files
        folder = self._host.at(paths.DROP_IN_FOLDER)
        names = {drop_in_file.path, main_file.path, *(os.path.join(folder, name) for name in self._names() or ())}
        return record.identify(sorted(names), [folder])

    def _names(self) -> Optional[List[str]]:
        """Return the names in the folder of drop-ins, None without one."""
        folder = self._host.at(paths.DROP_IN_FOLDER)
        return sorted(os.listdir(folder)) if os.path.isdir(folder) else None

    def tidy(self) -> bool:
        """Take away what was staged, which nobody reads, and return whether there was anything."""
        found = False
        for file in self.files:
            for purpose in _PURPOSES:
                staged = file.temporary(purpose)
                # Looked for first: what is read-only refuses to have nothing taken away.
                if os.path.lexists(staged):
                    os.unlink(staged)
                    found = True
        return found

    @contextlib.contextmanager
    def staged(self, texts: Mapping[File, Optional[str]]) -> Iterator[None]:
        """Write the texts of files aside; a folder of drop-ins that is made for that goes again if the body fails."""
        folder = self._host.at(paths.DROP_IN_FOLDER)
        make_folder = texts.get(self.files[0]) is not None and not os.path.isdir(folder)
        if make_folder:
            if os.path.islink(folder):
                message = f"{folder} is a link to {os.readlink(folder)}, which is not there"
                raise SshdError(Problem(message, f"make that folder, or rm {folder}"))
            os.makedirs(folder, 0o755)
            os.chmod(folder, 0o755)
            label(folder, self._host)
        try:
            for file, content in texts.items():
                if content is not None:
                    missing = os.path.dirname(file.aside)
                    if not os.path.isdir(missing):
                        raise SshdError(Problem(f"{missing} is not there", f"mkdir {missing}"))
                    self.write_aside(file, "new", content)
            yield
        except BaseException:
            if make_folder:
                with contextlib.suppress(OSError):
                    self.tidy()
                    os.rmdir(folder)
            raise

    def write_aside(self, file: File, purpose: str, content: str) -> str:
        """Write a text beside a file, to the disk, and return where."""
        path = file.temporary(purpose)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
                if file.mode is None:
                    status = os.stat(file.path)
                    os.fchown(descriptor, status.st_uid, status.st_gid)
                    os.fchmod(descriptor, stat.S_IMODE(status.st_mode))
                    _copy_attributes(file.path, descriptor)
                else:
                    os.fchmod(descriptor, file.mode)
                stream.write(content)
                stream.flush()
                os.fsync(descriptor)
        except OSError as error:
            # Of a full disk nobody says where it is.
            raise OSError(error.errno, error.strerror, error.filename or path) from error
        return path

    @contextlib.contextmanager
    def replaced(self, file: File, content: Optional[str], before: Optional[str]) -> Iterator[None]:
        """Put a staged text (None: nothing) in a file's place; restore the old one if the body fails.

        Both are one step: a reader finds the old text or the new one, whole, even if this run is killed. If somebody
        else has written to the file since it was as `before`, that stays: raise ChangedError.
        """
        if file.mode is None and text(file.path) != before:
            raise ChangedError(Problem(f"{file.path} was changed during this run", "try again"))
        old = file.temporary("old") if os.path.lexists(file.path) else None
        if old:
            # A second name for the old file needs no space on the disk, and comes back whole by a rename.
            with _named_mount(file):
                os.link(file.path, old, follow_symlinks=False)
        try:
            if content is not None:
                with _named_mount(file):
                    os.rename(file.temporary("new"), file.path)
                self._sync_folder(file)
                label(file.path, self._host)
            elif old:
                os.unlink(file.path)
                self._sync_folder(file)
            if content is not None:
                self._in_place[file.path] = record.digest(content.encode("utf-8", "surrogateescape"))
            yield
        except BaseException:
            self._put_back(file, old, content)
            self._in_place.pop(file.path, None)
            raise

    def _put_back(self, file: File, old: Optional[str], content: Optional[str]) -> None:
        theirs = None
        if file.mode is None and old:
            # What cannot be looked at cannot be kept.
            with contextlib.suppress(OSError, SshdError):
                now = text(file.path)
                theirs = now if now not in (content, text(old)) else None
        if theirs is not None:
            # Somebody has changed the file since: that stays, ours is taken out.
            self.write_aside(file, "new", sshd_config.without_block(theirs))
            os.rename(file.temporary("new"), file.path)
        elif old:
            os.rename(old, file.path)
        elif content is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(file.path)
        self._sync_folder(file)

    def _sync_folder(self, file: File) -> None:
        descriptor = os.open(os.path.dirname(file.path), os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _copy_attributes(path: str, descriptor: int) -> None:
    """Copy extended attributes, such as access lists; what a file system has not is left out."""
    with contextlib.suppress(OSError):
        for name in os.listxattr(path):
            with contextlib.suppress(OSError):
                os.setxattr(descriptor, name, os.getxattr(path, name))


@contextlib.contextmanager
def _named_mount(file: File) -> Iterator[None]:
    """Say of a file that it is a mount, where the system says that it is busy or of another device."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.EXDEV):
            raise
        message = f"{file.path} is a mount of its own and cannot be replaced"
        remedy = f"umount {file.path}"
        if file.mode is None:
            remedy = f"put 'Include {paths.DROP_IN}' on its first line where it comes from"
        raise SshdError(Problem(message, remedy)) from error


def label(path: str, host: Host) -> None:
    """Give a file the SELinux context that it has by its name; a new one has its folder's."""
    wrong = host.label(path)
    if wrong:
        LOG.warning("restorecon %s: %s", path, wrong)
