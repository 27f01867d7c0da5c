# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The service of sshd that systemd runs: its restart, and what brings it back after one that failed."""

import contextlib
import time
from typing import Callable, Optional

from . import units
from .command import Answer
from .host import Host
from .problem import NotRestartedError, Problem, SshdError, UnansweredError
from .units import Unit


def restart(unit: Unit, host: Host) -> None:
    """Restart a unit that runs, once; raise SshdError if it does not come back, UnansweredError if it takes long."""
    now = _started_anew("try-restart", unit, host)
    if now.result == "start-limit-hit":
        # Others have started it too often, and this restart was one of ours: no failure of theirs is hidden.
        _do("reset-failed", unit.name, host)
        now = _started_anew("start", unit, host)
    if now.is_starting or now.state == "deactivating":
        message = f"{unit.name} is still starting after {host.patience:.0f} s with the new configuration"
        if not now.is_starting:
            message = f"{unit.name} is still stopping after {host.patience:.0f} s, to start with the new configuration"
        raise UnansweredError(Problem(message, "ssh-keepalive status tells when it runs"))
    if now.state == "active" and (now.pid, now.invocation) == (unit.pid, unit.invocation):
        # Its job waits for another one.
        message = f"{unit.name} still runs as before after {host.patience:.0f} s, its restart waits"
        raise NotRestartedError(Problem(message, "systemctl list-jobs tells for what"))
    if now.state != "active":
        # At the start of the next try the result of the last one is forgotten.
        why = now.substate if now.result in ("", "success") else now.result
        raise SshdError(Problem(f"after its restart {unit.name} is {now.state}: {why}"))


def wait(unit: Unit, host: Host) -> None:
    """Wait until a unit that is starting runs or has failed, or for as long as a restart is waited for."""
    _until(lambda now: not now.is_starting, unit.name, host)


def settle(unit: Unit, host: Host, seconds: float) -> None:
    """Wait until systemd is through with starting or stopping a unit, but not for longer than that."""
    _until(lambda now: not now.has_job, unit.name, host, seconds)


def recover(unit: Unit, host: Host) -> str:
    """Have a unit run again with the restored files; return its state."""
    host.spend_reserve()
    with contextlib.suppress(SshdError):
        now = units.now(unit.name, host)
        if now.state == "active":
            now = _started_anew("try-restart", now, host)
        elif now.is_starting:
            now = _until(lambda now: not now.is_starting, unit.name, host)
        if now.state != "active" and not now.is_starting:
            # It may have failed too often to be started again, or be started again in 42 s, as on RHEL, or only after
            # the stage of cloud-init that we run in.
            _do("reset-failed", unit.name, host)
            _ask_for("restart", unit.name, host)

            def is_over(new: Unit) -> bool:
                return new.is_skipped or (new.is_settled and new.invocation != now.invocation)

            _until(is_over, unit.name, host)
    with contextlib.suppress(SshdError):
        return units.now(unit.name, host).state
    return "in an unknown state"


def _do(verb: str, name: str, host: Host) -> Answer:
    # sshd is ordered after the stage of cloud-init that we run in: a job that minds it waits, with sshd down.
    return host.run("systemctl", "--job-mode=ignore-dependencies", "--no-block", verb, name)


def _ask_for(verb: str, name: str, host: Host) -> None:
    answer = _do(verb, name, host)
    if answer.code != 0:
        raise SshdError(Problem(f"{name} was not restarted: {answer.last_words()}"))


def _started_anew(verb: str, before: Unit, host: Host) -> Unit:
    """Return a unit once it runs as another process than before or has failed, or when that was waited for in vain."""
    _ask_for(verb, before.name, host)

    def is_over(now: Unit) -> bool:
        is_new = now.state == "active" and now.pid != before.pid
        # Each start has another invocation: with the same one, a try after a failure is still the one from before.
        is_another = now.invocation != before.invocation and (is_new or now.is_to_be_retried)
        return now.state == "failed" or now.is_skipped or is_another

    return _until(is_over, before.name, host)


def _until(is_over: Callable[[Unit], bool], name: str, host: Host, seconds: Optional[float] = None) -> Unit:
    """Return a unit once something is true of it, or as it is when that was waited for in vain.

    Without a number of seconds it is waited for as a restart is, which has a limit of its own.
    """
    if seconds is None:
        seconds = host.patience
        host.extend(seconds)
    end, pause = time.monotonic() + seconds, 0.02
    while True:
        now = units.now(name, host)
        if is_over(now) or time.monotonic() > end:
            return now
        time.sleep(pause)
        # systemd tries five times in a row at most, which takes less than a second.
        pause = min(2 * pause, 0.1)
