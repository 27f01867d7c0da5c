# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""Lists of patterns as sshd reads them; ssh_config(5), PATTERNS."""

import ipaddress
import re
from typing import Callable, Iterable, Iterator, List, Optional, Sequence, Union

Patterns = Sequence[str]


def fits(value: str, patterns: Patterns) -> bool:
    """Return whether a value fits one of the patterns, and none that is negated."""
    return any(_is_like(value, one) for one in patterns if not one.startswith("!")) and not is_excluded(value, patterns)


def is_excluded(value: str, patterns: Patterns) -> bool:
    """Return whether a value fits a pattern that is negated."""
    return any(_is_like(value, one[1:]) for one in patterns if one.startswith("!"))


def _is_like(value: str, pattern: str) -> bool:
    if "*" not in pattern and "?" not in pattern:
        return value == pattern
    return bool(re.match(_expression(pattern) + r"\Z", value, re.DOTALL))


def _expression(pattern: str) -> str:
    return "".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in pattern)


def example(patterns: Patterns) -> Optional[str]:
    """Return a value that fits a list of patterns, None if none is found."""
    return next(iter(examples(patterns)), None)


def examples(patterns: Patterns, most: int = 2) -> List[str]:
    """Return values that fit a list of patterns, up to so many for each pattern."""
    return _fitting(patterns, _values, fits, most)


def _values(pattern: str) -> Iterator[str]:
    # The last is also one that fits ports.
    more = ((letter * 3, letter) for letter in "abcdefg")
    for star, char in (("", "x"), ("x", "y"), ("1", "1"), *more, ("1", "1")):
        value = pattern.replace("*", star).replace("?", char)
        if value:
            yield value


def _fitting(
    patterns: Patterns, candidates: Callable[[str], Iterable[str]], fits_all: Callable[[str, Patterns], bool], most: int
) -> List[str]:
    """Return of the candidates for each pattern the first ones and the last one that fit the list, each once."""
    found: List[str] = []
    for one in patterns:
        if not one.startswith("!"):
            fitting = [candidate for candidate in candidates(one) if fits_all(candidate, patterns)]
            found += [*fitting[: most - 1], *fitting[-1:]]
    return list(dict.fromkeys(found))


def is_within(pattern: str, others: Patterns) -> bool:
    """Return whether all that a pattern or a network fits is sure to fit another one of some."""
    network = _network(pattern)
    if network:
        ends = (str(network[0]), str(network[-1]))
        return any(
            all(_is_in(end, other) for end in ends) for other in others if _network(other) or len(set(ends)) == 1
        )
    return pattern in others or (not set("*?") & set(pattern) and fits(pattern, others))


def fits_address(address: str, patterns: Patterns) -> bool:
    """Return whether an address fits one of the patterns or networks, and none that is negated."""
    positive = any(_is_in(address, one) for one in patterns if not one.startswith("!"))
    return positive and not any(_is_in(address, one[1:]) for one in patterns if one.startswith("!"))


def _is_in(address: str, pattern: str) -> bool:
    network = _network(pattern)
    return ipaddress.ip_address(address) in network if network else _is_like(address, pattern)


def _network(pattern: str) -> Optional[Union[ipaddress.IPv4Network, ipaddress.IPv6Network]]:
    try:
        return ipaddress.ip_network(pattern, strict=False)
    except ValueError:
        return None


def example_address(patterns: Patterns) -> Optional[str]:
    """Return an address that fits a list of patterns and networks, None if none is found."""
    return next(iter(example_addresses(patterns)), None)


def example_addresses(patterns: Patterns, most: int = 2) -> List[str]:
    """Return addresses that fit a list of patterns and networks, up to so many for each."""
    return _fitting(patterns, _addresses, fits_address, most)


def _addresses(pattern: str) -> Iterator[str]:
    network = _network(pattern)
    if network:
        last = network.num_addresses - 1
        for position in sorted({0, 1, last // 4, last // 2, 3 * (last // 4), last - 1, last}):
            if 0 <= position <= last:
                yield str(network[position])
        return
    # A star may stand for several parts of an address.
    for star in ("1", "1.1", "1.1.1", "1.1.1.1", "192.0.2.1", "::1", "1::1", ":1", "1:1", "2001:db8::1"):
        candidate = pattern.replace("*", star).replace("?", "1")
        try:
            yield str(ipaddress.ip_address(candidate))
        except ValueError:
            continue
