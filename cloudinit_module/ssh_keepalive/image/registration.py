# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The registration of the module with an image's cloud-init, which then runs it and knows its key."""

import os
from typing import Iterable, Iterator, List, NamedTuple, Optional, Tuple

from .. import policy
from ..module_lists import LIST
from ..paths import (
    BEGIN,
    CLEAN_FOLDER,
    CLEAN_SCRIPT,
    CLOUD_INIT_SCHEMA,
    DPKG_DIVERSIONS,
    END,
    INIT,
    INIT_SCRIPT,
    INIT_SCRIPT_DEFAULTS,
    MODULE,
    MODULE_LIST,
    ORIGINAL,
    REGISTER_UNIT,
    REGISTER_UNIT_WANTED_BY,
    RUNTIME_CFG,
    RUNTIME_CFG_FOLDER,
    UNIT,
    UNIT_FOLDERS,
    UNIT_WANTED_BY,
)
from ..sshd_config import without_block
from . import clean_script, cloud_init_schema, module_files, module_list, note_unit, python_folders, register_unit
from .module_list import ModuleList
from .root import ImageError, Root


class File(NamedTuple):
    """Hold a file as the registration writes it.

    `replaces` tells whether it takes the place of another package's file, `target` where a symbolic link leads.
    """

    path: str
    content: bytes
    mode: int = 0o644
    replaces: bool = False
    target: str = ""


class Registration(NamedTuple):
    """Hold what register writes: files, and last the list of modules, which is made from some of them."""

    files: Tuple[File, ...]
    modules: ModuleList
    schema: str


class Status(NamedTuple):
    """Hold what is not as register leaves it.

    `missing` is a file of the module that is not there, None if all are. `changed` are the files that register would
    change, and `notes` what changes no verdict.
    """

    missing: Optional[str]
    changed: Tuple[str, ...]
    notes: Tuple[str, ...]


def register(root: Root) -> List[str]:
    """Have an image's cloud-init run the module, which is in the image already, and know its key; return notes.

    A unit does it again at a boot whenever cloud-init's configuration or schema was changed. Raise ImageError if that
    cannot be done.
    """
    if module_files.missing(root) == module_files.file_of_module(root):
        raise ImageError(f"{MODULE}.py: not in the image, use ssh-keepalive install")
    return write(root, prepare(root))


def unregister(root: Root) -> None:
    """Give an image's cloud-init its own list and schema back; raise ImageError if its schema cannot be read."""
    schemas = [_schema_file(folder) for folder in python_folders.with_cloud_init(root)]
    own = {file: _unregistered(root, file) for file in schemas}

    root.remove(MODULE_LIST)
    for file in (RUNTIME_CFG, INIT_SCRIPT_DEFAULTS):
        _write_block(root, file)
    for folder in UNIT_FOLDERS:
        for place in (folder, *(f"{folder}/{name}" for name in UNIT_WANTED_BY)):
            root.remove(f"{place}/{UNIT}")
            root.remove(f"{place}/{REGISTER_UNIT}")
        for wants in (f"{folder}/{name}" for name in UNIT_WANTED_BY):
            if root.exists(wants) and not root.names(wants):
                root.remove(wants)
    root.remove(CLEAN_SCRIPT)
    for file, content in own.items():
        original = file + ORIGINAL
        if content is not None and root.holds(original, content):
            root.rename(original, file)
        elif content is not None:
            root.write(file, content)
        root.remove(original)
        root.clear(file)


def status(root: Root) -> Status:
    """Return what register would change; raise ImageError as it does."""
    found = prepare(root)
    waiting = [file for file in found.files if _waits(root, file)]
    changed = [file.path for file in found.files if file not in waiting and not root.holds(file.path, file.content)]
    # On a booted machine one that is overridden counts for nothing.
    is_overridden = found.modules.overridden_by and root.exists(RUNTIME_CFG_FOLDER)
    lists = (RUNTIME_CFG,) if is_overridden else (MODULE_LIST, RUNTIME_CFG)
    if not any(_holds_list(root, file, found.modules) for file in lists):
        changed.append(MODULE_LIST)
    return Status(module_files.missing(root), tuple(sorted(changed)), tuple(_notes(found.modules, waiting)))


def has_cloud_init(root: Root) -> bool:
    """Return whether there is a cloud-init in an image."""
    return bool(python_folders.with_cloud_init(root))


def prepare(root: Root) -> Registration:
    """Return what is to be written; raise ImageError if the image has no cloud-init that can run the module."""
    found = []
    schema = _schema_file(python_folders.of_cloud_init(root))
    text = _registered(root, schema)
    if text is not None:
        found.append(File(schema, text.encode(), replaces=True))
    if root.exists(CLEAN_FOLDER):
        found.append(File(CLEAN_SCRIPT, clean_script.render().encode(), mode=0o755))
    units = next((folder for folder in UNIT_FOLDERS if root.exists(folder)), None)
    if units:
        found += _unit(units, UNIT, note_unit.render(), UNIT_WANTED_BY)
        found += _unit(units, REGISTER_UNIT, register_unit.render(schema), REGISTER_UNIT_WANTED_BY)
    init_scripts = _has_debians_init_scripts(root)
    if init_scripts:
        defaults = _with_block(root, INIT_SCRIPT_DEFAULTS, register_unit.render_defaults(schema))
        found.append(File(INIT_SCRIPT_DEFAULTS, defaults, _mode(root, INIT_SCRIPT_DEFAULTS)))
    modules = module_list.find(root)
    if modules.overridden_by and not units and not init_scripts:
        name = os.path.basename(MODULE_LIST)
        message = f"its {LIST} would replace ours, rename it to sort before {name}"
        raise ImageError(f"{modules.overridden_by}: {message}")
    return Registration(tuple(found), modules, schema)


def _has_debians_init_scripts(root: Root) -> bool:
    """Return whether Debian's init scripts start cloud-init: OpenRC's own, as of Alpine, read none of its defaults."""
    if not root.is_file(INIT_SCRIPT) or not root.exists(INIT) or root.real(INIT).endswith("/systemd"):
        return False
    return b"openrc-run" not in root.read(INIT_SCRIPT).split(b"\n", 1)[0]


def _unit(folder: str, name: str, text: str, wanted_by: Iterable[str]) -> Iterator[File]:
    """Yield the files of a unit that is enabled."""
    yield File(f"{folder}/{name}", text.encode())
    for wants in wanted_by:
        yield File(f"{folder}/{wants}/{name}", text.encode(), target=f"../{name}")


def write(root: Root, registration: Registration) -> List[str]:
    """Write a registration, and return notes; what a file replaces is there under a second name afterwards."""
    waiting = [file for file in registration.files if _waits(root, file)]
    for file in registration.files:
        if root.is_read_only(file.path):
            continue
        if file.replaces and root.exists(file.path) and not _has_key(root, file.path):
            root.link(file.path, file.path + ORIGINAL)
        if file.target:
            root.symlink(file.path, file.target)
        else:
            root.write(file.path, file.content, file.mode)
    # Last: a module that is listed must be there, or cloud-init complains at every boot.
    lines = register_unit.lines(root, None if waiting else registration.schema)
    _write_list(root, registration.modules, lines)
    unlabelled = root.label((*(file.path for file in registration.files), MODULE_LIST, RUNTIME_CFG))
    return [*_notes(registration.modules, waiting), *unlabelled]


def _waits(root: Root, file: File) -> bool:
    return not root.holds(file.path, file.content) and root.is_read_only(file.path)


def _notes(modules: ModuleList, waiting: Iterable[File]) -> List[str]:
    notes = [*modules.unread, *(f"{file.path} stays as it is, its file system is read-only" for file in waiting)]
    if modules.overridden_by:
        what = f"replaces ours, each boot adds {policy.KEY} to it in {RUNTIME_CFG}"
        notes.append(f"{modules.overridden_by}: its {LIST} {what}")
    return notes


def _write_list(root: Root, modules: ModuleList, lines: List[str]) -> None:
    """Write the list where cloud-init reads it, on a booted machine beside the configuration that it may not override.

    A list that has no effect does not say what it was made from, so that the next boot makes it anew.
    """
    text = module_list.list_text(modules.modules, lines).encode()
    is_booted = root.exists(RUNTIME_CFG_FOLDER)
    if not (is_booted and root.is_read_only(MODULE_LIST)):
        root.write(MODULE_LIST, module_list.list_text(modules.modules).encode() if modules.overridden_by else text)
    if is_booted:
        _write_block(root, RUNTIME_CFG, "" if root.holds(MODULE_LIST, text) else text.decode())


def _with_block(root: Root, file: str, text: str) -> bytes:
    """Return what a file of others is to hold with our block at its end, or without one, to the byte."""
    bare = without_block(root.read(file).decode("utf-8", "surrogateescape")) if root.exists(file) else ""
    if text:
        block = f"{BEGIN}\n{text}{END}"
        bare = f"{bare}\n{block}" if bare and not bare.endswith("\n") else f"{bare}{block}\n"
    return bare.encode("utf-8", "surrogateescape")


def _write_block(root: Root, file: str, text: str = "") -> None:
    """Give a file of others our block or take it out; one with nothing else in it goes as well."""
    content = _with_block(root, file, text)
    if root.holds(file, content):
        return
    if content:
        root.write(file, content, _mode(root, file))
    else:
        root.remove(file)


def _mode(root: Root, file: str) -> int:
    return root.mode(file) if root.exists(file) else 0o644


def _holds_list(root: Root, file: str, modules: ModuleList) -> bool:
    return root.is_file(file) and module_list.holds_list(root.read(file).decode(), modules.modules)


def _schema_file(folder: str) -> str:
    return f"{folder}/{CLOUD_INIT_SCHEMA}"


def _registered(root: Root, file: str) -> Optional[str]:
    """Return cloud-init's schema with our key, None if it has none."""
    source = _source(root, file)
    if source is None:
        return None
    text = cloud_init_schema.with_key(root.read(source).decode(), policy.load_schema()["properties"][policy.KEY])
    return text if source == file else _with_additions(root, text, file)


def _unregistered(root: Root, file: str) -> Optional[bytes]:
    """Return what cloud-init's schema is to be without our key, None if it is as it should be."""
    source, original = _source(root, file), file + ORIGINAL
    if source is None or (source == file and not _has_key(root, file)):
        return None
    text = root.read(source).decode()
    if source != file:
        return _with_additions(root, text, file).encode()
    text = cloud_init_schema.without_key(text)
    if root.exists(original) and not _has_key(root, original):
        # The file that it was to begin with, unless others have changed it since.
        before = root.read(original)
        return before if cloud_init_schema.is_same(before.decode(), text) else text.encode()
    return text.encode()


def _source(root: Root, file: str) -> Optional[str]:
    """Return which file has cloud-init's schema as it is now, None if none has.

    It is the file itself: cloud-init came or was upgraded after us if our key is not in it, and others may have added
    theirs if it is. But where dpkg has diverted it, an upgrade has brought the other one up to date.
    """
    original = file + ORIGINAL
    is_behind = root.exists(file) and _has_key(root, file) and root.exists(original) and _is_diverted(root, file)
    if root.exists(file) and not is_behind:
        return file
    return original if root.exists(original) else None


def _is_diverted(root: Root, file: str) -> bool:
    diverted = f"{file}\n{file}{ORIGINAL}\n".encode()
    return root.is_file(DPKG_DIVERSIONS) and diverted in root.read(DPKG_DIVERSIONS)


def _with_additions(root: Root, text: str, file: str) -> str:
    """Return a schema with what others have added to the registered schema in a file, if there is that file."""
    return cloud_init_schema.with_additions(text, root.read(file).decode()) if root.exists(file) else text


def _has_key(root: Root, file: str) -> bool:
    try:
        return cloud_init_schema.has_key(root.read(file).decode())
    except ValueError as error:
        raise ImageError(f"{file}: not cloud-init's schema, install cloud-init again: {error}") from error
