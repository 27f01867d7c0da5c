"""What was measured by make bench, as pictures that are for light and for dark pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from checks import TOOLS
from costs import MODULE, PATTERNS, RUNCMD, SUITES, WITH_PACKAGES
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from results import NAMES, module_ratios, others, pattern_ratios, titles, windows

# The same bytes from the same data
SETTINGS = {"svg.hashsalt": "bench", "svg.fonttype": "none", "font.size": 10}
METADATA = {"Date": None, "Creator": None}


class Colours(NamedTuple):
    text: str
    inside: str
    module: str
    other: str
    others: tuple[str, ...]


LIGHT = Colours("#1f2328", "#ffffff", "#1a7f37", "#bc4c00", ("#bc4c00", "#8250df", "#6e7781"))
DARK = Colours("#e6edf3", "#0d1117", "#3fb950", "#f0883e", ("#f0883e", "#a371f7", "#8b949e"))


def draw(data: dict[str, Any], folder: Path) -> None:
    """Draw what has been measured of promise.svg and bench.svg into a folder."""
    settings = dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), LIGHT.text)
    with mpl.rc_context({**SETTINGS, **settings, "axes.edgecolor": LIGHT.text}):
        for name, (figure, parts) in FIGURES.items():
            if not parts <= set(data):
                continue
            file = folder / f"{name}.svg"
            figure(data, LIGHT).savefig(file, metadata=METADATA, transparent=True)
            # matplotlib leaves spaces at line ends
            text = "".join(f"{line.rstrip()}\n" for line in file.read_text().splitlines())
            file.write_text(text.replace(" <defs>\n", f" <style>\n{dark()} </style>\n <defs>\n", 1))


def dark() -> str:
    """Return the rules by which a page that is dark has a picture's colours replaced; who knows none keeps them."""
    pairs = zip((*LIGHT[:-1], *LIGHT.others), (*DARK[:-1], *DARK.others))
    rules = (
        f'   [style*="{kind}: {light}"] {{ {kind}: {replaced} !important }}\n'
        for light, replaced in dict(pairs).items()
        for kind in ("fill", "stroke")
    )
    return f"  @media (prefers-color-scheme: dark) {{\n{''.join(rules)}  }}\n"


def promise(data: dict[str, Any], colours: Colours) -> Figure:
    """Show what was asked and what became of dead and idle clients."""
    found = data["promises"]["measured"]
    asked = next(iter(found.values()))["asked"] / 60
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    dead, idle = figure.subplots(1, 2, sharex=True, sharey=True)
    longest = max(one["articles, dead"] for one in found.values()) / 60 * 1.12
    for axes, who, title in (
        (dead, "dead", "A client that stopped answering"),
        (idle, "idle", "A session that nobody uses"),
    ):
        for by, colour, shift in (("articles", colours.other, -0.2), ("module", colours.module, 0.2)):
            for position, one in enumerate(found.values()):
                bar(axes, position + shift, one[f"{by}, {who}"], longest, colour, colours.inside)
        axes.axvline(asked, color=colours.text, linestyle="--", linewidth=1)
        axes.set_title(title, fontsize=11, fontweight="bold")
        axes.set_xlabel("minutes until it is gone")
        axes.set_xlim(0, longest)
        axes.spines[["top", "right"]].set_visible(False)
    dead.set_yticks(range(len(found)), titles(found))
    dead.invert_yaxis()
    figure.legend(
        handles=[
            mpl.lines.Line2D([], [], color=colours.text, linestyle="--", label=f"asked: {asked:g} minutes"),
            mpl.patches.Patch(color=colours.other, label=f"the articles: {20 * asked:g}/3"),
            mpl.patches.Patch(color=colours.module, label="ssh_keepalive"),
        ],
        loc="outside lower center",
        ncols=3,
        frameon=False,
    )
    return figure


def bar(axes: Axes, position: float, seconds: float | None, longest: float, colour: str, inside: str) -> None:
    """Draw when something ended, with the minutes in the bar; what did not end fills the width."""
    width = longest if seconds is None else seconds / 60
    axes.barh(position, width, height=0.36, color=colour)
    said = "still there" if seconds is None else f"{width:.1f}"
    axes.text(width * 0.98, position, said, ha="right", va="center", fontsize=9, color=inside, fontweight="bold")


def bench(data: dict[str, Any], colours: Colours) -> Figure:
    """Show what a first boot takes, for how long sshd is open without the policy, and how checking grows."""
    boots = data["boots"]["measured"]
    figure = Figure(figsize=(9, 10), layout="constrained")
    cost, growth, window, check = figure.subplots(4, 1)
    ways = {NAMES[MODULE]: module_ratios(boots), **others(boots)}
    groups(cost, ways, colours, "{:.1f}")
    cost.set_title("Adds to a first boot", fontsize=11, fontweight="bold", loc="left")
    cost.set_xlabel("times one sshd -T")
    sizes = [pattern_ratios(data["patterns"]["measured"], count) for count in PATTERNS]
    for suite, ratios, colour in zip(SUITES, zip(*sizes), (colours.module, *colours.others)):
        growth.plot(PATTERNS, ratios, "o-", color=colour, label=titles([suite])[0])
    growth.set_xscale("symlog", linthresh=1)
    growth.set_xticks(PATTERNS, list(map(str, PATTERNS)))
    growth.set_ylim(bottom=0)
    growth.set_title("Adds to a first boot, by the patterns in match", fontsize=11, fontweight="bold", loc="left")
    growth.set_xlabel("patterns")
    growth.set_ylabel("times one sshd -T")
    kinds = (MODULE + WITH_PACKAGES, RUNCMD, RUNCMD + WITH_PACKAGES)
    groups(window, {NAMES[kind]: windows(boots, kind) for kind in kinds}, colours, "{:.1f}")
    window.set_title("sshd takes connections without the policy", fontsize=11, fontweight="bold", loc="left")
    window.set_xlabel("seconds")
    for tool, colour in zip(TOOLS, (colours.module, *colours.others)):
        found = [one for one in data["checks"]["measured"] if one["tool"] == tool]
        check.plot([one["files"] for one in found], [one["seconds"] for one in found], "o-", color=colour, label=tool)
    check.set_xscale("log")
    check.set_yscale("log")
    check.set_title("Checks user-data", fontsize=11, fontweight="bold", loc="left")
    check.set_xlabel("files")
    check.set_ylabel("seconds")
    for axes in (cost, growth, window, check):
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def groups(axes: Axes, bars: dict[str, list[float]], colours: Colours, form: str) -> None:
    """Draw a group of bars for each release."""
    height = 0.8 / len(bars)
    for number, ((name, values), colour) in enumerate(zip(bars.items(), (colours.module, *colours.others))):
        positions = [place + number * height for place in range(len(values))]
        drawn = axes.barh(positions, values, height=0.9 * height, color=colour, label=name.replace("`", ""))
        axes.bar_label(drawn, [form.format(value) for value in values], padding=3, fontsize=8)
    axes.set_yticks([place + 0.4 - height / 2 for place in range(len(SUITES))], titles(SUITES))
    axes.invert_yaxis()
    axes.margins(x=0.1)


# What is drawn of which parts
FIGURES = {"promise": (promise, {"promises"}), "bench": (bench, {"boots", "patterns", "checks"})}
