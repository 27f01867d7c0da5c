# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The root of an image that carries the module."""

import contextlib
import errno
import os
import re
import shutil
import stat
from typing import Any, Dict, Iterable, List, Optional

from . import dropin

_CLOUD_CFG = "/etc/cloud/cloud.cfg"
_CLOUD_CFG_D = "/etc/cloud/cloud.cfg.d"
# Read in the order of their names; the last list of modules replaces all others (util.py, read_conf_with_confd).
_LIST_FILE = "99_zz_ssh_keepalive.cfg"
_LIST = "cloud_init_modules"
_COMMAND = "/usr/bin/ssh-keepalive"
_PACKAGE = "ssh_keepalive"
_MODULE = "cc_ssh_keepalive"

_SOURCE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class ImageError(Exception):
    """Say why the module cannot be put into an image, or taken out; what was done so far is undone by uninstall."""


class Root:
    """Own the files below one folder, as if it were /: no path and no symbolic link leads out of it."""

    def __init__(self, folder: str) -> None:
        self._folder = os.path.realpath(folder)
        if not os.path.isdir(self._folder):
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
        new = os.path.join(folder, ".{}.new".format(os.path.basename(file)))
        self._unlink(new)
        with open(new, "xb") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(content)
        os.rename(new, file)

    def remove(self, path: str) -> None:
        """Remove a file or a folder with all that it holds, if it is there; a link is removed, not followed."""
        file = self.real(path, follow=False)
        if os.path.isdir(file) and not os.path.islink(file):
            shutil.rmtree(file)
        else:
            self._unlink(file)

    @staticmethod
    def _unlink(file: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(file)


def install(root: Root) -> None:
    """Put module, package, schema and command into an image and have its cloud-init run the module.

    Nothing of the image is executed. Raise ImageError if it has no cloud-init that can run the module.
    """
    packages = _cloud_init_packages(root)
    if len(packages) != 1:
        found = ", ".join(packages) or "none in /usr/lib/python3*, /usr/local/lib/python3*"
        raise ImageError("the image must have one cloud-init, found {}: install cloud-init first".format(found))
    shebang = _shebang(root)
    modules = _list_in_effect(root)

    for name in sorted(os.listdir(os.path.join(_SOURCE, _PACKAGE))):
        if not name.startswith("__pycache__"):
            _copy(root, os.path.join(_PACKAGE, name), packages[0])
    _copy(root, _MODULE + ".py", packages[0])
    root.write(_COMMAND, shebang + b"import sys\n\nfrom ssh_keepalive.cli import main\n\nsys.exit(main())\n", 0o755)
    # Last: a module that is listed must be there, or cloud-init complains at every boot.
    root.write("{}/{}".format(_CLOUD_CFG_D, _LIST_FILE), _list_text(_with_ours(modules)).encode())


def uninstall(root: Root) -> None:
    """Take away everything that install, the module and Python (what it compiled) have put into an image."""
    root.remove("{}/{}".format(_CLOUD_CFG_D, _LIST_FILE))
    for folder in _python_folders(root):
        root.remove("{}/{}.py".format(folder, _MODULE))
        root.remove("{}/{}".format(folder, _PACKAGE))
        compiled = folder + "/__pycache__"
        ours = [name for name in root.names(compiled) if name.startswith(_MODULE + ".")]
        for name in ours:
            root.remove("{}/{}".format(compiled, name))
        if ours and not root.names(compiled):
            root.remove(compiled)
    root.remove(_COMMAND)
    for name in root.names("/etc/ssh/sshd_config.d"):
        if name == dropin.NAME or name.startswith("." + dropin.NAME + "."):
            root.remove("/etc/ssh/sshd_config.d/" + name)


def _copy(root: Root, name: str, folder: str) -> None:
    with open(os.path.join(_SOURCE, name), "rb") as stream:
        root.write("{}/{}".format(folder, name), stream.read())


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
    return [folder for folder in _python_folders(root) if root.exists(folder + "/cloudinit/version.py")]


def _shebang(root: Root) -> bytes:
    for command in ("/usr/bin/cloud-init", "/usr/local/bin/cloud-init"):
        if root.exists(command):
            line = root.read(command).split(b"\n", 1)[0]
            if line.startswith(b"#!") and b"python" in line:
                return line + b"\n"
            raise ImageError("{}: starts with no Python's #! line".format(command))
    raise ImageError("/usr/bin/cloud-init: not in the image, install cloud-init first")


def _list_in_effect(root: Root) -> List[Any]:
    """Return the list of modules that the image's cloud-init runs in its network stage without us."""
    if not root.exists(_CLOUD_CFG):
        raise ImageError("{}: not in the image, install cloud-init first".format(_CLOUD_CFG))
    files = ["{}/{}".format(_CLOUD_CFG_D, name) for name in root.names(_CLOUD_CFG_D) if name.endswith(".cfg")]
    ours = "{}/{}".format(_CLOUD_CFG_D, _LIST_FILE)
    source: Optional[str] = None
    modules: Any = None
    for file in [_CLOUD_CFG, *files]:
        config = _load(root, file)
        if file != ours and _LIST in config:
            source, modules = file, config[_LIST]
    if source is None or not isinstance(modules, list):
        raise ImageError("{}: no list of {}".format(source or _CLOUD_CFG, _LIST))
    if source > ours and source != _CLOUD_CFG:
        raise ImageError("{}: its {} would replace ours, rename it to sort before {}".format(source, _LIST, _LIST_FILE))
    if "ssh" not in map(_module_name, modules):
        raise ImageError("{}: {} has no ssh, sshd would get no host keys".format(source, _LIST))
    return modules


def _load(root: Root, file: str) -> Dict[str, Any]:
    import yaml

    try:
        config = yaml.safe_load(root.read(file))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ImageError("{}: {}".format(file, " ".join(str(error).split()))) from error
    return config if isinstance(config, dict) else {}


def _module_name(entry: Any) -> str:
    """Return the name in an entry of a module list: `users-groups`, `[ssh, always]` or `{name: ssh}`."""
    if isinstance(entry, dict):
        entry = entry.get("name")
    if isinstance(entry, list):
        entry = entry[0] if entry else None
    return re.sub("^cc_|[.]py$", "", str(entry).strip().replace("-", "_").lower())


def _with_ours(modules: List[Any]) -> List[Any]:
    """Return a list with our module after ssh (it makes host keys) and set_passwords (it edits sshd's files)."""
    names = [_module_name(entry) for entry in modules]
    if _PACKAGE in names:
        return modules
    after = max(index for index, name in enumerate(names) if name in ("ssh", "set_passwords"))
    # A list as entry: 22.4 to 23.3 hold plain names against those that they know.
    return [*modules[: after + 1], [_PACKAGE], *modules[after + 1 :]]


def _list_text(modules: List[Any]) -> str:
    import yaml

    return (
        "# Written by ssh-keepalive install: the image's own list with ssh_keepalive in it, since a list in this\n"
        "# folder replaces the one in cloud.cfg. Install again when cloud-init was upgraded.\n"
    ) + yaml.safe_dump({_LIST: modules}, default_flow_style=None)
