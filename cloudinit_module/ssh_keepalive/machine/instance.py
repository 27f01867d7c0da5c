# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""What cloud-init's configuration asks of this machine, and where it says so."""

import json
import os
import re
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from .. import paths
from ..module_lists import LIST, LISTS, has_module
from ..policy import KEY
from .host import Host

if TYPE_CHECKING:
    from .misreading import Misreading

# What stands later overrides, key by key: cloudinit/stages.py, fetch_base_config, and helpers.py, ConfigMerger.
_COMMAND_LINE = "the kernel's command line"
# What cloud-init was handed, and what it has made of all parts of that
_DATA = (
    ("vendor-data", "vendor-data.txt", "vendor-cloud-config.txt"),
    ("vendor-data2", "vendor-data2.txt", "vendor2-cloud-config.txt"),
    ("user-data", "user-data.txt", "cloud-config.txt"),
)
_SEMAPHORE = f"{paths.INSTANCE}/sem/config_{KEY}"
# Of this boot; cloud-init's result.json has the same errors once its final stage is over.
_STATUS = paths.RUNTIME_CFG_FOLDER + "/status.json"


class Failure(NamedTuple):
    """Hold why the module has failed at this boot, and when that was written down, in seconds since the epoch."""

    reason: str
    at: float


class Request(NamedTuple):
    """Hold what cloud-init's configuration asks for on this instance.

    `section` is what the module gets, `sources` where it comes from (the first overrides the others), and `failure` how
    the module failed. `misreadings` are sections that cloud-init has ignored. `unlisted` says why cloud-init does not
    run the module on this instance, whatever the image's list is; "" if it does.
    """

    section: Any
    sources: Tuple[str, ...]
    failure: Optional[Failure] = None
    misreadings: "Tuple[Misreading, ...]" = ()
    unlisted: str = ""


class _Source(NamedTuple):
    """Hold a text of the configuration, None if there is none, and the file that it was made from, if any."""

    name: str
    content: Optional[bytes]
    handed: str = ""


def request(host: Host) -> Request:
    """Return what is asked of a machine; OSError if that cannot be read, as by anybody but root."""
    section: Any = None
    names: Tuple[str, ...] = ()
    misreadings: List[Misreading] = []
    image, base, data = list(_image(host)), list(_base(host)), list(_data(host))
    for source in (*image, *base, *data):
        config = _load(source, KEY)
        if KEY not in config:
            found = _misreading(source, (*image, *base))
            misreadings += [found] if found else []
            continue
        is_merged = isinstance(section, dict) and isinstance(config[KEY], dict)
        section = {**section, **config[KEY]} if is_merged else config[KEY]
        names = (source.name, *names) if is_merged else (source.name,)
    return Request(section, names, _failure(host), tuple(misreadings), _unlisted((*base, *data)))


def has_run(host: Host) -> bool:
    """Return whether cloud-init has run the module on this instance."""
    return os.path.exists(host.at(_SEMAPHORE))


def began(host: Host) -> Optional[float]:
    """Return when cloud-init first had this instance's data, in seconds since the epoch, None without an instance."""
    try:
        return os.stat(host.at(f"{paths.INSTANCE}/sem/consume_data")).st_mtime
    except OSError:
        return None


def _failure(host: Host) -> Optional[Failure]:
    """Return how the module failed when cloud-init last ran all modules, None if it did not."""
    file = host.at(_STATUS)
    try:
        at = os.stat(file).st_mtime
        with open(file, encoding="utf-8") as stream:
            stages = [stage for stage in json.load(stream)["v1"].values() if isinstance(stage, dict)]
        errors = [str(error) for stage in stages for error in stage["errors"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    for error in errors:
        if KEY in error:
            # cloud-init writes repr() of its name and the exception.
            found = re.search(r"""Error\((["'])(.*)\1,?\)""", error, re.DOTALL)
            return Failure(found.group(2) if found else error, at)
    return None


def _misreading(source: _Source, configuration: Sequence[_Source]) -> "Optional[Misreading]":
    """Return what cloud-init was handed and has not taken."""
    handed = _read(source.handed) if source.handed else None
    if not handed or (KEY.encode() not in handed and handed.lstrip().startswith(b"#")):
        # Most is plain text without a section.
        return None
    refusal = ""
    if source.content is None:
        # It takes nothing of vendor-data if its configuration says so, and that is that.
        refusal = _refusal(configuration) if source.name == "user-data" else ""
        if not refusal:
            return None
    from . import misreading

    return misreading.find(source.name, source.handed, handed, bool(_load(source, "")), refusal)


def _refusal(configuration: Sequence[_Source]) -> str:
    """Return which file of a machine's own configuration has cloud-init take no user-data, "" for none."""
    for source in reversed(configuration):
        config = _load(source, "allow_userdata")
        if "allow_userdata" in config:
            return "" if config["allow_userdata"] else f"{source.name} has allow_userdata: false"
    return ""


def _unlisted(above_image: Sequence[_Source]) -> str:
    """Return who replaces the image's list of modules by one without ours, "" for nobody."""
    lists: Dict[str, bool] = {}
    by: Optional[_Source] = None
    for source in above_image:
        config = _load(source, LIST)
        if config:
            lists.update({name: has_module(config[name]) for name in LISTS if name in config})
            by = source if LIST in config else by
    if by is None or any(lists.values()):
        return ""
    place = ""
    handed = _read(by.handed) if by.handed else None
    if handed:
        from . import misreading

        place = f", {misreading.place_of_list(by.handed, handed)},"
    return f"{by.name}{place} names {LIST} without {KEY}"


def _image(host: Host) -> Iterator[_Source]:
    main, folder = host.at(paths.CLOUD_CFG), host.at(paths.CLOUD_CFG_FOLDER)
    yield _Source(main, _read(main))
    if os.path.isdir(folder):
        for name in sorted(os.listdir(folder)):
            file = os.path.join(folder, name)
            # cloud-init passes over a folder of such a name, too.
            if name.endswith(".cfg") and os.path.isfile(file):
                yield _Source(file, _read(file))


def _base(host: Host) -> Iterator[_Source]:
    runtime = host.at(paths.RUNTIME_CFG)
    yield _Source(runtime, _read(runtime))
    yield _Source(_COMMAND_LINE, _command_line(host))


def _data(host: Host) -> Iterator[_Source]:
    for name, handed, made in _DATA:
        folder = host.at(paths.INSTANCE)
        yield _Source(name, _read(os.path.join(folder, made)), os.path.join(folder, handed))


def _command_line(host: Host) -> bytes:
    """Return the configuration in the kernel's command line (cloudinit/util.py, read_cc_from_cmdline)."""
    # systemd says so of a container, where that of process 1 counts.
    is_container = os.path.exists(host.at("/run/systemd/container"))
    file = host.at("/proc/1/cmdline" if is_container else "/proc/cmdline")
    words = (_read(file) or b"").decode("utf-8", "replace").replace("\0", " ").strip()
    found = re.findall(r"(?:^| )cc:\s*(.*?)(?:end_cc|$)", words, re.DOTALL)
    if not found:
        return b""
    from urllib.parse import unquote

    return "\n".join(unquote(one).replace("\\n", "\n") for one in found).encode()


def _read(file: str) -> Optional[bytes]:
    try:
        with open(file, "rb") as stream:
            return stream.read()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _load(source: _Source, key: str) -> Dict[str, Any]:
    """Return what a text that may have a key says."""
    content = source.content or b""
    if key.encode() not in content:
        # Most do not have it, and PyYAML takes its time.
        return {}
    import yaml

    try:
        config = yaml.safe_load(content)
    except (yaml.YAMLError, ValueError, TypeError):
        # cloud-init ignores it, too.
        return {}
    return config if isinstance(config, dict) else {}
