# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The JSON schema that cloud-init holds user-data against."""

import json
from typing import Any, Dict, Iterable, List

from ..policy import KEY

_DEFINITION = "cc_" + KEY
_REFERENCE = {"$ref": "#/$defs/" + _DEFINITION}
_SPELLINGS = [KEY.replace("_", "-"), KEY]


def has_key(text: str) -> bool:
    """Return whether a schema of cloud-init knows our key; raise ValueError if it is none."""
    return _DEFINITION in _parsed(text)["$defs"]


def with_key(text: str, subschema: Dict[str, Any]) -> str:
    """Return a schema of cloud-init's that holds our key against a subschema; raise ValueError if it is none.

    Entries of ours that are there already stay in their places: what is behind them has come after them.
    """
    schema = _parsed(text)
    schema["$defs"][_DEFINITION] = {"type": "object", "properties": {KEY: subschema}}
    _add(schema["allOf"], [_REFERENCE])
    _add(_module_names(schema), _SPELLINGS)
    if "properties" in schema:  # since 23.4, where every other key is refused
        schema["properties"][KEY] = {}
    return _formatted(schema, text)


def with_additions(text: str, registered: str) -> str:
    """Return a schema of cloud-init's with what others have laid into an older one, behind our key."""
    schema, older = _parsed(text), _parsed(registered)
    references = _behind(older["allOf"], _REFERENCE)
    # What they refer to as well, wherever that is: cloud-init fails with a reference to what is not there.
    names = [entry["$ref"].rpartition("/")[2] for entry in references if "$ref" in entry]
    names += _behind(older["$defs"], _DEFINITION)
    for name in names:
        if name in older["$defs"]:
            schema["$defs"].setdefault(name, older["$defs"][name])
    _add(schema["allOf"], references)
    _add(_module_names(schema), _behind(_module_names(older), _SPELLINGS[-1]))
    for key in _behind(older.get("properties", {}), KEY) if "properties" in schema else ():
        schema["properties"].setdefault(key, older["properties"][key])
    return _formatted(schema, text)


def without_key(text: str) -> str:
    """Return a schema of cloud-init's that does not know our key; raise ValueError if it is none."""
    schema = _parsed(text)
    _take_out(schema)
    return _formatted(schema, text)


def is_same(text: str, other: str) -> bool:
    """Return whether two schemas differ in their format at most."""
    return _parsed(text) == _parsed(other)


def _parsed(text: str) -> Dict[str, Any]:
    schema = json.loads(text)
    kinds = (type(schema.get("$defs")), type(schema.get("allOf"))) if isinstance(schema, dict) else ()
    if kinds != (dict, list):
        raise ValueError("it has no $defs or no allOf")
    result: Dict[str, Any] = schema
    return result


def _take_out(schema: Dict[str, Any]) -> None:
    """Take our entries out of a schema."""
    schema["$defs"].pop(_DEFINITION, None)
    schema["allOf"] = [entry for entry in schema["allOf"] if entry != _REFERENCE]
    schema.get("properties", {}).pop(KEY, None)
    for name in _SPELLINGS:
        if name in _module_names(schema):
            _module_names(schema).remove(name)


def _add(entries: List[Any], new: Iterable[Any]) -> None:
    entries.extend([entry for entry in new if entry not in entries])


def _behind(entries: Iterable[Any], ours: Any) -> List[Any]:
    found = list(entries)
    return found[found.index(ours) + 1 :] if ours in found else []


def _module_names(schema: Dict[str, Any]) -> List[Any]:
    """Return the names that a list of modules may have, as part of the schema from 22.4 on."""
    names: List[Any] = schema["$defs"].get("all_modules", {}).get("enum", [])
    return names


def _formatted(schema: Dict[str, Any], like: str) -> str:
    """Return a schema as text; for a file of cloud-init 22.4 to 26.2 only what was changed differs."""
    if schema == json.loads(like):
        return like
    ascii_only = len(like) == len(like.encode())
    end = "\n" if like.endswith("\n") else ""
    return json.dumps(schema, indent=2, ensure_ascii=ascii_only) + end
