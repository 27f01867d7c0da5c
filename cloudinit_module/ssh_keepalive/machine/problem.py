# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""What is not as it was asked, and what to do about it: raised by apply, shown by status, in the same words."""

from typing import NamedTuple, Tuple

REAPPLY = "ssh-keepalive reapply"
# What has cloud-init hand its merged configuration to the module once more, whatever its list says
RUN_AGAIN = "cloud-init single --name ssh_keepalive --frequency always"


class Problem(NamedTuple):
    """Say what is not as it was asked, and a remedy that works when it is typed or done; both in one line."""

    message: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.message}: {self.remedy}" if self.remedy else self.message


class SshdError(Exception):
    """Say why this machine does not enforce a policy; `problems` holds every reason."""

    exit_code = 1

    def __init__(self, *problems: Problem) -> None:
        self.problems = problems
        # One plain string: cloud-init status shows repr(exception).
        super().__init__("; ".join(map(str, problems)))

    def remedied(self, remedy: str) -> Tuple[Problem, ...]:
        """Return the problems, with a remedy for those that have none of their own."""
        return tuple(one if one.remedy else one._replace(remedy=remedy) for one in self.problems)


class NotReadError(SshdError):
    """Say that sshd does not read the drop-in, or not all of it."""


class UnansweredError(SshdError):
    """Say why something cannot be asked, or is not known yet."""

    exit_code = 2


class NotRestartedError(UnansweredError):
    """Say that a service runs on as it did, without having read what was written."""
