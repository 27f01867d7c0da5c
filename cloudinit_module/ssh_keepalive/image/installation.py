# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The root of an image that carries the module."""

import contextlib
import errno
import os
import py_compile
import re
import shutil
import stat
import sys
import tempfile
from typing import Any, Dict, Iterable, List, Optional, Tuple

from .. import policy, sshd_config
from . import registration

_CLOUD_CFG = "/etc/cloud/cloud.cfg"
_CLOUD_CFG_D = "/etc/cloud/cloud.cfg.d"
# Read in the order of their names; the last list of modules replaces all others (util.py, read_conf_with_confd).
_LIST_FILE = _CLOUD_CFG_D + "/99_zz_ssh_keepalive.cfg"
# cloud-init 22.2 and later; a path beside its own files, without an override (schema.py, get_schema_dir)
_SCHEMA_FILE = "cloudinit/config/schemas/schema-cloud-config-v1.json"
# What follows the name of that file where its original is: also where dpkg-divert has packages of cloud-init put it.
ORIGINAL = ".ssh-keepalive-original"
_COMMAND = "/usr/bin/ssh-keepalive"
# What the module writes on a machine, by folder
_WRITTEN = (("/etc/ssh/sshd_config.d", dropin.NAME), ("/etc/profile.d", tmout.NAME), ("/etc/ssh", dropin.NAME))
_MAIN = "/etc/ssh/sshd_config"
# What cloud-init clean runs, from 22.3 on; older ones have no such folder.
_CLEAN_D = "/etc/cloud/clean.d"
_CLEAN_FILE = _CLEAN_D + "/50-ssh-keepalive"
_CLEAN_SCRIPT = """\
#!/bin/sh
# Written by ssh-keepalive: an instance's policy goes with its other traces, and the next first boot writes it anew.
# sshd is not restarted: until the shutdown that follows a clean it keeps what it has read, and loses no session.
{}# A block whose end is gone is none: nothing of somebody else's must go with it.
count() {{
    grep -csx "# $1 ssh-keepalive" {main}
}}
if count BEGIN >/dev/null && [ "$(count BEGIN)" = "$(count END)" ]; then
    sed -i '/^# BEGIN ssh-keepalive$/,/^# END ssh-keepalive$/d' "$(readlink -f {main})"
fi
""".format("".join("rm -f {0}/{1} {0}/.{1}.*\n".format(*place) for place in _WRITTEN), main=_MAIN)
_PACKAGE = "ssh_keepalive"
# Whoever has put this beside our module, pip or a distribution's package, has put the module there and takes it away.
_OWNERS_MARK = "cloud_init_ssh_keepalive-"
_MODULE = "cc_ssh_keepalive"

_SOURCE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class ImageError(Exception):
    """Say why the module cannot be put into an image, or taken out; nothing was changed."""


class Root:
    """Own the files below one folder, as if it were /: no path and no symbolic link leads out of it."""

    def __init__(self, folder: str) -> None:
        self._folder = os.path.realpath(folder)
        # An empty name would be the folder that we happen to be in.
        if not folder or not os.path.isdir(self._folder):
            raise ImageError("{}: no such folder".format(folder))

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

    def read(self, path: str) -> bytes:
        """Return what a file holds."""
        with open(self.real(path), "rb") as stream:
            return stream.read()

    def write(self, path: str, content: bytes, mode: int = 0o644) -> None:
        """Write a file in one step, unless it holds that already; its folder is made if need be."""
        file = self.real(path)
        folder = os.path.dirname(file)
        if not os.path.isdir(folder):
            os.mkdir(folder)
            os.chmod(folder, 0o755)
        with contextlib.suppress(FileNotFoundError):
            if self.read(path) == content and stat.S_IMODE(os.stat(file).st_mode) == mode:
                return
        new = self._aside(file)
        self._unlink(new)
        with open(new, "xb") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(content)
            # A power cut may not leave an empty module under a name that cloud-init runs.
            stream.flush()
            os.fsync(stream.fileno())
        os.rename(new, file)

    def remove(self, path: str) -> None:
        """Remove a file or a folder with all that it holds, if it is there; a link is removed, not followed."""
        file = self.real(path, follow=False)
        self.clear(path)
        if os.path.isdir(file) and not os.path.islink(file):
            shutil.rmtree(file)
        else:
            self._unlink(file)

    def clear(self, path: str) -> None:
        """Remove what a killed write of a file has left aside."""
        self._unlink(self._aside(self.real(path)))

    def link(self, path: str, new: str) -> None:
        """Give a file a second name, which outlasts a write to the first one; what had that name loses it."""
        file, link = self.real(path), self.real(new, follow=False)
        self._unlink(link)
        os.link(file, link)

    def rename(self, path: str, new: str) -> None:
        """Put a file, with all that is its own, in another one's place in one step."""
        os.rename(self.real(path, follow=False), self.real(new))

    @staticmethod
    def _aside(file: str) -> str:
        """Return where a file is written before it gets its name."""
        return os.path.join(os.path.dirname(file), ".{}.new".format(os.path.basename(file)))

    @staticmethod
    def _unlink(file: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(file)


def install(root: Root) -> None:
    """Put module, package, schema and command into an image and register them with its cloud-init.

    Nothing of the image is executed. Raise ImageError if it has no cloud-init that can run the module.
    """
    folder = _cloud_init_package(root)
    shebang = _shebang(root)
    schema, modules = _registered(root, folder)

    if not _has_owner(root, folder):
        for name in sorted(os.listdir(os.path.join(_SOURCE, _PACKAGE))):
            if name.endswith((".py", ".json")):
                _copy(root, os.path.join(_PACKAGE, name), folder)
        _copy(root, _MODULE + ".py", folder)
        _compile(root, folder)
        root.write(_COMMAND, shebang + b"import sys\n\nfrom ssh_keepalive.cli import main\n\nsys.exit(main())\n", 0o755)
    _land(root, folder, schema, modules)
    # At the end: what we copy from may be there, where cloud-init's Python was before.
    for other in _python_folders(root):
        if other != folder:
            _take_module_from(root, other)


def register(root: Root) -> None:
    """Have an image's cloud-init run the module, which is in the image already, and know its key.

    To be done again whenever cloud-init was upgraded. Raise ImageError if that cannot be done.
    """
    folder = _cloud_init_package(root)
    # A Python looks into the folders of its version, and Debian's into those of python3 as well.
    near = [
        other
        for other in _python_folders(root)
        if len({path.split("/")[-2] for path in (other, folder)} - {"python3"}) <= 1
    ]
    if not any(root.exists("{}/{}.py".format(other, _MODULE)) for other in near):
        raise ImageError("{}.py: not in the image, use ssh-keepalive install".format(_MODULE))
    _land(root, folder, *_registered(root, folder))


def unregister(root: Root) -> None:
    """Give an image's cloud-init its own list and schema back; raise ImageError if its schema cannot be read."""
    files = ["{}/{}".format(folder, _SCHEMA_FILE) for folder in _cloud_init_packages(root)]
    originals = {file: _original(root, file) for file in files}

    root.remove(_LIST_FILE)
    root.remove(_CLEAN_FILE)
    for file, original in originals.items():
        if original == file + ORIGINAL:
            root.rename(original, file)
        else:
            if original and _has_key(root, file):
                root.write(file, registration.without_key(root.read(file).decode()).encode())
            root.remove(file + ORIGINAL)
        root.clear(file)


def status(root: Root) -> List[str]:
    """Return the files that register would change, as after an upgrade of cloud-init; raise ImageError as it does."""
    folder = _cloud_init_package(root)
    schema, modules = _registered(root, folder)
    wanted = {"{}/{}".format(folder, _SCHEMA_FILE): schema, _LIST_FILE: modules}
    return [
        path
        for path, text in sorted(wanted.items())
        if text is not None and not (root.exists(path) and root.read(path) == text.encode())
    ]


def has_cloud_init(root: Root) -> bool:
    """Return whether there is a cloud-init in an image."""
    return bool(_cloud_init_packages(root))


def uninstall(root: Root) -> None:
    """Take away everything that install, the module and Python (what it compiled) have put into an image."""
    unregister(root)
    for folder in _python_folders(root):
        _take_module_from(root, folder)
    if not any(folder.startswith("/usr/lib") and _has_owner(root, folder) for folder in _python_folders(root)):
        root.remove(_COMMAND)
    # /run of a root that is not booted is kept.
    root.remove("/run/ssh-keepalive.lock")
    for folder, written in _WRITTEN:
        for name in root.names(folder):
            if name == written or name.startswith("." + written + "."):
                root.remove("{}/{}".format(folder, name))
    if root.exists(_MAIN):
        main = root.read(_MAIN).decode("utf-8", "surrogateescape")
        bare = sshd_config.without_block(main)
        if bare != main:
            mode = stat.S_IMODE(os.stat(root.real(_MAIN)).st_mode)
            root.write(_MAIN, bare.encode("utf-8", "surrogateescape"), mode)


def _take_module_from(root: Root, folder: str) -> None:
    """Take what install and Python have put into a folder of packages, unless pip's or a package's own is there."""
    if _has_owner(root, folder):
        return
    root.remove("{}/{}.py".format(folder, _MODULE))
    root.remove("{}/{}".format(folder, _PACKAGE))
    compiled = folder + "/__pycache__"
    ours = [name for name in root.names(compiled) if name.startswith(_MODULE + ".")]
    for name in ours:
        root.remove("{}/{}".format(compiled, name))
    if ours and not root.names(compiled):
        root.remove(compiled)
    copy = "{}/{}{}".format(folder, _SCHEMA_FILE, ORIGINAL)
    if root.exists(copy) and not _has_cloud_init(root, folder):
        # cloud-init has moved to another Python, and its package could not remove folders with a file of ours.
        root.remove(copy)
        for emptied in ("cloudinit/config/schemas", "cloudinit/config", "cloudinit"):
            if not root.names("{}/{}".format(folder, emptied)):
                root.remove("{}/{}".format(folder, emptied))


def _copy(root: Root, name: str, folder: str) -> None:
    with open(os.path.join(_SOURCE, name), "rb") as stream:
        root.write("{}/{}".format(folder, name), stream.read())


def _compile(root: Root, folder: str) -> None:
    """Compile the module for the Python that runs this, if the image has that: its first boot need not."""
    python = "python{}.{}".format(*sys.version_info[:2])
    if not any(python in root.names(base) for base in ("/usr/lib", "/usr/lib64")):
        return
    names = [os.path.join(_PACKAGE, name) for name in root.names("{}/{}".format(folder, _PACKAGE))]
    with tempfile.TemporaryDirectory() as scratch:
        for name in (*names, _MODULE + ".py"):
            module, suffix = os.path.splitext(os.path.join(folder, name))
            if suffix != ".py":
                continue
            source, compiled = module + suffix, os.path.join(scratch, "compiled")
            py_compile.compile(root.real(source), compiled, source, doraise=True)
            where, stem = os.path.split(module)
            with open(compiled, "rb") as stream:
                root.write("{}/__pycache__/{}.{}.pyc".format(where, stem, sys.implementation.cache_tag), stream.read())


def _has_cloud_init(root: Root, folder: str) -> bool:
    return root.exists(folder + "/cloudinit/version.py")


def _has_owner(root: Root, folder: str) -> bool:
    return any(name.startswith(_OWNERS_MARK) for name in root.names(folder))


def _python_folders(root: Root) -> Iterable[str]:
    """Yield the folders in which the image's Pythons look for packages, each once."""
    seen = set()
    for base in ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64"):
        for python in root.names(base):
            for kind in ("dist-packages", "site-packages"):
                folder = "{}/{}/{}".format(base, python, kind)
                if re.match(r"python3(\.[0-9]+)?$", python) and root.real(folder) not in seen:
                    seen.add(root.real(folder))
                    yield folder


def _cloud_init_packages(root: Root) -> List[str]:
    return [folder for folder in _python_folders(root) if _has_cloud_init(root, folder)]


def _cloud_init_package(root: Root) -> str:
    """Return the folder that holds the image's cloud-init."""
    folders = _cloud_init_packages(root)
    if not folders:
        raise ImageError("no cloud-init in /usr/lib/python3* or /usr/local/lib/python3*, install it first")
    if len(folders) > 1:
        raise ImageError("more than one cloud-init, remove all but one: {}".format(", ".join(folders)))
    return folders[0]


def _shebang(root: Root) -> bytes:
    for command in ("/usr/bin/cloud-init", "/usr/local/bin/cloud-init"):
        if root.exists(command):
            line = root.read(command).split(b"\n", 1)[0]
            if line.startswith(b"#!") and b"python" in line:
                return line + b"\n"
            raise ImageError("{}: starts with no Python's #! line".format(command))
    raise ImageError("/usr/bin/cloud-init: not in the image, install cloud-init first")


def _registered(root: Root, folder: str) -> Tuple[Optional[str], str]:
    """Return what cloud-init's schema, if it has one, and the file with the list of modules are to hold."""
    original = _original(root, "{}/{}".format(folder, _SCHEMA_FILE))
    schema = None
    if original is not None:
        subschema = policy.load_schema()["properties"][policy.KEY]
        schema = registration.with_key(root.read(original).decode(), subschema)
    return schema, registration.list_text(_list_with_module(root))


def _land(root: Root, folder: str, schema: Optional[str], modules: str) -> None:
    file = "{}/{}".format(folder, _SCHEMA_FILE)
    if schema is not None:
        if root.exists(file) and not _has_key(root, file):
            root.link(file, file + ORIGINAL)
        root.write(file, schema.encode())
    if root.exists(_CLEAN_D):
        root.write(_CLEAN_FILE, _CLEAN_SCRIPT.encode(), 0o755)
    # Last: a module that is listed must be there, or cloud-init complains at every boot.
    root.write(_LIST_FILE, modules.encode())


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
        return registration.has_key(root.read(file).decode())
    except ValueError as error:
        raise ImageError("{}: not cloud-init's schema, install cloud-init again: {}".format(file, error)) from error


def _list_with_module(root: Root) -> List[Any]:
    """Return the list of modules for the image's network stage: the one that is in effect without us, and ours."""
    for path in (_CLOUD_CFG, _CLOUD_CFG_D):
        if not root.exists(path):
            raise ImageError("{}: not in the image, install cloud-init first".format(path))
    files = ["{}/{}".format(_CLOUD_CFG_D, name) for name in root.names(_CLOUD_CFG_D) if name.endswith(".cfg")]
    source: Optional[str] = None
    modules: Any = None
    for file in [_CLOUD_CFG, *files]:
        config = _load(root, file)
        if file != _LIST_FILE and registration.LIST in config:
            source, modules = file, config[registration.LIST]
    if source is None or not isinstance(modules, list):
        raise ImageError("{}: no list of {}".format(source or _CLOUD_CFG, registration.LIST))
    if source > _LIST_FILE:
        message = "{}: its {} would replace ours, rename it to sort before {}"
        raise ImageError(message.format(source, registration.LIST, os.path.basename(_LIST_FILE)))
    try:
        return registration.with_module(modules)
    except ValueError as error:
        raise ImageError("{}: {}".format(source, error)) from error


def _load(root: Root, file: str) -> Dict[str, Any]:
    import yaml

    try:
        config = yaml.safe_load(root.read(file))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ImageError("{}: {}".format(file, " ".join(str(error).split()))) from error
    return config if isinstance(config, dict) else {}
