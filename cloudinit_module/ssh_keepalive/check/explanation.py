# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""An explanation of a policy to the people who are logged in."""

import textwrap
from typing import Iterable, List, Optional, Tuple, Union

from ..openssh import Settings, Version, client_alive, drop_times, has, name_of, translate
from ..policy import KEY, Entry, Path, Policy, Problem

# One on which the pair means what it does on most, and one of those (9.2 to 9.4) on which it takes up to twice that
_USUAL = (10, 0)
_DOUBLING = (9, 2)
# Backups and Ansible's tasks are often silent for some minutes.
_SHORTEST_HARMLESS_IDLE = 600
# What a terminal has of which nothing is known, and the narrowest in which a table can be read
_WIDTH = 80
_NARROWEST = 60

Rows = List[Tuple[str, str]]


def surprises(policy: Policy, version: Optional[Version] = None) -> List[Problem]:
    """Return what is legal, but hardly what its author expects, on a version or on any."""
    found = _surprising_times((KEY,), policy, policy, version)
    for position, entry in enumerate(policy.match):
        found += _surprising_times((KEY, "match", position), entry, policy, version)
    return found


def explain(policy: Policy, version: Version, width: int = _WIDTH) -> str:
    """Return in words what a policy does to sessions on a version; raise PolicyError if that cannot enforce it.

    `width` is how many columns a line may have.
    """
    width = max(width, _NARROWEST)
    name = name_of(version)
    if not policy.enabled:
        return f"On {name}: the policy is removed, sshd has its own settings for everybody.\n"
    settings = translate(policy, version)
    rows = [("a dead client", _dead_client(policy, settings)), *_idle_rows(settings)]
    if policy.tcp_keep_alive is not None:
        does = "probes idle connections, by default every two hours" if policy.tcp_keep_alive else "probes nothing"
        rows.append(("the kernel", does))
    text = f"On {name}, for everybody\n" + _table(rows, width, ljust=True)
    times = _timeline(settings)
    if times:
        text += "\nAfter the last sign of life, or the last byte\n" + _table(times, width, ljust=False)
    if settings.blocks:
        title = "Other times for some" + ("; the first that fits overrides others" if len(settings.blocks) > 1 else "")
        text += f"\n{title}\n" + _items((_for_match_entry(entry, settings) for entry, _ in settings.blocks), width)
    return text + "\nNot covered\n" + _items(_not_covered(settings), width)


def _surprising_times(
    path: Path, times: Union[Policy, Entry], policy: Policy, version: Optional[Version]
) -> List[Problem]:
    found = []
    interval, count = times.client_alive_interval, times.client_alive_count_max
    if interval and count:
        after = f"{drop_times(times, version or _USUAL)} s"
        if version is None:
            after += f", on OpenSSH 9.2 to 9.4 after {drop_times(times, _DOUBLING)} s"
        message = (
            f"{interval} x {count} reads like {interval * count} s, but a dead client is disconnected after {after}"
        )
        remedy = "use unresponsive_timeout, which means the same everywhere"
        found.append(Problem((*path, "client_alive_interval"), f"{message}: {remedy}"))
    if times.idle_timeout:
        if not _drops_dead_clients(times, policy):
            message = "a client that stopped answering stays until it counts as idle: add unresponsive_timeout"
            found.append(Problem((*path, "idle_timeout"), message))
        key, remedy = "idle_timeout", "add idle_command_timeout, a longer time for commands and sftp"
        if times.idle_command_timeout:
            key, remedy = "idle_command_timeout", "set 10m or more, unless that is meant"
        if version and not has(version, "channel-timeout"):
            # TMOUT ends no command.
            pass
        elif getattr(times, key) < _SHORTEST_HARMLESS_IDLE:
            message = "ends a command that prints nothing for so long, such as a backup or an Ansible task"
            found.append(Problem((*path, key), f"{message}: {remedy}"))
        elif not times.idle_command_timeout and times.idle_timeout < (policy.idle_command_timeout or 0):
            message = "is for commands and sftp, too, here: add idle_command_timeout to the match entry if not meant so"
            found.append(Problem((*path, key), message))
    return found


def _drops_dead_clients(times: Union[Policy, Entry], policy: Policy) -> bool:
    """Return whether probes are on; a match entry without times of its own has those for everybody."""
    own = times if (times.unresponsive_timeout, times.client_alive_interval) != (None, None) else policy
    return bool(own.unresponsive_timeout or own.client_alive_interval)


def _probes(times: Union[Policy, Entry], version: Version) -> Tuple[int, int, int]:
    """Return how many probes a dead client gets, the seconds between them and until it is dropped; all 0 for never."""
    directives, dropped_after = client_alive(times, version)
    if not dropped_after:
        return 0, 0, 0
    count = int(dict(directives)["ClientAliveCountMax"])
    return count, dropped_after // (count + 1), dropped_after


def _dead_client(times: Union[Policy, Entry], settings: Settings) -> str:
    policy = settings.policy
    count, pause, dropped_after = _probes(times, settings.version)
    if dropped_after:
        return (
            f"is disconnected {drop_times(times, settings.version, _duration)} after its last sign of life, "
            f"with {_probe_count(count)} unanswered, one every {_duration(pause)}"
        )
    idle = policy.idle_timeout if times.idle_timeout is None else times.idle_timeout
    until = "it stays until TCP gives up, hours later"
    if policy.tcp_keep_alive is False:
        until = "it stays for ever if nothing is sent to it"
    if idle and has(settings.version, "channel-timeout"):
        until = "it stays until its sessions count as idle"
    if times.client_alive_interval == 0:
        return "is never probed: " + until
    return "is left to sshd's own settings: by default " + until


def _idle_rows(settings: Settings) -> Rows:
    """Return what becomes of idle sessions and connections."""
    policy, version = settings.policy, settings.version
    if policy.idle_timeout is None:
        return [("an idle session", "is left to sshd's own settings: by default it stays")]
    if policy.idle_timeout == 0:
        return [("an idle session", "stays: idle_timeout is none")]
    after = _duration(policy.idle_timeout)
    if settings.tmout:
        shells = "bash, zsh and ksh, not in tmux or screen; an unfinished line is idle, too"
        others = "stays, such as a silent command, an sftp, a forward or a ControlMaster"
        if policy.idle_command_timeout:
            others += "; idle_command_timeout does nothing"
        return [("an idle shell", f"ends after {after} at its prompt, by TMOUT: {shells}"), ("anything else", others)]
    longest = _duration(policy.idle_command_timeout or policy.idle_timeout)
    command = f"ends after {longest}: ssh host command, rsync, scp"
    if policy.idle_command_timeout:
        command += "; to sshd ssh -t host bash, sudo -i or tmux is a command, too"
    forward = "in use keeps its connection, while idle sessions beside it end; "
    if has(version, "ends-silent-forwards"):
        forward += f"after {longest} without traffic that connection ends, too"
    else:
        forward += "a silent one that is open keeps it for ever"
    master = f"or ssh -N without an open forward ends {after} after its last session"
    if has(version, "counts-unused-from-last-traffic"):
        master += f", within seconds if that was {'a shell ' if policy.idle_command_timeout else ''}ended as idle"
    return [
        (
            "an idle shell",
            f"ends after {after} without a byte typed or printed; what runs in its foreground dies, "
            "nohup children live on",
        ),
        ("a silent command", command),
        ("an idle sftp", f"ends after {longest} without traffic; its client notices at the next command"),
        ("a forward", forward),
        ("a ControlMaster", master),
    ]


def _timeline(settings: Settings) -> Rows:
    policy, version = settings.policy, settings.version
    found = []
    count, pause, dropped_after = _probes(policy, version)
    if dropped_after:
        found += [(pause, f"the first of {_probe_count(count)}, to a client that does not answer")]
        limit = "" if drop_times(policy, version) == str(dropped_after) else " at the latest"
        found += [(dropped_after, f"that client is disconnected{limit}, with its sessions")]
    idle, commands = policy.idle_timeout, policy.idle_command_timeout
    if commands and not settings.tmout:
        found += [(commands, "a silent command or an idle sftp ends")]
    session = "an idle shell" if commands else "an idle session"
    if idle and settings.tmout:
        found += [(idle, "a bash or ksh that waits at its prompt ends")]
    elif idle and has(version, "counts-unused-from-last-traffic"):
        found += [(idle, f"{session} ends, and its connection within seconds, if nothing else is in it")]
    elif idle:
        found += [(idle, f"{session} ends, and with it the connection of an ssh that has nothing else")]
        found += [(2 * idle, "the connection of a ControlMaster ends, if nothing else is in it")]
    return [(_duration(seconds), what) for seconds, what in sorted(found)]


def _probe_count(count: int) -> str:
    return "1 probe" if count == 1 else f"{count} probes"


def _for_match_entry(entry: Entry, settings: Settings) -> str:
    """Return what a match entry changes."""
    said = []
    if client_alive(entry, settings.version)[0]:
        said.append("a dead client " + _dead_client(entry, settings))
    if entry.idle_timeout == 0:
        said.append("an idle session stays")
    elif entry.idle_timeout is not None:
        session = "shell" if entry.idle_command_timeout else "session"
        said.append(f"an idle {session} ends after {_duration(entry.idle_timeout)}")
        if entry.idle_command_timeout:
            said.append(f"a silent command or sftp after {_duration(entry.idle_command_timeout)}")
    return "{} {}: {}".format(entry.criterion, ", ".join(entry.patterns), "; ".join(said))


def _not_covered(settings: Settings) -> List[str]:
    policy, version = settings.policy, settings.version
    found = ["sessions that are open already: they keep the settings that they began with"]
    everybody: Tuple[Union[Policy, Entry], ...] = (policy, *policy.match)
    directives = [dict(client_alive(times, version)[0]) for times in everybody]
    longest = max(int(one.get("ClientAliveInterval", 0)) for one in directives)
    if has(version, "probes-in-silence-only") and longest:
        found.append(
            f"a dead client behind a command that prints more often than every {_duration(longest)}: sshd does not "
            "probe it then; if its network is gone TCP gives up after 16 minutes, if it is frozen it stays for ever"
        )
    if any(times.idle_timeout for times in everybody) and has(version, "ends-silent-forwards"):
        found.append("a jump (ssh -J) to an sshd that probes its clients: the probes are traffic in the forward")
    if any(times.idle_timeout for times in everybody) and not settings.tmout:
        found.append("programs that repaint (top, watch, a clock in a status line): they are never idle")
    if settings.tmout:
        found.append("shells without that TMOUT: dash, and zsh where it reads no /etc/profile (Debian's)")
    return found


def _table(rows: Rows, width: int, ljust: bool) -> str:
    longest = max(len(name) for name, _ in rows)
    return "".join(
        _filled("  " + (name.ljust(longest) if ljust else name.rjust(longest)) + "  ", text, width)
        for name, text in rows
    )


def _items(texts: Iterable[str], width: int) -> str:
    return "".join(_filled("  - ", text, width) for text in texts)


def _filled(first: str, text: str, width: int) -> str:
    """Return a text in lines, the first with something before it, the others below the text."""
    indent = " " * len(first)
    lines = textwrap.wrap(text, width, initial_indent=first, subsequent_indent=indent, break_long_words=False)
    return "".join(f"{line}\n" for line in lines)


def _duration(seconds: int) -> str:
    """Return a time as sshd_config(5) has it, TIME FORMATS."""
    found = ""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        number, seconds = divmod(seconds, size)
        found += f"{number}{unit}" if number else ""
    return found
