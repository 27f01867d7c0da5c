"""Measure what the promise is worth and what it costs, beside the usual recipes and tools, for docs/bench.md."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bases import base
from checks import checked
from costs import boots, boots_by_patterns
from host import unavailable
from pages import replaced
from promises import ended
from releases import RELEASES
from results import condensed, growths, module_ratios, page, processes

TOP = Path(__file__).resolve().parents[1]
PAGE, DATA = TOP / "docs/bench.md", TOP / "docs/bench.json"
# What the module may add to a first boot, in times that one `sshd -T` takes, and the processes that it may start; and
# that of the largest policy, in times that one without match entries takes
MOST, MOST_PROCESSES = 5, 6
MOST_GROWTH, MOST_PROCESSES_OF_ALL = 1.5, 12
MARKS = ("<!-- bench: make bench -->\n", "<!-- /bench -->\n")

# How each part is measured, and how it is tried out.
PARTS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "boots": (lambda: list(map(condensed, boots(3))), lambda: list(map(condensed, boots(1)))),
    "patterns": (
        lambda: list(map(condensed, boots_by_patterns(3))),
        lambda: list(map(condensed, boots_by_patterns(1))),
    ),
    "checks": (lambda: checked((1, 10, 100, 1000, 10000), 7), lambda: checked((1, 10, 100), 1)),
    "promises": (lambda: ended(180), lambda: ended(60)),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything, printed and nowhere written")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; the others stay as they are")
    arguments = parser.parse_args()
    if not set(arguments.parts) <= set(PARTS):
        parser.error(f"PART is one of {', '.join(PARTS)}")
    reason = unavailable()
    if reason:
        sys.exit(reason)
    for suite in RELEASES:
        base(suite)
    data: dict[str, dict[str, Any]] = json.loads(DATA.read_text()) if DATA.exists() else {}
    for part in arguments.parts or PARTS:
        print(f"{part}, load {os.getloadavg()[0]:.1f}", flush=True)
        measured, tried = PARTS[part]
        data[part] = {"load": os.getloadavg()[0], "measured": tried() if arguments.quick else measured()}
    print(page(data))
    if not arguments.quick:
        # A row a line
        DATA.write_text(json.dumps(data).replace("}, {", "},\n{") + "\n")
        PAGE.write_text(replaced(PAGE.read_text(), page(data), MARKS))
        import pictures  # which takes matplotlib, and what only looks at tables does not

        pictures.draw(data, TOP / "docs")
    measured = data["boots"]["measured"] if "boots" in data else []
    is_dear = bool(measured) and (max(module_ratios(measured)) > MOST or processes(measured) > MOST_PROCESSES)
    measured = data["patterns"]["measured"] if "patterns" in data else []
    does_grow = bool(measured) and (max(growths(measured)) > MOST_GROWTH or processes(measured) > MOST_PROCESSES_OF_ALL)
    return int(is_dear or does_grow)


if __name__ == "__main__":
    sys.exit(main())
