# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The list of modules that cloud-init runs before sshd starts."""

import re
from typing import Any, Iterable, List, NamedTuple, Optional, Tuple

from ..module_lists import LIST, has_module, module_name
from ..paths import CLOUD_CFG, CLOUD_CFG_FOLDER, MODULE_LIST, REGISTER_UNIT
from ..policy import KEY
from .root import ImageError, Root

_HEADER = f"""\
# Written by ssh-keepalive: the image's own list with {KEY} in it, since a list in this folder replaces the one
# in cloud.cfg. Run ssh-keepalive register when that was changed; {REGISTER_UNIT} does so at each boot.
"""


class ModuleList(NamedTuple):
    """Hold a list with our module in it, the file that would override it in ours, and others that cannot be read."""

    modules: List[Any]
    overridden_by: Optional[str]
    unread: Tuple[str, ...]


def sources(root: Root) -> List[Tuple[str, bytes]]:
    """Return the files of cloud-init's that name a list, with what they hold, in the order in which it reads them.

    Others are of no interest: most images get some, and not all of them are YAML.
    """
    names = [name for name in root.names(CLOUD_CFG_FOLDER) if name.endswith(".cfg")]
    files = [CLOUD_CFG, *(f"{CLOUD_CFG_FOLDER}/{name}" for name in names)]
    found = [(file, root.read(file)) for file in files if file != MODULE_LIST and root.is_file(file)]
    return [(file, content) for file, content in found if LIST.encode() in content]


def find(root: Root) -> ModuleList:
    """Return the list that an image's configuration makes without ours, with our module; ImageError if there is none.

    The last list in it replaces all others (util.py, read_conf_with_confd).
    """
    for path in (CLOUD_CFG, CLOUD_CFG_FOLDER):
        if not root.exists(path):
            raise ImageError(f"{path}: not in the image, install cloud-init first")
    source, modules = CLOUD_CFG, None
    unread = []
    for file, content in sources(root):
        try:
            config = _load(content)
        except ValueError as error:
            unread.append(f"{file}: what it says of {LIST} is left out: {error}")
            continue
        if LIST in config:
            source, modules = file, config[LIST]
            if {"merge_how", "merge_type"} & set(config):
                unread.append(f"{file}: its merge_how has cloud-init run its {LIST} beside ours, twice: take that out")
    if not isinstance(modules, list):
        raise ImageError("; ".join([f"{source}: no list of {LIST}", *unread]))
    is_overridden = source > MODULE_LIST and not has_module(modules)
    return ModuleList(with_module(modules), source if is_overridden else None, tuple(unread))


def _load(content: bytes) -> Any:
    """Return the configuration in a file; raise ValueError for what cloud-init ignores, or alone can render."""
    import yaml

    # Of a template much is YAML as it is, and what is not differs from what it will be.
    is_template = re.match(rb"## *template: *jinja", content) is not None
    try:
        config = yaml.safe_load(content)
    # PyYAML raises ValueError for a date like 2024-13-45, and UnicodeDecodeError is one.
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise ValueError("it is a template" if is_template else " ".join(str(error).split())) from error
    if not isinstance(config, dict):
        return {}
    if is_template and re.search("{[{%]", str(config.get(LIST))):
        raise ValueError("it is a template")
    return config


def with_module(modules: List[Any]) -> List[Any]:
    """Return a list with our module after ssh (it makes host keys) and set_passwords (it edits sshd's files).

    Where neither is in it, as where host keys are made by others, it comes last.
    """
    modules = [entry for entry in modules if module_name(entry) != KEY]
    names = [module_name(entry) for entry in modules]
    found = [index for index, name in enumerate(names) if name in ("ssh", "set_passwords")]
    after = max(found, default=len(names) - 1)
    # A list as entry: 22.4 to 23.3 hold plain names against those that they know, not with ours right after an upgrade.
    return [*modules[: after + 1], [KEY], *modules[after + 1 :]]


def list_text(modules: List[Any], lines: Iterable[str] = ()) -> str:
    """Return the text of a file in cloud.cfg.d that makes cloud-init run these modules.

    `lines` are comments that tell what it was made from; without them it counts as out of date.
    """
    return "".join([_HEADER, *(f"{line}\n" for line in lines), _body(modules)])


def holds_list(text: str, modules: List[Any]) -> bool:
    """Return whether a text has the list of these modules as list_text writes it, whatever it was made from."""
    return _HEADER in text and "\n" + _body(modules) in text


def _body(modules: List[Any]) -> str:
    import yaml

    body: str = yaml.safe_dump({LIST: modules}, default_flow_style=None)
    return body
