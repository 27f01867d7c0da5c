"""Tables, and the pages that have them between two marks."""

from __future__ import annotations


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def replaced(page: str, text: str, marks: tuple[str, str]) -> str:
    """Return a page with a text between two marks; raise ValueError without them."""
    before, begin, rest = page.partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not end:
        raise ValueError(f"there is no line {marks[0].strip()} with a line {marks[1].strip()} after it")
    return before + begin + text + end + after
