"""Boots that end without a complaint."""

from __future__ import annotations

import re

from baking import effective
from machine import Machine

READ_ONLY_USR = "--bind-ro=+/usr:/usr"


def interval(machine: Machine) -> str:
    """Return the interval of a machine that has finished its boot without a complaint."""
    status = machine.run("cloud-init", "status", check=False)
    assert (status.stdout, status.returncode) == ("status: done\n", 0)
    log = machine.run("cat", "/var/log/cloud-init.log").stdout
    assert [line for line in log.splitlines() if re.search("WARN|ERROR|DEPRECATED|Traceback|Invalid", line)] == []
    return effective(machine)["clientaliveinterval"]
