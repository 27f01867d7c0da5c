# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""Ctrl-C, which ends a run on its way forward at once, and cuts short neither its way back nor its end."""

import signal
import threading
from types import TracebackType
from typing import Any, Optional, Type


class Interrupts:
    """Let Ctrl-C raise KeyboardInterrupt, as Python does, until it is held; the end of the context has it as before."""

    held = False

    def __enter__(self) -> "Interrupts":
        # Others cannot have it changed.
        self._is_ours = threading.current_thread() is threading.main_thread()
        self._before: Any = signal.getsignal(signal.SIGINT)
        return self

    def hold(self) -> None:
        """Have Ctrl-C do nothing from here on."""
        self.held = True
        if self._is_ours:
            # Unlike what is ignored, this is not passed on to an sshd that an init script starts.
            signal.signal(signal.SIGINT, lambda *_: None)

    def release(self) -> None:
        """Have Ctrl-C raise again, where what it was held for is undone."""
        self._give_back()
        self.held = False

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self._give_back()

    def _give_back(self) -> None:
        if self._is_ours and self._before is not None:
            signal.signal(signal.SIGINT, self._before)
