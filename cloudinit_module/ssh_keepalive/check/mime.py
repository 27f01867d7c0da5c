# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""MIME as the standard library parses it, within bounds that no user-data reaches.

Its parser takes each line once for each multi-part that is open, and a header's parameters in quadratic time.
"""

import email
from email.message import Message
from email.policy import Compat32
from typing import Any, List, Tuple

_MAX_LINES = 500000
_MAX_DEPTH = 10
_LONGEST_HEADER = 1000


class MimeError(ValueError):
    """Say which bound a text is beyond."""


class _Message(Message):
    depth = 0

    def attach(self, payload: Any) -> None:
        """Take a message that the parser has just begun."""
        payload.depth = self.depth + 1
        if payload.depth > _MAX_DEPTH:
            raise MimeError(f"MIME nested more than {_MAX_DEPTH} deep, not checked")
        super().attach(payload)


class _Policy(Compat32):
    def header_source_parse(self, sourcelines: List[str]) -> Tuple[str, str]:
        """Return name and value of a header, before anybody looks for parameters in it."""
        if sum(map(len, sourcelines)) > _LONGEST_HEADER:
            raise MimeError(f"a MIME header of more than {_LONGEST_HEADER} characters, not checked")
        return super().header_source_parse(sourcelines)


def parse(text: str) -> Message:
    """Return the message that a text is; raise MimeError for one beyond bounds."""
    # Its parser takes both for the end of a line.
    if text.count("\n") + text.count("\r") > _MAX_LINES:
        raise MimeError(f"MIME of more than {_MAX_LINES} lines, not checked")
    return email.message_from_string(text, _Message, policy=_Policy())
