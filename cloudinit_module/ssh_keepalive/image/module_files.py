# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The files of the module and its package, here and in an image."""

import importlib
import os
from typing import Iterator, Optional

from ..paths import MODULE, PACKAGE
from . import python_folders
from .root import Root

# Where this very module and its package are
SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

_FILE = MODULE + ".py"
_VERSION = PACKAGE + "/__init__.py"


def names() -> Iterator[str]:
    """Yield the names of the files, folders before what is in them and the module last."""
    for folder, folders, files in os.walk(os.path.join(SOURCE, PACKAGE)):
        folders.sort()
        for name in sorted(files):
            if name.endswith((".py", ".json")):
                yield os.path.relpath(os.path.join(folder, name), SOURCE)
    yield _FILE


def content(name: str) -> bytes:
    """Return what one of the files holds."""
    with open(os.path.join(SOURCE, name), "rb") as stream:
        return stream.read()


def missing(root: Root) -> Optional[str]:
    """Return a file without which an image's cloud-init cannot run the module, None if all are there.

    Raise ImageError if there is not exactly one cloud-init. Of the package of another version only a few are known.
    """
    folders = python_folders.shared_with(root, python_folders.of_cloud_init(root))
    folder = next((folder for folder in folders if root.is_file(f"{folder}/{_FILE}")), None)
    if folder is None:
        return file_of_module(root)
    if root.real(f"{folder}/{PACKAGE}") == os.path.realpath(os.path.join(SOURCE, PACKAGE)):
        return _unimportable(folder)
    is_this_version = root.holds(f"{folder}/{_VERSION}", content(_VERSION))
    wanted = names() if is_this_version else (_VERSION,)
    return next((f"{folder}/{name}" for name in wanted if not root.is_file(f"{folder}/{name}")), None)


def _unimportable(folder: str) -> Optional[str]:
    """Return a file that a boot imports and that is not here, where nothing else tells which are to be."""
    try:
        importlib.import_module(f"{PACKAGE}.machine.apply")
    except ImportError as error:
        return f"{folder}/{(error.name or PACKAGE).replace('.', '/')}.py"
    return None


def file_of_module(root: Root) -> str:
    """Return where install puts the module itself."""
    return f"{python_folders.of_cloud_init(root)}/{_FILE}"
