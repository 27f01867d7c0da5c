# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The installation of the module in an image."""

import os
import py_compile
import re
import sys
import tempfile
from typing import Iterable, List, Optional

from ..paths import (
    CLOUD_INIT_COMMAND,
    CLOUD_INIT_SCHEMA,
    CLOUD_INIT_SCHEMA_FOLDER,
    COMMAND,
    LIBRARIES,
    LOCAL_CLOUD_INIT_COMMAND,
    LOCK,
    MAIN,
    MODULE,
    ORIGINAL,
    PACKAGE,
    POLICY_FILES,
    RECORD,
)
from ..sshd_config import without_block
from . import module_files, python_folders, registration
from .root import ImageError, Root

# Whoever has put this beside our module, pip or a distribution's package, has put the module there and takes it away.
_OWNERS_MARK = "cloud_init_ssh_keepalive-"
_COMMAND_TEXT = b"import sys\n\nfrom ssh_keepalive.cli import main\n\nsys.exit(main())\n"
_COMPILED = re.compile(r"(.*/)?__pycache__/([^/.]+)\.[^/]+\.pyc$")


def install(root: Root) -> List[str]:
    """Put module, package, schema and command into an image and register them with its cloud-init; return notes.

    Nothing of the image is executed. Raise ImageError if it has no cloud-init that can run the module.
    """
    folder = python_folders.of_cloud_init(root)
    shebang = _shebang(root)
    prepared = registration.prepare(root)

    if not _has_owner(root, folder):
        names = list(module_files.names())
        _copy(root, names, folder)
        _remove_stale(root, f"{folder}/{PACKAGE}", [f"{folder}/{name}" for name in names])
        _compile(root, names, folder)
        root.write(COMMAND, shebang + _COMMAND_TEXT, 0o755)
    notes = registration.write(root, prepared)
    # At the end: what we copy from may be there, where cloud-init's Python was before.
    for other in python_folders.find(root):
        if other != folder:
            _remove_module(root, other)
    return notes


def has_traces(root: Root) -> bool:
    """Return whether a policy has left something: its files, a block in sshd's main file, or what /run says of it."""
    has_files = any(_with_staged(root, file) for file in (*POLICY_FILES, RECORD))
    return has_files or _without_block(root) is not None


def uninstall(root: Root) -> None:
    """Take away everything that install, the module and Python (what it compiled) have put into an image."""
    registration.unregister(root)
    folders = python_folders.find(root)
    for folder in folders:
        _remove_module(root, folder)
    if not any(folder.startswith(LIBRARIES) and _has_owner(root, folder) for folder in folders):
        root.remove(COMMAND)
    for file in (*POLICY_FILES, LOCK, RECORD):  # /run of a root that is not booted is kept
        for path in _with_staged(root, file):
            root.remove(path)
    bare = _without_block(root)
    if bare is not None:
        root.write(MAIN, bare, root.mode(MAIN))


def _copy(root: Root, names: Iterable[str], folder: str) -> None:
    for name in names:
        root.write(f"{folder}/{name}", module_files.content(name))


def _remove_stale(root: Root, folder: str, wanted: Iterable[str]) -> None:
    """Remove what is below a folder of the package and neither wanted nor compiled from that, as after an upgrade."""
    for name in root.names(folder):
        path = f"{folder}/{name}"
        if root.is_folder(path):
            _remove_stale(root, path, wanted)
            if not root.names(path):
                root.remove(path)
        elif _COMPILED.sub(r"\1\2.py", path) not in wanted:
            root.remove(path)


def _compile(root: Root, names: Iterable[str], folder: str) -> None:
    """Compile the module for the Python that runs this, if the image has that: its first boot need not."""
    python = "python{}.{}".format(*sys.version_info[:2])
    if not any(python in root.names(library) for library in LIBRARIES):
        return
    with tempfile.TemporaryDirectory() as scratch:
        compiled = os.path.join(scratch, "compiled")
        for name in names:
            module, suffix = os.path.splitext(f"{folder}/{name}")
            if suffix == ".py":
                py_compile.compile(root.real(module + suffix), compiled, module + suffix, doraise=True)
                where, stem = os.path.split(module)
                with open(compiled, "rb") as stream:
                    root.write(f"{where}/__pycache__/{stem}.{sys.implementation.cache_tag}.pyc", stream.read())


def _remove_module(root: Root, folder: str) -> None:
    """Take what install and Python have put into a folder of packages, unless pip's or a package's own is there."""
    if _has_owner(root, folder):
        return
    root.remove(f"{folder}/{MODULE}.py")
    root.remove(f"{folder}/{PACKAGE}")
    compiled = folder + "/__pycache__"
    ours = [name for name in root.names(compiled) if name.startswith(MODULE + ".")]
    for name in ours:
        root.remove(f"{compiled}/{name}")
    if ours and not root.names(compiled):
        root.remove(compiled)
    original = f"{folder}/{CLOUD_INIT_SCHEMA}{ORIGINAL}"
    if root.exists(original) and not python_folders.has_cloud_init(root, folder):
        # cloud-init has moved to another Python, and its package could not remove folders with a file of ours.
        root.remove(original)
        emptied = CLOUD_INIT_SCHEMA_FOLDER
        while emptied and not root.names(f"{folder}/{emptied}"):
            root.remove(f"{folder}/{emptied}")
            emptied = os.path.dirname(emptied)


def _with_staged(root: Root, file: str) -> List[str]:
    """Return a file and what was staged for it, as far as that is there."""
    folder, name = os.path.split(file)
    return [f"{folder}/{other}" for other in root.names(folder) if other == name or other.startswith(f".{name}.")]


def _without_block(root: Root) -> Optional[bytes]:
    """Return what sshd's main file is without our blocks, None if it has none."""
    if not root.exists(MAIN):
        return None
    main = root.read(MAIN).decode("utf-8", "surrogateescape")
    bare = without_block(main)
    return bare.encode("utf-8", "surrogateescape") if bare != main else None


def _has_owner(root: Root, folder: str) -> bool:
    return any(name.startswith(_OWNERS_MARK) for name in root.names(folder))


def _shebang(root: Root) -> bytes:
    """Return the first line of cloud-init's command, by which the image's Python is known."""
    for command in (CLOUD_INIT_COMMAND, LOCAL_CLOUD_INIT_COMMAND):
        if root.exists(command):
            line = root.read(command).split(b"\n", 1)[0]
            if line.startswith(b"#!") and b"python" in line:
                return line + b"\n"
            raise ImageError(f"{command}: starts with no Python's #! line")
    raise ImageError(f"{CLOUD_INIT_COMMAND}: not in the image, install cloud-init first")
