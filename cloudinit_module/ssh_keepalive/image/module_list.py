# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The list of modules that cloud-init runs before sshd starts."""

import re
from typing import Any, List

from ..policy import KEY

LIST = "cloud_init_modules"


def module_name(entry: Any) -> str:
    """Return the name in an entry of a module list: `users-groups`, `[ssh, always]` or `{name: ssh}`."""
    if isinstance(entry, dict):
        entry = entry.get("name")
    if isinstance(entry, list):
        entry = entry[0] if entry else None
    return re.sub("^cc_|[.]py$", "", str(entry).strip().replace("-", "_").lower())


def with_module(modules: List[Any]) -> List[Any]:
    """Return a list with our module after ssh (it makes host keys) and set_passwords (it edits sshd's files).

    Raise ValueError if ssh is not in it.
    """
    modules = [entry for entry in modules if module_name(entry) != KEY]
    names = [module_name(entry) for entry in modules]
    if "ssh" not in names:
        raise ValueError(f"{LIST} has no ssh, sshd would get no host keys")
    after = max(index for index, name in enumerate(names) if name in ("ssh", "set_passwords"))
    # A list as entry: 22.4 to 23.3 hold plain names against those that they know, not with ours right after an upgrade.
    return [*modules[: after + 1], [KEY], *modules[after + 1 :]]


def list_text(modules: List[Any]) -> str:
    """Return the text of a file in cloud.cfg.d that makes cloud-init run these modules."""
    import yaml

    return (
        "# Written by ssh-keepalive: the image's own list with ssh_keepalive in it, since a list in this folder\n"
        "# replaces the one in cloud.cfg. Run ssh-keepalive register when cloud-init was upgraded.\n"
    ) + yaml.safe_dump({LIST: modules}, default_flow_style=None)
