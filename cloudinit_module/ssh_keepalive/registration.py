# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The registration of the module with cloud-init, as changes to cloud-init's own list of modules and JSON schema."""

import json
import re
from typing import Any, Dict, List

from .policy import KEY

LIST = "cloud_init_modules"

_DEFINITION = "cc_" + KEY
_REFERENCE = {"$ref": "#/$defs/" + _DEFINITION}
_SPELLINGS = [KEY.replace("_", "-"), KEY]


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


def has_key(text: str) -> bool:
    """Return whether a schema of cloud-init knows our key; raise ValueError if it is none."""
    return _DEFINITION in _parsed(text)["$defs"]


def with_key(text: str, subschema: Dict[str, Any]) -> str:
    """Return a schema of cloud-init's that holds our key against a subschema; raise ValueError if it is none."""
    schema = _parsed(text)
    _take_out(schema)
    schema["$defs"][_DEFINITION] = {"type": "object", "properties": {KEY: subschema}}
    schema["allOf"].append(_REFERENCE)
    _module_names(schema).extend(_SPELLINGS)
    if "properties" in schema:  # since 23.4, where every other key is refused
        schema["properties"][KEY] = {}
    return _formatted(schema, text)


def without_key(text: str) -> str:
    """Return a schema of cloud-init's that does not know our key; raise ValueError if it is none."""
    schema = _parsed(text)
    return _formatted(schema, text) if _take_out(schema) else text


def _parsed(text: str) -> Dict[str, Any]:
    schema = json.loads(text)
    kinds = (type(schema.get("$defs")), type(schema.get("allOf"))) if isinstance(schema, dict) else ()
    if kinds != (dict, list):
        raise ValueError("it has no $defs or no allOf")
    result: Dict[str, Any] = schema
    return result


def _take_out(schema: Dict[str, Any]) -> bool:
    """Take our entries out of a schema and return whether there was one."""
    if schema["$defs"].pop(_DEFINITION, None) is None:
        return False
    schema["allOf"] = [entry for entry in schema["allOf"] if entry != _REFERENCE]
    schema.get("properties", {}).pop(KEY, None)
    for name in _SPELLINGS:
        if name in _module_names(schema):
            _module_names(schema).remove(name)
    return True


def _module_names(schema: Dict[str, Any]) -> List[Any]:
    """Return the names that a list of modules may have, as part of the schema from 22.4 on."""
    names: List[Any] = schema["$defs"].get("all_modules", {}).get("enum", [])
    return names


def _formatted(schema: Dict[str, Any], like: str) -> str:
    """Return a schema as text; for a file of cloud-init 22.4 to 26.2 only what was changed differs."""
    ascii_only = len(like) == len(like.encode())
    end = "\n" if like.endswith("\n") else ""
    return json.dumps(schema, indent=2, ensure_ascii=ascii_only) + end
