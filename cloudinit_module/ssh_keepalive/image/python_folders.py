# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The folders in which an image's Pythons look for packages."""

import re
from typing import Dict, List

from ..paths import LIBRARIES, LOCAL_LIBRARIES
from .root import ImageError, Root


def find(root: Root) -> List[str]:
    """Return the folders, each once."""
    found: Dict[str, str] = {}
    for library in LIBRARIES + LOCAL_LIBRARIES:
        for python in root.names(library):
            if re.match(r"python3(\.[0-9]+)?$", python):
                for kind in ("dist-packages", "site-packages"):
                    folder = f"{library}/{python}/{kind}"
                    found.setdefault(root.real(folder), folder)
    return list(found.values())


def shared_with(root: Root, folder: str) -> List[str]:
    """Return the folders in which the Python that looks into a folder may look as well.

    A Python looks into the folders of its version, and Debian's into those of python3 as well.
    """
    return [other for other in find(root) if len({_python(other), _python(folder)} - {"python3"}) <= 1]


def _python(folder: str) -> str:
    return folder.split("/")[-2]


def has_cloud_init(root: Root, folder: str) -> bool:
    """Return whether cloud-init is in a folder."""
    return root.exists(folder + "/cloudinit/version.py")


def with_cloud_init(root: Root) -> List[str]:
    """Return the folders that have a cloud-init."""
    return [folder for folder in find(root) if has_cloud_init(root, folder)]


def of_cloud_init(root: Root) -> str:
    """Return the folder that has the image's cloud-init; raise ImageError if not exactly one has."""
    folders = with_cloud_init(root)
    if not folders:
        places = " or ".join(f"{libraries[0]}/python3*" for libraries in (LIBRARIES, LOCAL_LIBRARIES))
        raise ImageError(f"no cloud-init in {places}, install it first")
    if len(folders) > 1:
        raise ImageError(f"more than one cloud-init, remove all but one: {', '.join(folders)}")
    return folders[0]
