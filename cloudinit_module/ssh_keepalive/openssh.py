# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""What each OpenSSH does, and the settings that a policy is translated to on it."""

import contextlib
import functools
import re
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple, Union

from . import patterns
from .policy import KEY, Entry, Path, Policy, PolicyError, Problem

Version = Tuple[int, int]
Directives = Tuple[Tuple[str, str], ...]

# Every fact that depends on the version and that no probe shows: (first version with it, first version without it).
_FACTS = {
    # sshd_config(5) Include; release notes of 8.2
    "reads-drop-ins": ((8, 2), None),
    # Probes go out at half the pace; fixed in 9.5, commit 9d7193a83. Measured: on 9.2 an interval of 5 s sends one
    # every 10 s, and 20/2 drops after 120 s; after 60 s on 8.4, 10.0 and 10.6. sshd compares whole seconds: now and
    # then one probe goes out an interval earlier: 60/3 drops after 480 s or 420 s.
    "doubles-client-alive": ((9, 2), (9, 5)),
    # sshd_config(5) ChannelTimeout and UnusedConnectionTimeout; release notes of 9.2. A machine's own older sshd is
    # asked, since distributions add what is newer.
    "channel-timeout": ((9, 2), None),
    # Before commit caa6d7d19 (10.5) ChannelTimeout in a Match block is ignored, though sshd -T prints it.
    "channel-timeout-in-match": ((10, 5), None),
    # sshd(8) -G; release notes of 9.3
    "shows-configuration": ((9, 3), None),
    # ChannelTimeout's `global` is taken before, and does nothing. Measured on 9.2, 9.6, 9.7 and later.
    "ends-silent-forwards": ((9, 7), None),
    # Before commit 4f3e65bda (10.3) the clock of UnusedConnectionTimeout starts at the last traffic, not at the end of
    # the last channel. Measured: a connection ends 1 to 3 s after that on 9.2 to 10.0, as long again after on 10.4.
    # It starts anew when it runs out beside a channel: that of a command with 90 s ends after 2 x 60 s.
    "counts-unused-from-last-traffic": ((9, 2), (10, 3)),
    # sshd-session (9.8) gets the configuration in one message of so much at most; if it is longer, every login is
    # refused, and sshd -t does not tell. Measured on 10.0, and not so on 8.4, 9.2, 10.3 and 10.6.
    "takes-256-kib": ((9, 8), (10, 3)),
    # Probes go out only when nothing else is ready. Measured on 9.2 to 10.6; 8.x is not affected.
    "probes-in-silence-only": ((9, 2), None),
}

# Other names that an sshd takes for keywords that a policy sets; servconf.c, 8.0 to 10.6
_ALIASES = {"keepalive": "tcpkeepalive"}

# NAT tables and Azure's load balancer (235 s) forget a connection between whose probes more seconds pass.
_LONGEST_PAUSE = 60
# Between probes: what prints less often does not hide a dead client (probes-in-silence-only). The shortest that does is
# taken: every 5 s costs an idle connection 172 kB an hour, and 1,000 of them 3.5% of a core (tools/probes.py, 10.0).
_USUAL_PAUSES = range(5, 11)
# From here on nobody is probed more often than usual.
_LONG_ENOUGH = 60
_FEWEST_PROBES = 3


class Settings(NamedTuple):
    """Hold what enforces a policy on a version of OpenSSH.

    `dropped_after` is when a silent client is disconnected at the latest, and `tmout` what TMOUT is to be, in seconds;
    None for never.
    """

    policy: Policy
    version: Version
    directives: Directives
    dropped_after: Optional[int]
    blocks: Tuple[Tuple[Entry, Directives], ...] = ()
    tmout: Optional[int] = None


class Connection(NamedTuple):
    """Name who connects, from where, and to which of sshd's addresses: all that `sshd -T -C` takes but an RDomain.

    A Match on what is missing makes sshd fail (8.4 to 10.6; to them port 0 is missing, too).
    """

    user: str
    groups: Tuple[str, ...]
    address: str
    host: str = ".invalid"
    local_address: str = "192.0.2.1"
    local_port: int = 22

    def __str__(self) -> str:
        return (
            f"user={self.user},host={self.host},addr={self.address},laddr={self.local_address},lport={self.local_port}"
        )


# One who cannot exist, from and to where nobody is (RFC 5737), so that no Match block for somebody answers for all.
NOBODY = Connection(".invalid", (), "192.0.2.1")


def parse_version(text: str) -> Optional[Version]:
    """Return the version that `sshd -V` or an old sshd's usage text names, None without one."""
    found = re.search(r"OpenSSH_([0-9]+)\.([0-9]+)", text)
    return (int(found.group(1)), int(found.group(2))) if found else None


def name_of(version: Version) -> str:
    """Return how a version is called: OpenSSH 9.2."""
    return "OpenSSH {}.{}".format(*version)


def canonical(keyword: str) -> str:
    """Return a keyword as keywords are compared: sshd knows no case, and some by two names."""
    return _ALIASES.get(keyword.lower(), keyword.lower())


def has(version: Version, fact: str) -> bool:
    """Return whether a fact of the table holds for a version."""
    first, first_without = _FACTS[fact]
    return version >= first and (first_without is None or version < first_without)


def translate(policy: Policy, version: Version, channel_timeout: Optional[bool] = None) -> Settings:
    """Return what enforces an enabled policy on a version; raise PolicyError with all that it cannot enforce.

    `channel_timeout` says whether this sshd knows ChannelTimeout, where it could be asked.
    """
    if channel_timeout is None:
        channel_timeout = has(version, "channel-timeout")
    _refuse(policy, version, channel_timeout)
    directives, dropped_after = client_alive(policy, version)
    tmout = None
    if channel_timeout:
        directives += _idle(policy)
    elif policy.idle_timeout:
        tmout = policy.idle_timeout
    if policy.tcp_keep_alive is not None:
        directives += (("TCPKeepAlive", "yes" if policy.tcp_keep_alive else "no"),)
    blocks = tuple((entry, client_alive(entry, version)[0] + _idle(entry)) for entry in policy.match)
    return Settings(policy, version, directives, dropped_after, blocks, tmout)


def variants(policy: Policy) -> List[Settings]:
    """Return what enforces an enabled policy on each kind of OpenSSH that can."""
    found = []
    for version in sorted({bound for bounds in _FACTS.values() for bound in bounds if bound}):
        with contextlib.suppress(PolicyError):
            found.append(translate(policy, version))
    return found


def promises(settings: Settings) -> Iterator[str]:
    """Yield in words what the settings have sshd do."""
    policy = settings.policy
    if settings.dropped_after is not None:
        after = drop_times(policy, settings.version)
        yield f"a client that stopped answering is disconnected {after} s after its last sign of life"
    elif "ClientAliveInterval" in dict(settings.directives):
        yield "sshd disconnects no silent client"
    else:
        yield "sshd keeps its own setting for silent clients"
    if settings.tmout:
        yield f"a bash or ksh that waits at its prompt ends after {settings.tmout} s"
    elif policy.idle_timeout:
        commands = policy.idle_command_timeout
        others = f", a command or a subsystem after {commands} s" if commands else ""
        yield f"a {'shell' if commands else 'session'} without traffic ends after {policy.idle_timeout} s{others}"
    elif policy.idle_timeout == 0:
        yield "no idle session is ended"
    if settings.blocks:
        yield "match sets other times for some"


def expected(settings: Settings, connection: Connection) -> Directives:
    """Return what is to be in effect for a connection: of the blocks that fit the first with a keyword, or globals."""
    found: Dict[str, str] = {}
    for entry, directives in settings.blocks:
        if fits(entry, connection):
            found = {**dict(directives), **found}
    return tuple({**dict(settings.directives), **found}.items())


def fits(entry: Entry, connection: Connection) -> bool:
    """Return whether sshd takes a match entry's block for a connection; ssh_config(5), PATTERNS."""
    if entry.criterion == "address":
        return patterns.fits_address(connection.address, entry.patterns)
    names = (connection.user,) if entry.criterion == "user" else connection.groups
    return any(patterns.fits(name, entry.patterns) for name in names)


def _refuse(policy: Policy, version: Version, channel_timeout: bool) -> None:
    problems: List[Problem] = []
    if policy.idle_timeout and not channel_timeout and policy.idle_fallback == "none":
        problems.append(
            _cannot(
                (KEY, "idle_timeout"),
                policy.idle_timeout,
                version,
                "has no ChannelTimeout: set idle_fallback: tmout, which ends bash and ksh at their prompt and nothing "
                "else, remove idle_timeout, or use OpenSSH 9.2 or later",
            )
        )
    if not has(version, "channel-timeout-in-match"):
        problems += [
            _cannot(
                (KEY, "match", position, "idle_timeout"),
                entry.idle_timeout or "none",
                version,
                "ignores ChannelTimeout in Match: remove it, or use OpenSSH 10.5 or later",
            )
            for position, entry in enumerate(policy.match)
            if entry.idle_timeout is not None
        ]
    if problems:
        raise PolicyError(problems)


def _cannot(path: Path, value: Union[int, str], version: Version, why: str) -> Problem:
    return Problem(path, f"{value}: {name_of(version)} {why}")


def client_alive(times: Union[Policy, Entry], version: Version) -> Tuple[Directives, Optional[int]]:
    """Return the directives against dead clients, and when a silent client is gone at the latest, in seconds."""
    interval, count = times.client_alive_interval, times.client_alive_count_max
    factor = 2 if has(version, "doubles-client-alive") else 1
    if times.unresponsive_timeout is not None:
        interval, count = _choose(times.unresponsive_timeout, factor)
    if interval is None or count is None:
        return (), None
    # Not interval x count, as sshd_config(5) reads: the count is exceeded only at the next interval's end.
    dropped_after = factor * interval * (count + 1) or None
    return (("ClientAliveInterval", str(interval)), ("ClientAliveCountMax", str(count))), dropped_after


def drop_times(times: Union[Policy, Entry], version: Version, name: Callable[[int], str] = str) -> str:
    """Return in words when a silent client is gone, for times that have one disconnected.

    `name` names a number of seconds. The interval that unresponsive_timeout gets is too short to be told.
    """
    dropped_after = client_alive(times, version)[1] or 0
    if times.client_alive_interval and has(version, "doubles-client-alive"):
        return f"{name(dropped_after - times.client_alive_interval)} to {name(dropped_after)}"
    return name(dropped_after)


def _idle(times: Union[Policy, Entry]) -> Directives:
    """Return the directives against idle sessions; 0 exempts, and is what sshd takes for none.

    Measured: `session:*` ends each shell, command and subsystem by itself on 9.2 to 10.6, where `session` ends none
    before 10.6 and `none` in a Match block refuses logins. `global` ends connections of which only silent forwards are
    left, from 9.7 on; it does nothing before. A connection with nothing left is what UnusedConnectionTimeout ends.

    Of the patterns that fit, the first holds, and `global` ends commands, too: it may not be shorter than theirs.
    """
    if times.idle_timeout is None:
        return ()
    longest = times.idle_command_timeout or times.idle_timeout
    commands = f"session:command={longest} session:subsystem:*={longest} " if times.idle_command_timeout else ""
    return (
        ("ChannelTimeout", f"{commands}session:*={times.idle_timeout} global={longest}"),
        ("UnusedConnectionTimeout", str(times.idle_timeout)),
    )


@functools.lru_cache(maxsize=None)
def _choose(timeout: int, factor: int) -> Tuple[int, int]:
    """Return the interval (seconds) and the count that drop a silent client at `timeout`, never later.

    Probes are as far apart as is usual, where that drops it at most 2 s or 2% early. All times of 9.2 to 9.4 are even:
    there 25 times of less than four minutes are 3 to 5 s early, since no three probes come nearer. One probe that goes
    out earlier takes an interval more, mostly 3 to 5 s.
    """
    pairs = [(interval, timeout // (factor * interval) - 1) for interval in range(1, _LONGEST_PAUSE // factor + 1)]

    def rank(pair: Tuple[int, int]) -> Tuple[bool, bool, int, bool, int, int]:
        pause = factor * pair[0]
        early = timeout - pause * (pair[1] + 1)
        hurry = max(0, _USUAL_PAUSES[0] - pause)
        is_early = early > max(2, timeout // 50)
        return hurry > 0 and timeout >= _LONG_ENOUGH, is_early, hurry, pause not in _USUAL_PAUSES, early, pause

    return min((pair for pair in pairs if pair[1] >= _FEWEST_PROBES), key=rank)
