# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""What the Match lines of somebody else's in a server's files change of a policy."""

import shlex
from typing import Callable, Dict, List, Set

from .. import openssh, sshd_config
from ..openssh import Connection
from . import match_lines, trace
from .audit import Audit, deviating
from .host import Host, SlowError
from .problem import Problem
from .questions import Questions, Reply
from .trace import Line
from .verification import Deviation

# For one Match line
_MOST_CONNECTIONS = 250
# Where earlier lines override a line for those who were asked about, so many for each pattern, and so many in all
_MEMBERS, _MOST_MORE = 9, 16


class OthersLines:
    """Ask about some of those whom each Match line fits that may set what the policy sets.

    `is_own` tells the places of our own lines. What was found stays where there is no time for the rest.
    """

    def __init__(self, found: Audit, is_own: Callable[[str], bool], questions: Questions, host: Host) -> None:
        self.deviations: List[Deviation] = []
        self.unknowns: List[Problem] = []
        self._found = found
        self._is_own = is_own
        self._questions = questions
        self._host = host
        self._known = {one.key for one in (*found.deviations, *found.for_root)}
        self._blocks = match_lines.blocks(found.texts)
        # The lines in blocks that no other Match is around
        names = {match_lines.normalized(match): match for match in found.matches}
        top_level = [block for block in self._blocks if block.name in names]
        self._top_level = {place: names[block.name] for block in top_level for place in block.lines}
        self._values = found.values
        # Whether Match lines in files that a Match includes have fitted somebody
        self._nested: Dict[str, bool] = {}
        # Lines that somebody gets whom no match entry of ours fits
        self._shown: Set[Line] = set()

    def look(self) -> None:
        """Ask about them all."""
        left = match_lines.changing(self._found.others_matches, self._blocks, self._values)
        for position, match in enumerate(left):
            try:
                self._look_at(match)
            except SlowError:
                self.unknowns.append(self._out_of_time(left[position:]))
                return
        nested = [match for match, fits in self._nested.items() if not fits]
        self.unknowns += map(_unknown, match_lines.changing(nested, self._blocks, self._values))

    def _look_at(self, match: str) -> None:
        fits_somebody = False
        hidden: Dict[Line, Set[str]] = {}
        asked = match_lines.connections_for(match, self._found.like, self._host)
        for one in asked[:_MOST_CONNECTIONS]:
            fits_somebody = self._ask(match, one, hidden) or fits_somebody
        if not fits_somebody or len(asked) > _MOST_CONNECTIONS:
            self.unknowns.append(_unknown(match))
            return
        if not self._is_hidden(match, hidden):
            return
        more = match_lines.connections_for(match, self._found.like, self._host, _MEMBERS)
        for one in [one for one in more if one not in asked][:_MOST_MORE]:
            self._ask(match, one, hidden)
            if not self._is_hidden(match, hidden):
                return
        self.unknowns.append(self._hidden(match))

    def _ask(self, match: str, one: Connection, hidden: Dict[Line, Set[str]]) -> bool:
        """Ask about a connection, and return whether the Match line fits it."""
        found = self._found
        reply = self._questions.ask(found.server, one)
        matches = trace.matches(reply.trace)
        for other, fits in matches:
            if other not in found.matches:
                self._nested[other] = self._nested.get(other, False) or fits
        for deviation in deviating(found, one, reply, self._host):
            if deviation.key not in self._known:
                self._known.add(deviation.key)
                self.deviations.append(deviation._replace(connections=f" for Match {match}"))
        self._tell_apart(match, one, reply, hidden)
        return (match, True) in matches

    def _tell_apart(self, match: str, one: Connection, reply: Reply, hidden: Dict[Line, Set[str]]) -> None:
        """Note which lines of a Match a connection gets, and which are hidden from it, by which Match lines."""
        settings = self._found.settings
        if settings is None:
            return
        expected = {openssh.canonical(keyword): value for keyword, value in openssh.expected(settings, one)}
        general = {openssh.canonical(keyword): value for keyword, value in settings.directives}
        effective: Dict[str, Line] = {}
        for line in trace.set_by_matches(reply.trace, self._found.main):
            first = effective.setdefault(line.keyword, line)
            # Where the policy has one value only, a line that gives that one changes nothing for anybody.
            if self._values.get(line.keyword, {line.value}) == {line.value} or self._is_own(line.place):
                continue
            if first is not line:
                by = [self._top_level.get(first.place, "")]
            elif expected.get(line.keyword) == general.get(line.keyword):
                self._shown.add(line)
                continue
            else:
                # Somebody whom one of our match entries fits shows nothing of those whom none fits.
                by = [sshd_config.criterion(entry) for entry, _ in settings.blocks if openssh.fits(entry, one)]
            if match_lines.normalized(self._top_level.get(line.place, match)) == match_lines.normalized(match):
                hidden.setdefault(line, set()).update(by)

    def _is_hidden(self, match: str, hidden: Dict[Line, Set[str]]) -> bool:
        """Return whether a line is left that nobody was seen to get, and that somebody may get."""
        lines = (line for line in hidden if line not in self._shown)
        return any(not match_lines.are_covered(match, sorted(hidden[line])) for line in lines)

    def _hidden(self, match: str) -> Problem:
        message = f"what Match {match} changes is not known, other lines override it for those who were asked about"
        return Problem(message, f"{self._question} tells what somebody gets")

    def _out_of_time(self, matches: List[str]) -> Problem:
        number = "one Match line" if len(matches) == 1 else f"{len(matches)} Match lines"
        message = f"there was no time to ask about {number} that may change it, from Match {matches[0]} on"
        return Problem(message, f"{self._question} tells what somebody gets")

    @property
    def _question(self) -> str:
        """Return the command that says what the server does with somebody."""
        server = self._found.server
        who = str(self._found.like._replace(user="NAME", address="ADDRESS"))
        return " ".join(map(shlex.quote, (server.program, "-T", *server.own_options, "-C", who)))


def _unknown(match: str) -> Problem:
    message = f"what Match {match} changes is not known, since not everybody whom it may fit is known"
    return Problem(message, "look at what that Match sets")
