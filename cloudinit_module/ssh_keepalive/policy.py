# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The policy that a section of user-data asks for."""

import difflib
import json
import os
import re
import reprlib
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

KEY = "ssh_keepalive"
SCHEMA_FILE = os.path.join(os.path.dirname(__file__), "ssh-keepalive.schema.json")

# What the how-to articles promise for ClientAliveInterval 60 and ClientAliveCountMax 3.
DEFAULT_UNRESPONSIVE_TIMEOUT = 180
DEFAULT_CLIENT_ALIVE_COUNT_MAX = 3

# sshd_config(5), TIME FORMATS
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class Policy(NamedTuple):
    """State what a machine is to do; times are in seconds, None leaves sshd's own setting alone."""

    enabled: bool = True
    unresponsive_timeout: Optional[int] = None
    client_alive_interval: Optional[int] = None
    client_alive_count_max: Optional[int] = None
    tcp_keep_alive: Optional[bool] = None

    def section(self) -> Dict[str, Any]:
        """Return the section of user-data that parses to this policy."""
        section = {key: value for key, value in self._asdict().items() if value is not None}
        if self.enabled:
            del section["enabled"]
        return section


class Problem(NamedTuple):
    """Say what is wrong at one place of the section."""

    path: Tuple[str, ...]
    message: str

    def __str__(self) -> str:
        return "{}: {}".format(".".join(self.path), self.message)


class PolicyError(ValueError):
    """Refuse a section; `problems` holds every reason, sorted by path."""

    def __init__(self, problems: List[Problem]) -> None:
        self.problems = sorted(problems)
        # One plain string: cloud-init status shows repr(exception).
        super().__init__("; ".join(map(str, self.problems)))


def parse(section: Any) -> Optional[Policy]:
    """Return the policy that a section asks for, None for one that is null.

    Raise PolicyError with every problem at once.
    """
    if section is None:
        return None
    schema = load_schema()
    if isinstance(section, bool):
        section = {"enabled": section}
    properties = schema["properties"][KEY]["properties"]
    values = section
    if isinstance(section, dict):
        values = {key: _plain(value, properties.get(key, {})) for key, value in section.items()}
    problems = _schema_problems(section, values, schema)
    if isinstance(section, dict):
        problems += _combination_problems({key: value for key, value in section.items() if value is not None})
    if problems:
        raise PolicyError(problems)
    return _policy({key: value for key, value in values.items() if value is not None})


def load_schema() -> Dict[str, Any]:
    """Return the JSON schema (draft 4) of a cloud-config document with our key."""
    with open(SCHEMA_FILE, encoding="utf-8") as stream:
        schema: Dict[str, Any] = json.load(stream)
        return schema


def _plain(value: Any, subschema: Dict[str, Any]) -> Any:
    """Return a time as whole seconds and everything else as it is, for the schema to judge."""
    if isinstance(value, str) and re.search(subschema.get("pattern", "(?!)"), value):
        return sum(int(number) * _UNITS[unit.lower()] for number, unit in re.findall("([0-9]+)([a-zA-Z]?)", value))
    return value


def _policy(values: Dict[str, Any]) -> Policy:
    if not values.get("enabled", True):
        return Policy(enabled=False)
    if not set(values) - {"enabled"}:
        return Policy(unresponsive_timeout=DEFAULT_UNRESPONSIVE_TIMEOUT)
    if "client_alive_interval" in values:
        values.setdefault("client_alive_count_max", DEFAULT_CLIENT_ALIVE_COUNT_MAX)
    return Policy(**values)


def _schema_problems(section: Any, values: Any, schema: Dict[str, Any]) -> List[Problem]:
    # 0.1 s to import, which nobody pays who only looks at a drop-in.
    from jsonschema import Draft4Validator

    top = schema["properties"][KEY]
    problems = {}
    for error in Draft4Validator(schema).iter_errors({KEY: values}):
        if error.validator == "additionalProperties":
            for key in set(section) - set(top["properties"]):
                problems[key] = Problem((KEY, _name(key)), _unknown_key(str(key), top["properties"]))
        elif len(error.path) == 1:
            problems[KEY] = Problem((KEY,), _unexpected(section, top))
        else:
            key = error.path[1]
            problems[key] = Problem((KEY, key), _not_allowed(key, section[key], top["properties"][key]))
    return list(problems.values())


def _not_allowed(key: str, value: Any, subschema: Dict[str, Any]) -> str:
    if _is_reserved(subschema):
        return "{}: not supported by this version, remove it".format(_shown(value))
    message = _unexpected(value, subschema)
    if key == "client_alive_count_max" and value == 0 and value is not False:
        # Commit 69334996a, OpenSSH 8.2
        message += (
            " (with 0 OpenSSH up to 8.1 ends a session at its first silent interval, and since 8.2 never drops any)"
        )
    return message


def _unexpected(value: Any, subschema: Dict[str, Any]) -> str:
    example = json.dumps(subschema["examples"][0]).replace('"', "")
    return "{}: expected {}, for example {}".format(_shown(value), subschema["title"], example)


def _shown(value: Any) -> str:
    """Return a value in one line of bearable length."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = 60
    return short.repr(value)


def _name(key: Any) -> str:
    """Return a key as part of a path, as it is unless that would spoil the line."""
    return str(key) if re.match(r"[\w-]{1,60}$(?!\n)", str(key)) else _shown(key)


def _is_reserved(subschema: Dict[str, Any]) -> bool:
    # Not by "not": cloud-init 24.4 to 25.2 holds user-data against this schema, too, and stops at that word.
    return bool(subschema["type"] == ["null"])


def _unknown_key(key: str, properties: Dict[str, Any]) -> str:
    squeezed = {_squeeze(name): name for name in properties}
    if _squeeze(key).startswith("serveralive"):
        return (
            "unknown key, ServerAlive* belongs to the client (ssh_config), "
            "the server's side is client_alive_interval and client_alive_count_max"
        )
    close = difflib.get_close_matches(_squeeze(key), squeezed, 1)
    if close:
        return "unknown key, did you mean {}?".format(squeezed[close[0]])
    known = sorted(name for name, subschema in properties.items() if not _is_reserved(subschema))
    return "unknown key, remove it or use one of {}".format(", ".join(known))


def _squeeze(key: str) -> str:
    """Return a key as ClientAliveInterval, client-alive-interval and client_alive_interval have it in common."""
    return re.sub("[-_ ]", "", key).lower()


def _combination_problems(present: Dict[str, Any]) -> List[Problem]:
    pair = [key for key in ("client_alive_interval", "client_alive_count_max") if key in present]
    if "unresponsive_timeout" in present and pair:
        key = "unresponsive_timeout"
        message = (
            "not together with {}, which it chooses itself: remove one side, or set it to null where an image sets it"
        )
        message = message.format(" and ".join(pair))
    elif pair == ["client_alive_count_max"]:
        key = "client_alive_count_max"
        message = "has no effect without client_alive_interval: add it, or use unresponsive_timeout instead"
    else:
        return []
    return [Problem((KEY, key), "{}: {}".format(_shown(present[key]), message))]
