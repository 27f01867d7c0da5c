# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The lists of modules that cloud-init runs, one for each of its stages."""

import re
from typing import Any

from .policy import KEY

# The network stage's is the one in which images have the module; cloud-init runs it from any of them.
LIST = "cloud_init_modules"
LISTS = (LIST, "cloud_config_modules", "cloud_final_modules")


def module_name(entry: Any) -> str:
    """Return the name in an entry of a module list: `users-groups`, `[ssh, always]` or `{name: ssh}`."""
    if isinstance(entry, dict):
        entry = entry.get("name")
    if isinstance(entry, list):
        entry = entry[0] if entry else None
    return re.sub("^cc_|[.]py$", "", str(entry).strip().replace("-", "_").lower())


def has_module(modules: Any) -> bool:
    """Return whether a list of modules has ours; anything but a list has none."""
    return isinstance(modules, list) and KEY in map(module_name, modules)
