# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""Remarks about a file of user-data, as text with the source lines or as JSON."""

import re
from typing import Any, Dict, List, Optional, Tuple

from .. import openssh, policy
from ..openssh import Version
from ..policy import KEY, Path, Policy, PolicyError, Problem, dotted
from . import document, explanation, userdata
from .document import Place
from .userdata import Remark, UserData

_LEVELS = ("error", "warning", "note")
_COLOURS = {"error": "\033[1;31m", "warning": "\033[1;35m", "note": "\033[1;36m"}
_BOLD, _RESET = "\033[1m", "\033[0m"
_TAB = " " * 4
# Of a source line, left and right of the place's start
_BEFORE, _AFTER = 60, 100
_LONGEST_MESSAGE = 1000
# Of a key in a path, which all remarks about what is in it repeat
_LONGEST_KEY = 100


def diagnose(content: bytes, version: Optional[Version] = None) -> List[Remark]:
    """Return all remarks about a file's content, sorted by place; `version` is the OpenSSH that is to enforce it."""
    return judge(content, version)[1]


def judge(content: bytes, version: Optional[Version] = None) -> Tuple[Optional[Policy], List[Remark]]:
    """Return the policy in a file's content, None for an error, too, and all remarks about it."""
    data = userdata.read(content)
    remarks = list(data.remarks)
    parsed = None
    if data.part is not None:
        parsed, found = _judge_section(data, version)
        remarks += found
    remarks = sorted((remark._replace(path=_shortened(remark.path)) for remark in remarks), key=_order)
    return None if has_errors(remarks) else parsed, remarks


def has_errors(remarks: List[Remark]) -> bool:
    """Return whether a file is refused."""
    return any(remark.level == "error" for remark in remarks)


def as_text(name: str, remarks: List[Remark], colours: bool = False) -> str:
    """Return remarks about a file as text for a terminal, whatever is in the file or its name."""
    lines: Dict[int, List[str]] = {}
    shown = ""
    for remark in remarks:
        level = remark.level + ":"
        shown_at = where(name, remark) + ":"
        if colours:
            level, shown_at = _COLOURS[remark.level] + level + _RESET, _BOLD + shown_at + _RESET
        shown += f"{shown_at} {level} {said(remark)}\n"
        if remark.part and remark.place:
            # A file with a problem in each of its lines is taken apart once.
            number = remark.part.number
            if number not in lines:
                lines[number] = [line.rstrip() for line in document.lines(remark.part.text)]
            shown += _source(lines[number], remark.place, _COLOURS[remark.level] if colours else "")
    return shown


def as_json(name: str, remarks: List[Remark]) -> Dict[str, Any]:
    """Return remarks about a file as schema/check.schema.json has it."""
    return {
        "file": printable(name),
        "verdict": "problems" if has_errors(remarks) else "clean",
        "remarks": [
            {
                "level": remark.level,
                "message": remark.message,
                "path": list(remark.path),
                "part": {"number": remark.part.number, "name": remark.part.name}
                if remark.part and remark.part.number
                else None,
                "place": {**remark.place._asdict(), "end": remark.place.end or None} if remark.place else None,
            }
            for remark in remarks
        ],
    }


def said(remark: Remark) -> str:
    """Return what a remark says, in one line of bearable length."""
    text = printable(dotted(remark.path) + ": " if remark.path else "") + printable(remark.message)
    return text if len(text) <= _LONGEST_MESSAGE else text[:_LONGEST_MESSAGE] + "..."


def where(name: str, remark: Remark) -> str:
    """Return the place of a remark about a file: its name, the part if there are some, line and column."""
    shown = printable(name)
    if remark.part and remark.part.number:
        title = [str(remark.part.number), printable(remark.part.name)]
        shown += " (part {})".format(", ".join(filter(None, title)))
    if remark.place:
        shown += f":{remark.place.line}:{remark.place.column}"
    return shown


def printable(text: str) -> str:
    """Return a text with nothing in it that controls a terminal; a tab becomes spaces."""
    if text.isprintable():
        return text
    return "".join(_escaped(char) for char in text)


def _escaped(char: str) -> str:
    if char == "\t":
        return _TAB
    return char if char.isprintable() else char.encode("unicode_escape").decode()


def _width(text: str) -> int:
    """Return how many columns a printable text takes."""
    if all(char < "\x7f" for char in text):
        return len(text)
    import unicodedata

    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def _source(lines: List[str], place: Place, colour: str) -> str:
    """Return the source line of a place, with carets under the place."""
    number, column, end = place
    line = lines[number - 1] if number <= len(lines) else ""
    start = column - 1
    first = max(0, start - _BEFORE)
    last = start + _AFTER
    stop = (end or len(line) + 1) - 1
    before, meant = line[first:start], line[start : min(stop, last)]
    after = line[start + len(meant) : last]
    if end == 0:  # it goes on in the next lines, a comment does not belong to it
        meant = re.sub(r"\s+#.*$", "", meant)
        after = line[start + len(meant) : last]
    left = "..." if first else ""
    right = "..." if last < len(line) else ""
    before = left + printable(before)
    if not before.strip() and not printable(meant + after).strip():
        return ""
    carets = "^" * max(1, _width(printable(meant)))
    if colour:
        carets = colour + carets + _RESET
    return "    {}{}{}{}\n    {}{}\n".format(
        before, printable(meant), printable(after), right, " " * _width(before), carets
    )


def _shortened(path: Path) -> Path:
    """Return a path whose keys are of bearable length."""
    return tuple(step if isinstance(step, int) else step[:_LONGEST_KEY] for step in path)


def _order(remark: Remark) -> Tuple[int, int, int, int, str, str]:
    number = remark.part.number if remark.part else 0
    line, column = remark.place[:2] if remark.place else (0, 0)
    return number, line, column, _LEVELS.index(remark.level), dotted(remark.path), remark.message


def _judge_section(data: UserData, version: Optional[Version]) -> Tuple[Optional[Policy], List[Remark]]:
    """Return the policy of the section, and the remarks about it."""
    if data.section is None:
        return None, [_remark(data, "note", Problem((KEY,), "null counts as absent"))]
    remarks = []
    parsed = None
    try:
        parsed = policy.parse(data.section)
        if parsed is not None:
            remarks += [_remark(data, "warning", problem) for problem in explanation.surprises(parsed, version)]
            if version and parsed.enabled:
                openssh.translate(parsed, version)
    except PolicyError as error:
        remarks += [_remark(data, "error", problem) for problem in error.problems]
    wrong = {remark.place for remark in remarks if remark.level == "error"}
    for path, scalar in data.scalars.items():
        read = _read_as(scalar)
        if read is not None and path[-1] != "":
            if not isinstance(scalar.value, bool):
                remarks.append(_remark(data, "warning", Problem(path, read)))
            elif scalar.place in wrong:
                remarks.append(_remark(data, "note", Problem(path, read)))
    return parsed, remarks


def _read_as(scalar: document.Scalar) -> Optional[str]:
    """Return how YAML reads a value that it does not take as it is written, None for any other."""
    written, value = scalar.written, scalar.value
    if written is None or isinstance(value, str) or value is None:
        return None
    if written.lower() == str(value).lower():
        return None
    return f"YAML 1.1 reads {written} as {str(value).lower()}: put it in quotes if it is meant as written"


def _remark(data: UserData, level: str, problem: Problem) -> Remark:
    """Return a remark at the key that is unknown, or at the value, or as near as what was written allows."""
    path = (*problem.path[: -len(problem.unknown) or None], *problem.unknown)
    places = [(*path, ""), path] if problem.unknown else [path]
    for length in range(len(path) - 1, 0, -1):
        places += [(*path[:length], ""), path[:length]]
    place = next((data.scalars[at].place for at in places if at in data.scalars), None)
    return Remark(level, problem.message, problem.path, data.part, place)
