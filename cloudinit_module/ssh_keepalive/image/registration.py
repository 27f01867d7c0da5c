# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The registration of the module with an image's cloud-init, which then runs it and knows its key."""

import os
from typing import Any, Dict, List, NamedTuple, Optional

from .. import policy
from ..paths import (
    CLEAN_FOLDER,
    CLEAN_SCRIPT,
    CLOUD_CFG,
    CLOUD_CFG_FOLDER,
    CLOUD_INIT_SCHEMA,
    MODULE,
    MODULE_LIST,
    ORIGINAL,
    UNIT,
    UNIT_FOLDERS,
    UNIT_WANTED_BY,
)
from . import clean_script, cloud_init_schema, module_list, note_unit, python_folders
from .root import ImageError, Root


class File(NamedTuple):
    """Hold what a file of the registration is to be.

    `replaces` tells whether it stands in the place of another's, `target` is where a symbolic link leads.
    """

    path: str
    content: bytes
    mode: int = 0o644
    replaces: bool = False
    target: str = ""


def register(root: Root) -> None:
    """Have an image's cloud-init run the module, which is in the image already, and know its key.

    To be done again whenever cloud-init was upgraded. Raise ImageError if that cannot be done.
    """
    folders = python_folders.shared_with(root, python_folders.of_cloud_init(root))
    if not any(root.exists(f"{folder}/{MODULE}.py") for folder in folders):
        raise ImageError(f"{MODULE}.py: not in the image, use ssh-keepalive install")
    write(root, files(root))


def unregister(root: Root) -> None:
    """Give an image's cloud-init its own list and schema back; raise ImageError if its schema cannot be read."""
    schemas = [_schema_file(folder) for folder in python_folders.with_cloud_init(root)]
    originals = {file: _original(root, file) for file in schemas}

    root.remove(MODULE_LIST)
    for folder in UNIT_FOLDERS:
        root.remove(f"{folder}/{UNIT}")
        for wants in (f"{folder}/{name}" for name in UNIT_WANTED_BY):
            root.remove(f"{wants}/{UNIT}")
            if root.exists(wants) and not root.names(wants):
                root.remove(wants)
    root.remove(CLEAN_SCRIPT)
    for file, original in originals.items():
        if original == file + ORIGINAL:
            root.rename(original, file)
        else:
            if original and _has_key(root, file):
                root.write(file, cloud_init_schema.without_key(root.read(file).decode()).encode())
            root.remove(file + ORIGINAL)
        root.clear(file)


def status(root: Root) -> List[str]:
    """Return the files that register would change, as after an upgrade of cloud-init; raise ImageError as it does."""
    return sorted(file.path for file in files(root) if not root.holds(file.path, file.content))


def has_cloud_init(root: Root) -> bool:
    """Return whether there is a cloud-init in an image."""
    return bool(python_folders.with_cloud_init(root))


def files(root: Root) -> List[File]:
    """Return the files of the registration, in the order in which they are to be written.

    Raise ImageError if the image has no cloud-init that can run the module.
    """
    found = []
    schema = _schema_file(python_folders.of_cloud_init(root))
    original = _original(root, schema)
    if original is not None:
        subschema = policy.load_schema()["properties"][policy.KEY]
        text = cloud_init_schema.with_key(root.read(original).decode(), subschema)
        found.append(File(schema, text.encode(), replaces=True))
    if root.exists(CLEAN_FOLDER):
        found.append(File(CLEAN_SCRIPT, clean_script.render().encode(), mode=0o755))
    units = next((folder for folder in UNIT_FOLDERS if root.exists(folder)), None)
    if units:
        found.append(File(f"{units}/{UNIT}", note_unit.render().encode()))
        for wants in UNIT_WANTED_BY:
            found.append(File(f"{units}/{wants}/{UNIT}", note_unit.render().encode(), target=f"../{UNIT}"))
    # Last: a module that is listed must be there, or cloud-init complains at every boot.
    found.append(File(MODULE_LIST, module_list.list_text(_list_with_module(root)).encode()))
    return found


def write(root: Root, found: List[File]) -> None:
    """Write the files of a registration; what one replaces is there under a second name afterwards."""
    for file in found:
        if file.replaces and root.exists(file.path) and not _has_key(root, file.path):
            root.link(file.path, file.path + ORIGINAL)
        if file.target:
            root.symlink(file.path, file.target)
        else:
            root.write(file.path, file.content, file.mode)


def _schema_file(folder: str) -> str:
    return f"{folder}/{CLOUD_INIT_SCHEMA}"


def _original(root: Root, file: str) -> Optional[str]:
    """Return where cloud-init's own schema is, None if it has none.

    It is the file itself if our key is not in it: cloud-init came or was upgraded after us, and a copy is a stale one.
    Else it is the copy, which an upgrade behind dpkg-divert has kept up to date. Without a copy the file must do, since
    our key can be taken out of it.
    """
    found = [path for path in (file, file + ORIGINAL) if root.exists(path)]
    return next((path for path in found if not _has_key(root, path)), found[0] if found else None)


def _has_key(root: Root, file: str) -> bool:
    try:
        return cloud_init_schema.has_key(root.read(file).decode())
    except ValueError as error:
        raise ImageError(f"{file}: not cloud-init's schema, install cloud-init again: {error}") from error


def _list_with_module(root: Root) -> List[Any]:
    """Return the list of modules for the image's network stage: the one that is in effect without us, and ours."""
    for path in (CLOUD_CFG, CLOUD_CFG_FOLDER):
        if not root.exists(path):
            raise ImageError(f"{path}: not in the image, install cloud-init first")
    drop_ins = [f"{CLOUD_CFG_FOLDER}/{name}" for name in root.names(CLOUD_CFG_FOLDER) if name.endswith(".cfg")]
    source: Optional[str] = None
    modules: Any = None
    for file in [CLOUD_CFG, *drop_ins]:
        config = _load(root, file)
        if file != MODULE_LIST and module_list.LIST in config:
            source, modules = file, config[module_list.LIST]
    if source is None or not isinstance(modules, list):
        raise ImageError(f"{source or CLOUD_CFG}: no list of {module_list.LIST}")
    if source > MODULE_LIST:
        name = os.path.basename(MODULE_LIST)
        raise ImageError(f"{source}: its {module_list.LIST} would replace ours, rename it to sort before {name}")
    try:
        return module_list.with_module(modules)
    except ValueError as error:
        raise ImageError(f"{source}: {error}") from error


def _load(root: Root, file: str) -> Dict[str, Any]:
    import yaml

    try:
        config = yaml.safe_load(root.read(file))
    # PyYAML raises ValueError for a date like 2024-13-45, and UnicodeDecodeError is one.
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise ImageError(f"{file}: {' '.join(str(error).split())}") from error
    return config if isinstance(config, dict) else {}
