# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""What `sshd -T -ddd` tells about the files that it reads and the lines in them.

It reads everything twice: once for the globals, then for the Match blocks that fit, whose values come before all
globals. In each pass the first value overrides later ones. The second pass calls the main file "reprocess config"
(servconf.c).
"""

import re
from collections import Counter
from typing import Collection, Iterator, List, NamedTuple, Optional, Tuple

from ..openssh import canonical

_BYTES_OF_A_FILE = 16
_CHECKING = "debug3: checking match for '"
# Of the criteria of a Match line so many characters are traced in any case (1,024 bytes with what is said around them).
_UNCUT = 900
_REPROCESS = ": config reprocess config "


class Include(NamedTuple):
    """Name a pattern of an Include, and the place of its line."""

    pattern: str
    file: str
    line: int


def decoded(err: str) -> str:
    """Return a trace with what is no ASCII as it is in the files: sshd prints octal numbers (log.c, LOG_STDERR_VIS)."""
    found = re.sub(
        rb"\\\\|\\[2-3][0-7]{2}",
        lambda octal: b"\\" if octal.group() == b"\\\\" else bytes([int(octal.group()[1:], 8)]),
        err.encode("utf-8", "surrogateescape"),
    )
    return found.decode("utf-8", "surrogateescape")


def files(trace: str) -> Tuple[str, ...]:
    """Return the files that sshd has read, in their order, each once."""
    found = re.findall(r"^debug2: load_server_config: filename (.+?)\r?$", trace, re.MULTILINE)
    return tuple(dict.fromkeys(found))


def includes(trace: str) -> Tuple[Include, ...]:
    """Return the patterns of the Include lines that sshd has come across."""
    found = re.findall(r"^debug2: (.+) line (\d+): new include (.+?)\r?$", trace, re.MULTILINE)
    return tuple(dict.fromkeys(Include(pattern, file, int(line)) for file, line, pattern in found))


def globals_pass(trace: str) -> str:
    """Return the part of a trace in which the globals are read."""
    return trace.partition(_REPROCESS)[0]


def size(trace: str) -> int:
    """Return how many bytes of configuration sshd hands on, as often as a file is included.

    With each file go its name and the pattern that it fits, and some bytes more (servconf.c, sshd.c, 9.8).
    """
    # In a Match that does not fit, "[checking syntax only]" follows.
    found = re.findall(
        r"^debug2: parse_server_config_depth: config (.+) len (\d+)(?: \[.*\])?\r?$",
        globals_pass(trace),
        re.MULTILINE,
    )
    return sum(int(length) + 2 * len(name) + _BYTES_OF_A_FILE for name, length in found)


def matches(trace: str) -> List[Tuple[str, bool]]:
    """Return the criteria of each Match line, and whether they fit the connection that was asked about.

    sshd cuts a line that is too long (1,024 bytes, log.c): the criteria are then cut, too.
    """
    found: List[Tuple[str, bool]] = []
    for line in re.findall(r"^debug3: (?:checking )?match .*", trace, re.MULTILINE):
        if line.startswith(_CHECKING):
            found.append((_checked(line[len(_CHECKING) :]), False))
        elif found and line.startswith("debug3: match found"):
            found[-1] = (found[-1][0], True)
    return found


def _checked(said: str) -> str:
    """Return the criteria in what sshd says to check, of which the end may be cut off anywhere."""
    return (said.rpartition("' user ")[0] or re.sub(r"'( (u(s(er?)?)?)?)?$", "", said)).strip()


def missing(lines: Collection[str], found: Collection[str]) -> List[str]:
    """Return the Match lines that are not among those that were traced, of which the ends may be cut off."""
    cut = [one for one in found if len(one) > _UNCUT]
    return [line for line in lines if line not in found and not any(map(line.startswith, cut))]


def others(lines: Collection[str], found: Collection[str]) -> List[str]:
    """Return the Match lines that were traced, of which the ends may be cut off, beside some.

    One that is traced once more than it is among those is also somebody else's.
    """
    left = Counter(lines)
    rest = []
    for one in found:
        cut = (line for line in left if len(one) > _UNCUT and left[line] > 0 and line.startswith(one))
        own = one if left[one] > 0 else next(cut, None)
        if own is None:
            rest.append(one)
        else:
            left[own] -= 1
    return list(dict.fromkeys(rest))


def criteria(match: str) -> List[Tuple[str, Tuple[str, ...]]]:
    """Return the criteria of a Match line in lower case, each with its patterns; sshd_config(5), Match."""
    found = re.findall(r"""(?:"[^"]*"|'[^']*'|\\ |[^\s="])+""", match)
    # 10.6 traces what follows as well.
    comment = next((position for position, word in enumerate(found) if word.startswith("#")), None)
    words = [_bare(word) for word in found[:comment]]
    return [(words[i].lower(), tuple(words[i + 1].split(","))) for i in range(0, len(words) - 1, 2)]


def _bare(word: str) -> str:
    """Return a word without its quotes; single ones and backslashes quote from 10.0 on (misc.c, argv_split)."""
    # Before, a line with quoted blanks is none that sshd starts with, and no name has two backslashes.
    return re.sub(r"""\\([\\"' ])""", r"\1", re.sub(r"""(["'])(.*?)\1""", r"\2", word))


def fits_nobody(match: str) -> bool:
    """Return whether a criterion of a Match line excludes some and includes nobody, which sshd takes for nobody."""
    is_whole = len(match) <= _UNCUT
    return is_whole and any(all(one.startswith("!") for one in patterns) for _, patterns in criteria(match))


class Line(NamedTuple):
    """Name the place of a line, FILE:LINE, the keyword, and the value that it sets."""

    keyword: str
    place: str
    value: str


def effective(keyword: str, trace: str, main: str) -> Optional[Line]:
    """Return the line whose value for a keyword is in effect, None if no line sets it."""
    in_globals, _, in_matches = trace.partition(_REPROCESS)
    for part in (in_matches, in_globals):
        found = [line for line in _lines(part, main) if line.keyword == canonical(keyword)]
        if found:
            # This one is none as soon as a line says so (servconf.c, sUnusedConnectionTimeout, 9.2 to 10.6).
            nones = (one for one in found if one.keyword == "unusedconnectiontimeout" and one.value.lower() == "none")
            return next(nones, found[0])
    return None


def match_around(place: str, trace: str, main: str) -> Optional[str]:
    """Return the criteria of the Match that a line is in whose value is in effect, None for one of the globals."""
    in_matches = trace.partition(_REPROCESS)[2].replace(": reprocess config:", f": {main}:")
    before, found, _ = in_matches.partition(f": {place} setting ")
    _, checking, said = before.rpartition(_CHECKING)
    return _checked(said.partition("\n")[0]) if found and checking else None


def set_by_matches(trace: str, main: str) -> List[Line]:
    """Return the lines of all blocks whose Match fits; of those for a keyword the first one is in effect."""
    return list(_lines(trace.partition(_REPROCESS)[2], main))


def _lines(part: str, main: str) -> Iterator[Line]:
    for line in part.split("\n"):
        place, setting, rest = line.rstrip("\r").partition(" setting ")
        name, _, value = rest.partition(" ")
        if setting:
            place = place.partition(": ")[2].replace("reprocess config:", main + ":")
            yield Line(canonical(name), place, value.strip())


def is_read(file: str, trace: str) -> bool:
    """Return whether a line of a file sets something."""
    return any(re.search(rf": {re.escape(file)}:[0-9]+ setting ", line) for line in trace.split("\n"))


def complaint(trace: str) -> str:
    """Return what a failed sshd said, without the trace before it."""
    return "\n".join(line for line in trace.split("\n") if not re.match("debug[1-3]: ", line))
