# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The state of a machine's policy: what was asked, what is so, and what is to be done about the difference."""

from typing import NamedTuple, Optional, Tuple

from ..openssh import Settings, Version
from ..policy import Policy
from .instance import Request
from .problem import Problem
from .sessions import Session
from .verification import Deviation

ENFORCED = "enforced"
NOT_ENFORCED = "not-enforced"
# It is enforced, or nothing is asked; cloud-init would not run the module on a next instance.
NOT_REGISTERED = "not-registered"
NOT_CONFIGURED = "not-configured"
UNKNOWN = "unknown"
# An image has no sshd that runs.
REGISTERED = "registered"

_EXIT_CODES = {ENFORCED: 0, NOT_CONFIGURED: 0, REGISTERED: 0, NOT_ENFORCED: 1, NOT_REGISTERED: 1, UNKNOWN: 2}


class ServerState(NamedTuple):
    """Hold what was found of one server; `has_read` is None where it is not known what it has read."""

    name: str
    program: str
    main: str
    unit: Optional[str] = None
    pid: Optional[int] = None
    addresses: Tuple[str, ...] = ()
    has_read: Optional[bool] = None
    changed: Tuple[str, ...] = ()


class State(NamedTuple):
    """Hold what was found; what is None or empty was not found, or not looked for."""

    verdict: str
    problems: Tuple[Problem, ...] = ()
    notes: Tuple[str, ...] = ()
    policy: Optional[Policy] = None
    request: Optional[Request] = None
    is_as_requested: bool = False
    version: Optional[Version] = None
    settings: Optional[Settings] = None
    promise: str = ""
    deviations: Tuple[Deviation, ...] = ()
    servers: Tuple[ServerState, ...] = ()
    older_sessions: Tuple[Session, ...] = ()
    unregistered: Optional[Tuple[str, ...]] = None

    @property
    def exit_code(self) -> int:
        """Return 0 for all is well, 1 for something is to be done, 2 for it is not known."""
        return _EXIT_CODES[self.verdict]
