"""The users and groups of a machine, whatever they are called."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from machine import Machine
from ssh_keepalive.openssh import Connection

FIRST_NUMBER = 20000


class Accounts:
    """Hold a machine's own users and groups, to which others may be added."""

    def __init__(self, machine: Machine) -> None:
        self._files = tuple(machine.root / "etc" / name for name in ("passwd", "group"))
        self._own = tuple([line.split(":") for line in file.read_text().splitlines()] for file in self._files)

    def add(self, people: Iterable[Connection]) -> list[Connection]:
        """Have the machine know its own and these people, no others; return them with the groups that they are in."""
        people = list(people)
        users = {fields[0]: list(fields) for fields in self._own[0]}
        groups = {fields[0]: list(fields) for fields in self._own[1]}
        own = set(users)
        for number, person in enumerate(people, FIRST_NUMBER):
            # A line that begins with a sign is NIS's, nsswitch.conf(5).
            if person.user in own or person.user[0] in "+-":
                continue
            users.setdefault(person.user, [person.user, "x", str(number), "65534", "", "/", "/bin/sh"])
            for name in person.groups:
                if name[0] not in "+-":
                    group = groups.setdefault(name, [name, "x", str(FIRST_NUMBER + len(groups)), ""])
                    group[3] = ",".join({*filter(None, group[3].split(",")), person.user})
        _write(self._files[0], users)
        _write(self._files[1], groups)

        def groups_of(user: str) -> tuple[str, ...]:
            primary = users[user][3] if user in users else None
            return tuple(name for name, group in groups.items() if group[2] == primary or user in group[3].split(","))

        return [person._replace(groups=groups_of(person.user)) for person in people]


def _write(file: Path, lines: dict[str, list[str]]) -> None:
    file.write_text("".join(":".join(fields) + "\n" for fields in lines.values()))
