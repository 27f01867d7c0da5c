# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""A command of this machine's, from its start to its end."""

import contextlib
import os
import selectors
import signal
import subprocess
import time
from typing import IO, Dict, List, NamedTuple, Tuple

# What is kept in memory of all that one says; sshd -T -ddd says about 100 kB.
_MOST_BYTES = 4000000
# Within which a command that has closed its streams has ended
_AT_ONCE_SECONDS = 0.002


class CommandError(Exception):
    """Say why a command had to be ended, as what follows its name in a sentence."""


class Answer(NamedTuple):
    """Hold what a command says, and its exit code, or minus the signal that has ended it."""

    code: int
    out: str
    err: str

    def last_words(self) -> str:
        """Return the end of what a failed command said, in one line of printable characters."""
        said = [line.strip() for line in (self.err or self.out).splitlines() if line.strip()]
        words = " / ".join(said[-3:])[-400:]
        return "".join(char if char.isprintable() else "?" for char in words) or self._end() + " without a word"

    def _end(self) -> str:
        if self.code >= 0:
            return f"exit {self.code}"
        try:
            return f"killed by {signal.Signals(-self.code).name}"
        except ValueError:  # a real-time signal
            return f"killed by signal {-self.code}"


def run(command: Tuple[str, ...], seconds: float, environment: Dict[str, str]) -> Answer:
    """Run a command and return its answer; raise CommandError if it goes on for too long or says too much."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )
    try:
        out, err = _hear_out(process, time.monotonic() + seconds)
    except subprocess.TimeoutExpired:
        _end(process)
        raise CommandError(f"did not answer within {seconds:.1f} s") from None
    except BaseException:
        _end(process)
        raise
    return Answer(process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))


def _hear_out(process: "subprocess.Popen[bytes]", end: float) -> List[bytes]:
    pipes: List[IO[bytes]] = [pipe for pipe in (process.stdout, process.stderr) if pipe]
    said = {pipe.fileno(): b"" for pipe in pipes}
    with selectors.DefaultSelector() as selector:
        for pipe in pipes:
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(max(0.0, end - time.monotonic()))
            if not ready:
                raise subprocess.TimeoutExpired(process.args, 0)
            for key, _ in ready:
                part = os.read(key.fd, 65536)
                if not part:
                    selector.unregister(key.fileobj)
                said[key.fd] += part
                if len(said[key.fd]) > _MOST_BYTES:
                    raise CommandError(f"said more than {_MOST_BYTES // 1000000} MB")
    closed = time.monotonic()
    # Its end follows at once, and wait() would look for it a millisecond later.
    while process.poll() is None and time.monotonic() < closed + _AT_ONCE_SECONDS:
        time.sleep(_AT_ONCE_SECONDS / 50)
    process.wait(max(0.0, end - time.monotonic()))
    for pipe in pipes:
        pipe.close()
    return list(said.values())


def _end(process: "subprocess.Popen[bytes]") -> None:
    # The whole group; then neither look at pipes that a child may hold, nor wait for what cannot be killed.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for pipe in filter(None, (process.stdout, process.stderr)):
        pipe.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=1)
