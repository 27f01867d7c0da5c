"""What was measured by make bench, as tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from statistics import median
from typing import Any

from checks import TOOLS
from costs import MODULE, PATTERNS, RUNCMD, STEPS, SUITES, UNCOMPILED, WITH_PACKAGES, WRITE_FILES
from pages import table
from releases import RELEASES

NAMES = {
    MODULE: "this module",
    UNCOMPILED: "this module, where Python must compile it first",
    WRITE_FILES: "`write_files` and a restart by `runcmd`",
    RUNCMD: "`sed` and a restart by `runcmd`",
    RUNCMD + WITH_PACKAGES: "`sed` and a restart by `runcmd`, with `packages`",
    MODULE + WITH_PACKAGES: "this module, with `packages`",
}
# The parts of the module's time, by the labels of costs.PROBE
PARTS: dict[str, Callable[[str], bool]] = {
    # Of jsonschema, too, which cloud-init has imported before.
    "imports": lambda label: label.startswith("import "),
    "`sshd -V`": lambda label: "sshd -V" in label,
    "`sshd -T` (from 9.3 on with `-G`) of the candidate": lambda label: " -f " in label,
    "`systemctl show`": lambda label: "systemctl show" in label,
    "`sshd -T` in place, about nobody in particular": lambda label: "sshd -T" in label and " -f " not in label,
    "fsync, in memory here": lambda label: label == "fsync",
}
REST = "all else: schema, files, log"
# Of cloud-init's steps, its own change of sshd's configuration and what the recipes take
OWN = "set_passwords"
TOLD_STEPS = {OWN, *STEPS[WRITE_FILES], *STEPS[RUNCMD]}

Boot = dict[str, Any]
Part = dict[str, Any]
Rows = list[list[str]]


def condensed(boot: Boot) -> Boot:
    """Return what the tables take of a boot: seconds of steps and window, the number of processes, else ms."""
    found = dict(boot)
    if "parts" in boot:
        found["processes"] = sum(label.startswith("run ") for label, _ in boot["parts"])
        del found["parts"]
    if boot.get("kind") == MODULE:
        named = {name: sum(ms for label, ms in boot["parts"] if part(label)) for name, part in PARTS.items()}
        rest = boot["total"] - sum(ms for _, ms in boot["parts"])
        found["parts"] = {name: round(ms, 3) for name, ms in {**named, REST: rest}.items()}
    if "steps" in boot:
        found["steps"] = {name: seconds for name, seconds in boot["steps"].items() if name in TOLD_STEPS}
    return {key: round(value, 3) if isinstance(value, float) else value for key, value in found.items()}


def page(data: dict[str, Part]) -> str:
    """Return all tables of the parts that were measured."""
    return "\n".join(line for part, section in SECTIONS.items() if part in data for line in section(data[part]))


def promises_section(part: Part) -> list[str]:
    found = part["measured"]
    (asked,) = {one["asked"] for one in found.values()}
    return [
        "## Asked and measured",
        "",
        "Seconds from the last sign of life of a client that is frozen, or the last traffic of a shell at its prompt. "
        "OpenSSH 9.2 to 9.4 compare whole seconds: in some runs Debian 12 took "
        f"{asked // 3} s less for the articles' pair.",
        "",
        *table(["", "asked", *titles(found)], promise_rows(found)),
        "",
    ]


def boots_section(part: Part) -> list[str]:
    boots = part["measured"]
    each = min(len(of(boots, suite, kind)) for suite in SUITES for kind in NAMES)
    return [
        "## First boots",
        "",
        f"Medians of {each} boots of each kind, one after the other; {load(part)}. In times that one `sshd -T` takes, "
        f"which cloud-init's process starts in the same boot ({in_words(sshd_t(boots))}):",
        "",
        *table(["", *titles(SUITES)], cost_rows(boots)),
        "",
        f"The module's time by its parts; it starts {processes(boots)} processes:",
        "",
        *table(["", *titles(SUITES)], part_rows(boots)),
        "",
        "For how long sshd takes connections before the policy is in effect; connections of that time never get it:",
        "",
        *table(["", *titles(SUITES)], window_rows(boots)),
        "",
    ]


def patterns_section(part: Part) -> list[str]:
    found = part["measured"]
    each = min(len(of_size(found, suite, PATTERNS[0])) for suite in SUITES)
    return [
        "## Policies of all sizes",
        "",
        "What the module adds to a first boot by the number of patterns, each in a match entry with the same "
        f"time; medians of {each} boots, in times that one `sshd -T` takes in the same boot; {load(part)}. It starts "
        f"{processes(found)} processes at most, and one more for each other set of times, but never more than 12.",
        "",
        *table(["patterns", *titles(SUITES)], pattern_rows(found)),
        "",
    ]


def checks_section(part: Part) -> list[str]:
    checks = part["measured"]
    counts = sorted({found["files"] for found in checks})
    rows = []
    for tool, cells in cells_by_tool(checks).items():
        rows.append([f"`{tool}`", *(cells.get(count, "takes one file") for count in counts), growth(checks, tool)])
    return [
        "## Checking user-data",
        "",
        f"Time and the most memory, in one machine and by one Python; {load(part)}. The last column is what each "
        "further file takes.",
        "",
        *table(["files", *map(str, counts), "each"], rows),
        "",
    ]


SECTIONS = {
    "promises": promises_section,
    "boots": boots_section,
    "patterns": patterns_section,
    "checks": checks_section,
}


def promise_rows(found: dict[str, dict[str, Any]]) -> Rows:
    (asked,) = {one["asked"] for one in found.values()}
    rows = []
    for who, key in (("dead", "unresponsive_timeout"), ("idle", "idle_timeout")):
        for by, how in (("articles", f"the articles' {asked // 3}/3"), ("module", f"`{key}: {asked}`")):
            ends = (one[f"{by}, {who}"] for one in found.values())
            rows.append([f"{who} client, {how}", str(asked), *("lives" if at is None else f"{at:.1f}" for at in ends)])
    return rows


def cost_rows(boots: list[Boot]) -> Rows:
    """Return what each way takes, in times that one `sshd -T` takes."""
    rows = [[NAMES[kind], *map(ratio, module_ratios(boots, kind))] for kind in (MODULE, UNCOMPILED)]
    rows += [[name, *map(ratio, ratios)] for name, ratios in others(boots).items()]
    return rows


def others(boots: list[Boot]) -> dict[str, list[float]]:
    """Return what is beside the module: cloud-init's own change of sshd's configuration, and the recipes."""
    own = "cloud-init's own `set_passwords`, for `ssh_pwauth`"
    ways = {own: (MODULE, (OWN,)), **{NAMES[kind]: (kind, STEPS[kind]) for kind in (WRITE_FILES, RUNCMD)}}
    return {
        name: [1000 * steps(of(boots, suite, kind), names) / one for suite, one in sshd_t(boots).items()]
        for name, (kind, names) in ways.items()
    }


def part_rows(boots: list[Boot]) -> Rows:
    """Return the parts of the module's time, in ms and in times that one `sshd -T` takes."""

    def row(name: str, ms: Callable[[Boot], float]) -> list[str]:
        found = [of(boots, suite, MODULE) for suite in SUITES]
        return [name, *(f"{median(map(ms, each)):.1f} ms, {relative(each, ms):.2f} x" for each in found)]

    rows = [row(name, lambda boot, name=name: float(boot["parts"][name])) for name in (*PARTS, REST)]
    return [*rows, row("**together**", lambda boot: float(boot["total"]))]


def pattern_rows(found: list[Boot]) -> Rows:
    return [[str(count), *map(ratio, pattern_ratios(found, count))] for count in PATTERNS]


def pattern_ratios(found: list[Boot], count: int) -> list[float]:
    """Return by release what the module takes with so many patterns, in times that one `sshd -T` takes."""
    return [relative(of_size(found, suite, count), lambda boot: float(boot["total"])) for suite in SUITES]


def growths(found: list[Boot]) -> list[float]:
    """Return by release how much more the largest policy takes than one without match entries."""
    least, most = (pattern_ratios(found, count) for count in (PATTERNS[0], PATTERNS[-1]))
    return [more / less for less, more in zip(least, most)]


def of_size(found: list[Boot], suite: str, count: int) -> list[Boot]:
    return [boot for boot in found if (boot["suite"], boot["patterns"]) == (suite, count)]


def window_rows(boots: list[Boot]) -> Rows:
    kinds = (MODULE, MODULE + WITH_PACKAGES, WRITE_FILES, RUNCMD, RUNCMD + WITH_PACKAGES)
    return [[NAMES[kind], *(f"{at:.1f} s" if at else "never" for at in windows(boots, kind))] for kind in kinds]


def windows(boots: list[Boot], kind: str) -> list[float]:
    """Return by release for how long sshd took connections before the policy was in effect, in seconds."""
    return [median(boot["window"] for boot in of(boots, suite, kind)) for suite in SUITES]


def sshd_t(boots: list[Boot]) -> dict[str, float]:
    """Return by release what one `sshd -T` takes in the middle of a first boot, in ms."""
    return {suite: median(boot["sshd -T"] for boot in of(boots, suite, MODULE)) for suite in SUITES}


def module_ratios(boots: list[Boot], kind: str = MODULE) -> list[float]:
    """Return by release what the module takes, in times that one `sshd -T` takes in the same boot."""
    return [relative(of(boots, suite, kind), lambda boot: float(boot["total"])) for suite in SUITES]


def relative(boots: list[Boot], ms: Callable[[Boot], float]) -> float:
    return median(ms(boot) / boot["sshd -T"] for boot in boots)


def processes(boots: list[Boot]) -> int:
    """Return how many processes the module starts at most."""
    return max(int(boot["processes"]) for boot in boots if "processes" in boot)


def steps(boots: list[Boot], names: Iterable[str]) -> float:
    """Return what some of cloud-init's steps take together, in seconds."""
    return median(sum(boot["steps"].get(name, 0) for name in names) for boot in boots)


def of(boots: list[Boot], suite: str, kind: str) -> list[Boot]:
    return [boot for boot in boots if (boot["suite"], boot["kind"]) == (suite, kind)]


def cells_by_tool(checks: list[dict[str, Any]]) -> dict[str, dict[int, str]]:
    """Return time and memory of each tool by the number of files."""
    return {
        tool: {one["files"]: f"{one['seconds']:.2f} s, {one['MiB']:.0f} MiB" for one in checks if one["tool"] == tool}
        for tool in TOOLS
    }


def growth(checks: list[dict[str, Any]], tool: str) -> str:
    """Return what each further file takes, between one number of files and the next of the three greatest."""
    found = sorted((one["files"], one["seconds"]) for one in checks if one["tool"] == tool)[-3:]
    each = (1000 * (b - a) / (more - fewer) for (fewer, a), (more, b) in zip(found, found[1:]))
    return ", then ".join(f"{ms:.2f} ms" for ms in each) or f"{1000 * found[0][1]:.0f} ms"


def titles(suites: Iterable[str]) -> list[str]:
    return [RELEASES[suite].name for suite in suites]


def ratio(number: float) -> str:
    return f"{number:.1f} x"


def in_words(milliseconds: dict[str, float]) -> str:
    return ", ".join(f"{ms:.1f} ms on {RELEASES[suite].name}" for suite, ms in milliseconds.items())


def load(part: Part) -> str:
    return f"load before it {part['load']:.1f}"
