# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""An explanation of a policy to the people who are logged in."""

import textwrap
from typing import List, Tuple, Union

from ..openssh import Settings, Version, client_alive, has, name_of, translate
from ..policy import KEY, Entry, Path, Policy, Problem

# One on which the pair means what it does on most, and one of those (9.2 to 9.4) on which it means twice that
_USUAL = (10, 0)
_DOUBLING = (9, 2)
# Backups and Ansible's tasks are often silent for some minutes.
_SHORTEST_HARMLESS_IDLE = 600
_WIDTH = 100

Rows = List[Tuple[str, str]]


def surprises(policy: Policy) -> List[Problem]:
    """Return what is legal, but hardly what its author expects."""
    found = _surprising_times((KEY,), policy, policy)
    for position, entry in enumerate(policy.match):
        found += _surprising_times((KEY, "match", position), entry, policy)
    return found


def explain(policy: Policy, version: Version) -> str:
    """Return in words what a policy does to sessions on a version; raise PolicyError if that cannot enforce it."""
    name = name_of(version)
    if not policy.enabled:
        return f"On {name}: the policy is taken off, sshd has its own settings for everybody.\n"
    settings = translate(policy, version)
    rows = [("a dead client", _dead_client(policy, settings)), *_idle_rows(settings)]
    if policy.tcp_keep_alive is not None:
        does = "probes idle connections, too, by default every two hours" if policy.tcp_keep_alive else "probes nothing"
        rows.append(("the kernel", does))
    text = f"On {name}, for everybody\n" + _table(rows, ljust=True)
    times = _timeline(settings)
    if times:
        text += "\nAfter the last sign of life, or the last byte\n" + _table(times, ljust=False)
    if settings.blocks:
        text += "\nFor some, the rest as for everybody" + (
            "; of two that fit and set the same, the first holds\n" if len(settings.blocks) > 1 else "\n"
        )
        text += "".join(_item(_for_match_entry(entry, settings)) for entry, _ in settings.blocks)
    return text + "\nNot covered\n" + "".join(map(_item, _not_covered(settings)))


def _surprising_times(path: Path, times: Union[Policy, Entry], policy: Policy) -> List[Problem]:
    found = []
    interval, count = times.client_alive_interval, times.client_alive_count_max
    if interval and count:
        usual, doubled = (client_alive(times, version)[1] for version in (_USUAL, _DOUBLING))
        message = (
            "{0} x {1} reads like {2} s, but a dead client is dropped after {3} s, on OpenSSH 9.2 to 9.4 after {4} s: "
            "unresponsive_timeout means the same everywhere"
        )
        message = message.format(interval, count, interval * count, usual, doubled)
        found.append(Problem((*path, "client_alive_interval"), message))
    if times.idle_timeout:
        if not _drops_dead_clients(times, policy):
            message = "a client that stopped answering stays until it counts as idle: add unresponsive_timeout, too"
            found.append(Problem((*path, "idle_timeout"), message))
        key, message = "idle_timeout", ": idle_command_timeout gives commands and sftp a time of their own"
        if times.idle_command_timeout:
            key, message = "idle_command_timeout", ""
        if getattr(times, key) < _SHORTEST_HARMLESS_IDLE:
            short = "below 10m: a command that prints nothing for so long, a backup or an Ansible task, counts as idle"
            found.append(Problem((*path, key), short + message))
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
            f"is dropped {_duration(dropped_after)} after its last sign of life, "
            f"with {_probe_count(count)} unanswered, one every {_duration(pause)}"
        )
    idle = policy.idle_timeout if times.idle_timeout is None else times.idle_timeout
    until = "it stays until TCP gives up, by default hours later"
    if policy.tcp_keep_alive is False:
        until = "it stays for ever if nothing is sent to it"
    if idle and has(settings.version, "channel-timeout"):
        until = "it stays until its sessions count as idle"
    if times.client_alive_interval == 0:
        return "is not looked for: " + until
    return "is as sshd is set otherwise: by default " + until


def _idle_rows(settings: Settings) -> Rows:
    """Return what becomes of idle sessions and connections."""
    policy, version = settings.policy, settings.version
    if policy.idle_timeout is None:
        return [("an idle session", "is as sshd is set otherwise: by default it stays")]
    if policy.idle_timeout == 0:
        return [("an idle session", "stays: idle_timeout is none")]
    after = _duration(policy.idle_timeout)
    if settings.tmout:
        shell = (
            "ends after {} at its prompt, by TMOUT: bash, zsh and ksh, not in tmux or screen; "
            "an unfinished line counts as idle, too"
        )
        stays = "stays: TMOUT is for shells that wait at their prompt"
        command = stays
        if policy.idle_command_timeout:
            command += ", idle_command_timeout has nothing to do"
        others = ("an idle sftp", "a forward", "a ControlMaster")
        rows = [("an idle shell", shell.format(after)), ("a silent command", command)]
        return rows + [(other, stays) for other in others]
    longest = _duration(policy.idle_command_timeout or policy.idle_timeout)
    forward = "keeps its connection while it is used, idle sessions beside it end; "
    if not has(version, "ends-silent-forwards"):
        forward += "silent, but open, it keeps it for ever (before 9.7)"
    else:
        forward += "after {} of silence in all of it that connection ends, too"
    last = "a shell ended as idle" if policy.idle_command_timeout else "ended as idle"
    early = f", within seconds if that was {last} (before 10.3)"
    shell = f"ends after {after} without a byte typed or printed"
    dies = "what runs in the foreground of a terminal dies, nohup children live on"
    if policy.idle_command_timeout:
        command = (
            f"ends after {longest}: ssh host command, rsync, scp; also ssh -t host with bash, sudo -i or tmux, "
            "which to sshd are commands like others"
        )
        rows = [("an idle shell", f"{shell}; {dies}"), ("a silent command", command)]
    else:
        rows = [("an idle shell", f"{shell}, and a silent command, too; {dies}")]
    return [
        *rows,
        ("an idle sftp", f"ends after {longest} without traffic; its client notices at the next command"),
        ("a forward", forward.format(longest)),
        (
            "a ControlMaster",
            "or ssh -N without an open forward ends {} after its last session{}".format(
                after, early if has(version, "counts-unused-from-last-traffic") else ""
            ),
        ),
    ]


def _timeline(settings: Settings) -> Rows:
    policy, version = settings.policy, settings.version
    found = []
    count, pause, dropped_after = _probes(policy, version)
    if dropped_after:
        found += [(pause, f"the first of {_probe_count(count)}, to a client that does not answer")]
        found += [(dropped_after, "that client is dropped, with its sessions")]
    idle, commands = policy.idle_timeout, policy.idle_command_timeout
    if commands and not settings.tmout:
        found += [(commands, "a silent command or an idle sftp ends")]
    session = "an idle shell" if commands else "an idle session"
    if idle and settings.tmout:
        found += [(idle, "a shell that waits at its prompt ends")]
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
    found = ["sessions that are open before: they keep what sshd was set to when they began"]
    everybody: Tuple[Union[Policy, Entry], ...] = (policy, *policy.match)
    directives = [dict(client_alive(times, version)[0]) for times in everybody]
    longest = max(int(one.get("ClientAliveInterval", 0)) for one in directives)
    if has(version, "probes-in-silence-only") and longest:
        found.append(
            f"a dead client behind a command that prints more often than every {_duration(longest)}: since OpenSSH 9.2 "
            "sshd does not probe it then; where its network is gone TCP gives up after 16 minutes, where it is frozen "
            "it stays for ever"
        )
    if any(times.idle_timeout for times in everybody) and has(version, "ends-silent-forwards"):
        found.append("a jump (ssh -J) to an sshd that probes its clients: the probes count as use of the forward")
    if any(times.idle_timeout for times in everybody) and not settings.tmout:
        found.append("programs that repaint (top, watch, a clock in a status line): they count as used")
    if settings.tmout:
        found.append("whoever leaves bash for another shell (exec dash), and zsh that reads no /etc/profile (Debian's)")
    return found


def _table(rows: Rows, ljust: bool) -> str:
    width = max(len(name) for name, _ in rows)
    lines = []
    for name, text in rows:
        first = "  " + (name.ljust(width) if ljust else name.rjust(width)) + "  "
        lines.append(textwrap.fill(text, _WIDTH, initial_indent=first, subsequent_indent=" " * len(first)) + "\n")
    return "".join(lines)


def _item(text: str) -> str:
    return textwrap.fill(text, _WIDTH, initial_indent="  - ", subsequent_indent="    ", break_long_words=False) + "\n"


def _duration(seconds: int) -> str:
    """Return a time as sshd_config(5) has it, TIME FORMATS."""
    found = ""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        number, seconds = divmod(seconds, size)
        found += f"{number}{unit}" if number else ""
    return found
