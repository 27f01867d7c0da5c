"""Networks of their own for clients in a machine, so that these can be lost without a word to anybody."""

from __future__ import annotations

import itertools
from typing import NamedTuple

from machine import Machine


class Network(NamedTuple):
    """A network namespace in a machine, on a cable to it: clients in it have addresses 10.NUMBER.SUBNET.HOST."""

    machine: Machine
    number: int
    hosts: dict[int, itertools.count[int]]

    @classmethod
    def laid(cls, machine: Machine, number: int) -> Network:
        """Lay a network; the machine itself has 10.NUMBER.0.1."""
        machine.sh(
            f"ip netns add away{number}; ip link add to{number} type veth peer name eth0 netns away{number}; "
            f"ip addr add 10.{number}.0.1/16 dev to{number}; ip link set to{number} up; "
            f"ip -n away{number} link set eth0 up"
        )
        return cls(machine, number, {})

    @property
    def enter(self) -> tuple[str, ...]:
        """The words before a command that is to run there."""
        return ("ip", "netns", "exec", f"away{self.number}")

    @property
    def server(self) -> str:
        return f"10.{self.number}.0.1"

    def address(self, subnet: int) -> str:
        """Return an address that nobody has yet."""
        host = next(self.hosts.setdefault(subnet, itertools.count(1)))
        address = f"10.{self.number}.{subnet}.{host}"
        self.machine.run("ip", "-n", f"away{self.number}", "addr", "add", f"{address}/16", "dev", "eth0")
        return address

    def lose(self) -> None:
        """Lose it: from now on the machine hears nothing from there, not even that."""
        self.machine.run(*self.enter, "ip", "route", "add", "blackhole", self.server)

    def traffic(self) -> tuple[int, int]:
        """Return how many bytes and packets have gone over the cable, both ways together, from Ethernet on."""
        counters = [f"/sys/class/net/to{self.number}/statistics/{way}_{{}}" for way in ("rx", "tx")]
        names = [counter.format(what) for what in ("bytes", "packets") for counter in counters]
        found = list(map(int, self.machine.run("cat", *names).stdout.split()))
        return found[0] + found[1], found[2] + found[3]
