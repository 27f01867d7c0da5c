# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The policy that a section of user-data asks for."""

import contextlib
import ipaddress
import json
import os
import re
import reprlib
import sys
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Set, Tuple, Union

Path = Tuple[Union[str, int], ...]

KEY = "ssh_keepalive"
SCHEMA_FILE = os.path.join(os.path.dirname(__file__), "ssh-keepalive.schema.json")

# What the how-to articles promise for ClientAliveInterval 60 and ClientAliveCountMax 3.
DEFAULT_UNRESPONSIVE_TIMEOUT = 180
DEFAULT_CLIENT_ALIVE_COUNT_MAX = 3

# What a match entry may go by: Match's own criteria, sshd_config(5).
CRITERIA = ("user", "group", "address")
# The value of an idle_timeout that ends nobody
NEVER = "none"
_IDLE_TIMES = ("idle_timeout", "idle_command_timeout")
_TIMES = ("unresponsive_timeout", "client_alive_interval", "client_alive_count_max", *_IDLE_TIMES)

# So many fill less than half of the 256 KiB that sshd 10.0 takes (openssh.py, takes-256-kib).
_MOST_PATTERNS = 250
# Of a value, in characters: no time, name or pattern is near that
_LONGEST_TEXT = 1000

# Stands for what no type of the schema allows. jsonschema writes whole values into its messages, for which deep ones
# raise RecursionError, numbers of more than 4300 digits ValueError, and YAML's aliases may take all memory.
_UNFIT = object()

# What ends a pattern in a Match line, or may escape what follows
_UNQUOTED = r"[ \\]"

# sshd_config(5), TIME FORMATS
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class Entry(NamedTuple):
    """Hold a match entry: times, as in Policy, for connections whose user, group or address fits a pattern."""

    criterion: str
    patterns: Tuple[str, ...]
    unresponsive_timeout: Optional[int] = None
    client_alive_interval: Optional[int] = None
    client_alive_count_max: Optional[int] = None
    idle_timeout: Optional[int] = None
    idle_command_timeout: Optional[int] = None


class Policy(NamedTuple):
    """State what a machine is to do.

    Times are in seconds; None leaves sshd's own setting alone. An idle_timeout of 0 is `none`: it ends no session.
    """

    enabled: bool = True
    unresponsive_timeout: Optional[int] = None
    client_alive_interval: Optional[int] = None
    client_alive_count_max: Optional[int] = None
    idle_timeout: Optional[int] = None
    idle_command_timeout: Optional[int] = None
    idle_fallback: str = "none"
    tcp_keep_alive: Optional[bool] = None
    match: Tuple[Entry, ...] = ()

    def section(self) -> Dict[str, Any]:
        """Return the section of user-data that parses to this policy."""
        section = {"tcp_keep_alive": self.tcp_keep_alive, "enabled": None if self.enabled else False, **_times(self)}
        if self.idle_fallback != "none":
            section["idle_fallback"] = self.idle_fallback
        if self.match:
            section["match"] = [
                {entry.criterion: list(entry.patterns), **_present(_times(entry))} for entry in self.match
            ]
        return _present(section)


class Problem(NamedTuple):
    """Say what is wrong at one place of the section; a path has keys, and positions in lists.

    `unknown` holds a key that is itself what is wrong, as YAML has it: the path names it so that it spoils no line.
    """

    path: Path
    message: str
    unknown: Tuple[Any, ...] = ()

    def __str__(self) -> str:
        return f"{dotted(self.path)}: {self.message}"


class PolicyError(ValueError):
    """Refuse a section; `problems` holds every reason, sorted by path."""

    def __init__(self, problems: List[Problem]) -> None:
        self.problems = sorted(problems, key=lambda problem: [(isinstance(part, str), part) for part in problem.path])
        # One plain string: cloud-init status shows repr(exception).
        super().__init__("; ".join(map(str, self.problems)))


def dotted(path: Path) -> str:
    """Return a path as people write it, with positions in brackets."""
    steps = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return steps[1:] if steps.startswith(".") else steps


def parse(section: Any) -> Optional[Policy]:
    """Return the policy that a section asks for, None if the section is null.

    Raise PolicyError with every problem at once.
    """
    if section is None:
        return None
    schema = load_schema()
    if isinstance(section, bool):
        section = {"enabled": section}
    section = _bounded(section)
    values = _normalized(section, schema["properties"][KEY])
    problems = _schema_problems(section, values, schema)
    if isinstance(section, dict):
        problems += _combination_problems(_present(section), {problem.path for problem in problems})
    if problems:
        raise PolicyError(problems)
    return _build_policy(_present(values))


def load_schema() -> Dict[str, Any]:
    """Return the JSON schema (draft 4) of a cloud-config document with our key; raise OSError if it cannot be read."""
    try:
        with open(SCHEMA_FILE, encoding="utf-8") as stream:
            schema: Dict[str, Any] = json.load(stream)
            return schema
    except (OSError, ValueError) as error:
        # In one string: cloud-init status shows repr(exception), and that of an OSError names no file.
        words = getattr(error, "strerror", None) or f"damaged: {error}"
        raise OSError(f"{SCHEMA_FILE}: {words}, install the module again") from error


def _bounded(value: Any, levels: int = 4) -> Any:
    """Return a section in which no list and no text is longer than what is refused for its length anyway.

    Its levels are the section, the list of match entries, an entry, and a list of patterns.
    """
    if isinstance(value, str) and len(value) > _LONGEST_TEXT:
        # Its end, as errors show it, and what no pattern may hold
        return f"{value[:_LONGEST_TEXT]}\0{value[-100:]}"
    if isinstance(value, dict) and levels:
        return {key: _bounded(item, levels - 1) for key, item in value.items()}
    if isinstance(value, list) and levels:
        return [_bounded(item, levels - 1) for item in value[: _MOST_PATTERNS + 1]]
    return value


def _present(mapping: Dict[str, Any]) -> Dict[str, Any]:
    """Return a mapping without what is null, which counts as absent."""
    return {key: value for key, value in mapping.items() if value is not None}


def _times(policy: Union[Policy, Entry]) -> Dict[str, Any]:
    times = {key: getattr(policy, key) for key in _TIMES}
    if policy.idle_timeout == 0:
        times["idle_timeout"] = NEVER
    return times


def _normalized(value: Any, subschema: Dict[str, Any]) -> Any:
    """Return times as whole seconds, and of everything else as much as the schema judges."""
    if isinstance(value, dict) and "properties" in subschema:
        properties = subschema["properties"]
        return {_key_text(key): _normalized(item, properties.get(key, {})) for key, item in value.items()}
    if isinstance(value, list) and "items" in subschema:
        return [_normalized(item, subschema["items"]) for item in value]
    is_time = "integer" in subschema.get("type", ()) and "pattern" in subschema
    if is_time and isinstance(value, str) and value != NEVER and re.search(subschema["pattern"], value):
        return _seconds(value)
    if value is None or isinstance(value, (bool, float, str)):
        return value
    # Beyond all bounds one number is as good as another.
    return max(-1, min(value, sys.maxsize)) if isinstance(value, int) else _UNFIT


def _seconds(time: Union[int, str]) -> int:
    return sum(int(number) * _UNITS[unit.lower()] for number, unit in re.findall("([0-9]+)([a-zA-Z]?)", str(time)))


def _build_policy(values: Dict[str, Any]) -> Policy:
    if not values.get("enabled", True):
        return Policy(enabled=False)
    match = tuple(_build_match_entry(_present(entry)) for entry in values.pop("match", ()))
    policy = Policy(match=match, **_with_defaults(values))
    # No keys, or none that says anything
    return policy if policy != Policy() else Policy(unresponsive_timeout=DEFAULT_UNRESPONSIVE_TIMEOUT)


def _build_match_entry(values: Dict[str, Any]) -> Entry:
    criterion = next(key for key in CRITERIA if key in values)
    patterns = values.pop(criterion)
    return Entry(criterion, (patterns,) if isinstance(patterns, str) else tuple(patterns), **_with_defaults(values))


def _with_defaults(values: Dict[str, Any]) -> Dict[str, Any]:
    if "client_alive_interval" in values:
        values.setdefault("client_alive_count_max", DEFAULT_CLIENT_ALIVE_COUNT_MAX)
    if values.get("idle_timeout") == NEVER:
        values["idle_timeout"] = 0
    return values


def _schema_problems(section: Any, values: Any, schema: Dict[str, Any]) -> List[Problem]:
    # 0.1 s to import: not paid where a drop-in is only read.
    try:
        from jsonschema import Draft4Validator
    except ImportError as missing:
        raise OSError(f"{missing}: install jsonschema for {sys.executable}") from missing

    problems = {}
    for error in Draft4Validator(schema).iter_errors({KEY: values}):
        path = tuple(error.path)
        given = {KEY: section}
        for part in path:
            given = given[part]
        if error.validator == "additionalProperties":
            for key in set(given) - set(error.schema["properties"]):
                place = (*path, _key_in_path(key))
                message = _unknown_key(_key_text(key), error.schema["properties"], schema)
                problems[place] = Problem(place, message, (key,))
        elif error.validator != "anyOf" or not isinstance(given, dict):
            # _match_entry_problems says what criteria a match entry lacks.
            problems[path] = Problem(path, _not_allowed(path, given, error.schema))
    return list(problems.values())


def _not_allowed(path: Path, value: Any, subschema: Dict[str, Any]) -> str:
    message = _unexpected(value, subschema)
    if isinstance(value, str) and re.search(_UNQUOTED, value) and {"user", "group"} & set(path[-2:]):
        message += f"; write ? in place of a space or a backslash: {_abbreviated(re.sub(_UNQUOTED, '?', value))}"
    if path[-1] == "client_alive_count_max" and value == 0 and value is not False:
        # Commit 69334996a, OpenSSH 8.2
        message += (
            " (with 0 OpenSSH up to 8.1 ends a session at its first silent interval, and since 8.2 never drops any)"
        )
    return message


def _unexpected(value: Any, subschema: Dict[str, Any]) -> str:
    example = json.dumps(subschema["examples"][0]).replace('"', "")
    return f"{_abbreviated(value)}: expected {subschema['title']}, for example {example}"


class _BoundedRepr(reprlib.Repr):
    def repr_int(self, x: int, level: int) -> str:
        # Python writes no number of more than 4300 digits.
        return super().repr_int(x, level) if x.bit_length() < 10000 else f"a number of {x.bit_length()} bits"


def _abbreviated(value: Any) -> str:
    """Return a value in one line of bearable length."""
    short = _BoundedRepr()
    short.maxlevel, short.maxstring, short.maxother = 2, 60, 60
    shown = short.repr(value)
    return shown if len(shown) <= 100 else shown[:97] + "..."


def _key_text(key: Any) -> str:
    return key if isinstance(key, str) else _abbreviated(key)


def _key_in_path(key: Any) -> str:
    """Return a key as part of a path, as it is unless that would spoil the line."""
    return key if isinstance(key, str) and re.match(r"[\w-]{1,60}$(?!\n)", key) else _abbreviated(key)


def _unknown_key(key: str, properties: Dict[str, Any], schema: Dict[str, Any]) -> str:
    if _squeeze(key).startswith("serveralive"):
        return (
            "unknown key, ServerAlive* belongs to the client (ssh_config), "
            "the server's side is client_alive_interval and client_alive_count_max"
        )
    if key in schema["properties"][KEY]["properties"]:
        return "not in match, it holds for the whole machine: put it beside match"
    close = closest(key, properties)
    if close:
        return f"unknown key, did you mean {close}?"
    return "unknown key, remove it or use one of {}".format(", ".join(sorted(properties)))


def closest(key: str, names: Iterable[str], cutoff: float = 0.6) -> Optional[str]:
    """Return the name that a key is most like, None where none is near; `cutoff` as for difflib.get_close_matches."""
    import difflib

    squeezed = {_squeeze(name): name for name in names}
    close = difflib.get_close_matches(_squeeze(key), squeezed, 1, cutoff)
    return squeezed[close[0]] if close else None


def _squeeze(key: str) -> str:
    """Return a key as ClientAliveInterval, client-alive-interval and client_alive_interval have it in common."""
    return re.sub("[-_ ]", "", key).lower()


def _combination_problems(present: Dict[str, Any], wrong: Set[Path]) -> List[Problem]:
    """Return what a schema that cloud-init can read, too, cannot say; at `wrong` places it has spoken."""
    problems = _time_problems((KEY,), present, wrong)
    if present.get("idle_fallback") == "tmout" and "idle_timeout" not in present:
        message = "'tmout': has no effect without idle_timeout: add it, or remove this"
        problems.append(Problem((KEY, "idle_fallback"), message))
    match = present.get("match")
    entries = [
        (position, _present(entry))
        for position, entry in enumerate(match if isinstance(match, list) else ())
        if isinstance(entry, dict)
    ]
    for position, entry in entries:
        problems += _match_entry_problems((KEY, "match", position), entry, wrong)
    patterns = [entry[key] for _, entry in entries for key in CRITERIA if key in entry]
    count = sum(len(pattern) if isinstance(pattern, list) else 1 for pattern in patterns)
    if count > _MOST_PATTERNS:
        message = (
            "names {} users, groups and addresses, more than {} may be too much for sshd: use *, groups or networks"
        )
        problems.append(Problem((KEY, "match"), message.format(count, _MOST_PATTERNS)))
    return problems


def _time_problems(path: Path, present: Dict[str, Any], wrong: Set[Path]) -> List[Problem]:
    found: Dict[str, str] = {}
    pair = [key for key in ("client_alive_interval", "client_alive_count_max") if key in present]
    if "unresponsive_timeout" in present and pair:
        message = (
            "not together with {}, which it chooses itself: remove one side, or set it to null where an image sets it"
        )
        found["unresponsive_timeout"] = message.format(" and ".join(pair))
    elif pair == ["client_alive_count_max"]:
        found[pair[0]] = "has no effect without client_alive_interval: add it, or use unresponsive_timeout instead"
    if "idle_command_timeout" in present and not wrong & {(*path, key) for key in _IDLE_TIMES}:
        least, given = present.get("idle_timeout"), present["idle_command_timeout"]
        message = ""
        if least is None:
            message = "requires idle_timeout beside it: add that"
        elif least == NEVER:
            message = "has no effect where idle_timeout is none: remove it"
        elif _seconds(given) < _seconds(least):
            message = f"is shorter than idle_timeout, {_abbreviated(least)}: raise it"
        if message:
            found["idle_command_timeout"] = message + ", or set it to null where an image sets it"
    return [Problem((*path, key), f"{_abbreviated(present[key])}: {message}") for key, message in found.items()]


def _match_entry_problems(path: Path, present: Dict[str, Any], wrong: Set[Path]) -> List[Problem]:
    problems = _time_problems(path, present, wrong)
    criteria = [key for key in CRITERIA if key in present]
    if len(criteria) != 1:
        given = " and ".join(criteria) or "none"
        problems.append(Problem(path, "expected one of {}, found {}".format(", ".join(CRITERIA), given)))
    if not set(_TIMES) & set(present):
        message = f"sets no time: add one of {', '.join(_TIMES)}, or remove the match entry"
        problems.append(Problem(path, message))
    for criterion, problems_of in (("user", _user_problems), ("address", _network_problems)):
        patterns = present.get(criterion)
        places: Dict[Path, Any] = {(*path, criterion): patterns}
        if isinstance(patterns, list):
            places = {(*path, criterion, position): pattern for position, pattern in enumerate(patterns)}
        for place in sorted(set(places) - wrong):
            if isinstance(places[place], str):
                problems += [Problem(place, message) for message in problems_of(places[place])]
    return problems


def _user_problems(user: str) -> List[str]:
    """Return why a pattern of users fits nobody: AllowUsers takes USER@HOST, Match compares the name alone."""
    name, _, host = user.rpartition("@")
    # A directory may have users with @ and a domain in their names.
    if name and re.match(r"[0-9.*?]*$", host) and "." in host:
        return [f"{_abbreviated(user)}: Match User compares names without hosts, use a match entry of address instead"]
    return []


def _network_problems(address: str) -> List[str]:
    """Return why sshd would refuse an address or a network that is written like one."""
    try:
        network = ipaddress.ip_network(address)
    except ValueError:
        with contextlib.suppress(ValueError):
            network = ipaddress.ip_network(address, strict=False)
            return [f"{_abbreviated(address)}: has bits beyond its mask, did you mean {network}?"]
        return [f"{_abbreviated(address)}: is no address and no network, correct it"]
    mapped = ipaddress.IPv6Network("::ffff:0:0/96")
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96 and mapped.overlaps(network):
        # Measured: sshd turns such an address of a client into IPv4 before it matches.
        number = int(network.network_address) & 0xFFFFFFFF
        meant = ipaddress.IPv4Network((number, network.prefixlen - 96))
        return [f"{_abbreviated(address)}: sshd sees such clients as IPv4, did you mean {meant}?"]
    return []
