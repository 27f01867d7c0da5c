# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""What cloud-init's configuration asks of this machine, and where it says so."""

import json
import os
import re
from typing import Any, Dict, Iterator, NamedTuple, Optional, Tuple

from ..policy import KEY

# What stands later wins, key by key: cloudinit/stages.py, _initialize_config and fetch_base_config. Of user-data and
# vendor-data these are what cloud-init has made of all their parts.
_IMAGE = ("etc/cloud/cloud.cfg", "etc/cloud/cloud.cfg.d")
_INSTANCE = (
    ("vendor-data", "var/lib/cloud/instance/vendor-cloud-config.txt"),
    ("vendor-data2", "var/lib/cloud/instance/vendor2-cloud-config.txt"),
    ("user-data", "var/lib/cloud/instance/cloud-config.txt"),
)
_RESULT = "run/cloud-init/result.json"


class Failure(NamedTuple):
    """Hold why the module has failed at this boot, and when that was written down, in seconds since the epoch."""

    reason: str
    at: float


class Request(NamedTuple):
    """Hold the section that the module gets, who has a say in it (the last one first), and how the module failed."""

    section: Any
    sources: Tuple[str, ...]
    failure: Optional[Failure] = None


def request(root: str = "/") -> Request:
    """Return what is asked of a machine; OSError if that cannot be read, as by anybody but root."""
    section: Any = None
    sources: Tuple[str, ...] = ()
    for source, file in _files(root):
        config = _load(file)
        if KEY not in config:
            continue
        is_merged = isinstance(section, dict) and isinstance(config[KEY], dict)
        section = {**section, **config[KEY]} if is_merged else config[KEY]
        sources = (source, *sources) if is_merged else (source,)
    return Request(section, sources, _failure(root))


def _failure(root: str) -> Optional[Failure]:
    """Return how the module failed when cloud-init last ran all modules, None if it did not."""
    file = os.path.join(root, _RESULT)
    try:
        at = os.stat(file).st_mtime
        with open(file, encoding="utf-8") as stream:
            errors = json.load(stream)["v1"]["errors"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    for error in map(str, errors):
        if KEY in error:
            # cloud-init writes repr() of its name and the exception.
            found = re.search(r"""Error\((["'])(.*)\1,?\)""", error, re.DOTALL)
            return Failure(found.group(2) if found else error, at)
    return None


def _files(root: str) -> Iterator[Tuple[str, str]]:
    main, folder = (os.path.join(root, path) for path in _IMAGE)
    yield main, main
    if os.path.isdir(folder):
        for name in sorted(os.listdir(folder)):
            if name.endswith(".cfg"):
                yield os.path.join(folder, name), os.path.join(folder, name)
    for source, path in _INSTANCE:
        yield source, os.path.join(root, path)


def _load(file: str) -> Dict[str, Any]:
    try:
        with open(file, "rb") as stream:
            content = stream.read()
    except FileNotFoundError:
        return {}
    if KEY.encode() not in content:
        # Most do not have it, and PyYAML takes its time.
        return {}
    import yaml

    try:
        config = yaml.safe_load(content)
    except (yaml.YAMLError, ValueError, TypeError):
        # cloud-init ignores it, too.
        return {}
    return config if isinstance(config, dict) else {}
