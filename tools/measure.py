"""Measure what becomes of sessions on every OpenSSH that there is, and write tables of it into a page."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import outputs
import probes
from host import unavailable
from machine import Machine
from pages import replaced, table
from releases import BACKPORTS, RELEASES
from sessions import KINDS, PACKAGES, Outcome, outcomes, ready

ASKED = 60
FOR_COMMANDS = 90
SUMMARY_MARKS = ("<!-- summary: make measure -->\n", "<!-- /summary -->\n")
MARKS = ("<!-- measured: make measure -->\n", "<!-- /measured -->\n")
OUTPUT_MARKS = ("<!-- outputs: make measure -->\n", "<!-- /outputs -->\n")
PROBE_MARKS = ("<!-- probes: make measure -->\n", "<!-- /probes -->\n")
EXEMPTED = "shell of somebody exempted"

# What the summary has, and what it calls it
SUMMARIZED = {
    "shell at its prompt": "a shell at its prompt",
    "shell, silent job": "a shell with a silent job",
    "ssh host command, silent": "a silent command",
    "ssh -tt host bash, at its prompt": "`ssh -tt host bash`, which is a command to sshd",
    "sftp, idle": "an idle sftp",
    "ssh -N": "`ssh -N`",
    "master, session idle": "a ControlMaster whose session has ended so",
    "ssh -N -L, the idle connection": "a connection with a silent forward only",
    "shell beside a busy forward": "an idle shell beside a busy forward",
    "the busy forward beside it": "that busy forward",
    "shell, typing lines": "what is typed into",
    "shell, printing job": "what prints",
}

Version = tuple[int, int]


class Server(NamedTuple):
    """An OpenSSH server: a release's own, or another build, which takes its place in a machine of that release."""

    name: str
    version: Version
    suite: str
    build: Path | None = None

    @property
    def title(self) -> str:
        return "{}.{} {}".format(*self.version, self.name)


class Configuration(NamedTuple):
    title: str
    seconds: float
    # What `ready` takes, and the first version that gets it, newest first.
    policies: tuple[tuple[Version, str], ...]

    def policy(self, version: Version) -> str:
        return next((policy for first, policy in self.policies if version >= first), "")


CONFIGURATIONS = (
    Configuration(
        f"`idle_timeout: {ASKED}s`, before 9.2 with `idle_fallback: tmout`",
        2.2 * ASKED,
        (
            ((10, 5), f"{{idle_timeout: {ASKED}, match: [{{user: exempt, idle_timeout: none}}]}}"),
            ((9, 2), f"{{idle_timeout: {ASKED}}}"),
            ((0, 0), f"{{idle_timeout: {ASKED}, idle_fallback: tmout}}"),
        ),
    ),
    Configuration(
        f"`idle_timeout: {ASKED}s` and `idle_command_timeout: {FOR_COMMANDS}s`",
        2.2 * ASKED,
        (
            ((9, 2), f"{{idle_timeout: {ASKED}, idle_command_timeout: {FOR_COMMANDS}}}"),
            ((0, 0), f"{{idle_timeout: {ASKED}, idle_command_timeout: {FOR_COMMANDS}, idle_fallback: tmout}}"),
        ),
    ),
    Configuration(
        "The articles' `ClientAliveInterval 60` and `ClientAliveCountMax 3`, said to end idle sessions after 180 s",
        240 + ASKED,
        (((0, 0), "ClientAliveInterval 60\nClientAliveCountMax 3\n"),),
    ),
    Configuration(
        f"The manual's `ChannelTimeout session={ASKED}`",
        2.2 * ASKED,
        (((9, 2), f"ChannelTimeout session={ASKED}\n"),),
    ),
)


def servers() -> list[Server]:
    """Return all servers that can be had here, oldest first."""
    found = []
    for suite, release in {**RELEASES, **BACKPORTS}.items():
        with Machine(suite, packages=PACKAGES) as machine:
            machine.boot()
            printed = machine.sh("ssh -V 2>&1").stdout
        found.append(Server(release.name, _version(printed), suite))
    builds = os.environ.get("OPENSSH_BUILDS")
    for build in sorted(Path(builds).iterdir()) if builds else ():
        found.append(Server("upstream", _version(f"OpenSSH_{build.name}"), "bookworm", build))
    return sorted(found, key=lambda server: server.version)


def measure(configuration: Configuration, server: Server) -> dict[str, Outcome] | None:
    """Return what becomes of each kind of session, None where the configuration is none for this server."""
    policy = configuration.policy(server.version)
    if not policy:
        return None
    with ready(server.suite, policy, PACKAGES) as machine:
        if server.build:
            shutil.copytree(server.build, machine.root, dirs_exist_ok=True)
            # Upstream's does not tell systemd that it is ready before 9.8.
            unit = machine.root / "etc/systemd/system/ssh.service.d/upstream.conf"
            unit.parent.mkdir(parents=True)
            unit.write_text("[Service]\nType=exec\n")
        measured = outcomes(machine, configuration.seconds)
    if "exempt" not in policy:
        del measured[EXEMPTED]
    return measured


def when(outcome: Outcome | None) -> str:
    if outcome is None:
        return "-"
    return "lives" if outcome.ended is None else f"{outcome.ended:.1f}"


def times(results: dict[Server, dict[str, Outcome] | None]) -> list[str]:
    """Tell when each kind of session ended, and which of them lived everywhere."""
    without = [server.title for server, result in results.items() if result is None]
    known = {server: result for server, result in results.items() if result is not None}
    rows = {kind: [when(result.get(kind)) for result in known.values()] for kind in KINDS}
    alive = [kind for kind, cells in rows.items() if {*cells} == {"lives"}]
    others = [[kind, *cells] for kind, cells in rows.items() if {*cells} - {"-"} and kind not in alive]
    lines = [f"Not on {', '.join(without)}, which does not know it.", ""] if without else []
    lines += [*table(["seconds", *(server.title for server in known)], others), ""] if others else []
    return [*lines, f"On every version lives: {'; '.join(alive)}.", ""]


def details(outcome: Outcome) -> list[str]:
    """Tell who ended a session, what its user got to see of that, and what has survived it."""
    logged = [text for _, text in outcome.log if re.search("closing after|terminating inactive", text)]
    # A session's own channel is the first to be closed; what is held open without one ends with the connection.
    reason = logged[0 if "command" in outcome.ends else -1] if logged else ""
    said = [line.strip() for line in outcome.output.splitlines() if "losed" in line or "logout" in line]
    survivors = [name for name, end in outcome.ends.items() if end is None and name != "sshd"]
    status = "" if outcome.status is None else f"exit {outcome.status}"
    return [
        re.sub(r" from user .*|\.0+", "", reason),
        ", ".join(filter(None, [status, *(f"“{line}”" for line in said[-1:])])),
        ", ".join(survivors),
    ]


def report(measured: dict[Configuration, dict[Server, dict[str, Outcome] | None]]) -> str:
    """Return the tables of all configurations, and how sessions ended under the first of them on the newest server."""
    lines: list[str] = []
    for configuration, results in measured.items():
        lines += [f"**{configuration.title}**; *lives*: still there after {configuration.seconds:.0f} s", ""]
        lines += times(results)
    first = next(iter(measured.values()))
    newest = max(first, key=lambda server: server.version)
    ended = {kind: outcome for kind, outcome in (first[newest] or {}).items() if outcome.ended is not None}
    lines += [f"**How they ended under the first of these on {newest.title}**", ""]
    lines += table(
        ["", "sshd logs (at VERBOSE)", "the client", "survives"],
        [[kind, *details(outcome)] for kind, outcome in ended.items()],
    )
    return "\n".join(lines) + "\n"


def summary(measured: dict[Configuration, dict[Server, dict[str, Outcome] | None]]) -> str:
    """Return one table: what becomes of the kinds that people ask about, under each configuration."""
    rows = []
    for kind, name in SUMMARIZED.items():
        results = ([(server, found[kind]) for server, found in each.items() if found] for each in measured.values())
        rows.append([name, *map(in_short, results)])
    versions = [server.title for server in next(iter(measured.values()))]
    lines = table(["seconds", *(configuration.title for configuration in measured)], rows)
    return "\n".join([*lines, "", f"OpenSSH {', '.join(versions)}."]) + "\n"


def in_short(outcomes: list[tuple[Server, Outcome]]) -> str:
    """Return what became of one kind of session, versions in a row that agree taken together."""
    groups: list[tuple[Server, list[float]]] = []
    for server, outcome in outcomes:
        ends = [] if outcome.ended is None else [outcome.ended]
        if groups and bool(groups[-1][1]) == bool(ends):
            groups[-1][1].extend(ends)
        else:
            groups.append((server, ends))
    said = []
    for server, ends in groups:
        what = "lives" if not ends else f"{min(ends):.0f} to {max(ends):.0f}"
        said.append(what if server == groups[0][0] else "from {}.{} on ".format(*server.version) + what)
    return ", ".join(said)


def _version(text: str) -> Version:
    found = re.search(r"OpenSSH_(\d+)\.(\d+)", text)
    assert found, text
    return int(found[1]), int(found[2])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="OPENSSH_BUILDS names a folder of more: 9.6/usr/sbin/sshd and what belongs to it."
    )
    parser.add_argument("page", type=Path, help="has the marks between which the tables belong")
    page = parser.parse_args().page
    for marks in (SUMMARY_MARKS, MARKS, OUTPUT_MARKS, PROBE_MARKS):
        replaced(page.read_text(), "", marks)  # before the minutes that it takes
    reason = unavailable()
    if reason:
        sys.exit(reason)
    found = servers()
    print("OpenSSH", ", ".join(server.title for server in found), flush=True)
    measured = {}
    for configuration in CONFIGURATIONS:
        with ThreadPoolExecutor(len(found)) as pool:
            measured[configuration] = dict(zip(found, pool.map(partial(measure, configuration), found)))
    for text, marks in ((summary(measured), SUMMARY_MARKS), (report(measured), MARKS)):
        print(text)
        page.write_text(replaced(page.read_text(), text, marks))
    with ThreadPoolExecutor(len(RELEASES)) as pool:
        dropped = dict(zip(RELEASES, pool.map(outputs.dropped, RELEASES)))
    costs = {pair: probes.cost(probes.SUITE, pair, 40, 60) for pair in probes.PAIRS}
    for lines, marks in ((outputs.tables(dropped), OUTPUT_MARKS), (probes.tables(costs), PROBE_MARKS)):
        text = "\n".join(lines) + "\n"
        print(text)
        page.write_text(replaced(page.read_text(), text, marks))
    return 0


if __name__ == "__main__":
    sys.exit(main())
