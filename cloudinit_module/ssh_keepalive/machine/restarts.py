# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""Restarts of servers that have not read our text, and the reasons not to: never for what others have changed."""

import contextlib
import os
import signal
import time
from typing import List, Sequence, Tuple

from .. import paths
from . import processes, record, service, verification
from .audit import Audit
from .files import Transaction
from .host import Host
from .problem import NotRestartedError, Problem, SshdError, UnansweredError
from .questions import Questions
from .servers import Server

_SIGNAL_SECONDS = 5.0


class Restarts:
    """Have servers read what a transaction has replaced, and have them read the old text if that fails.

    `pending` is what keeps a text that is right, and stays, from being in force; `notes` what is not known.
    """

    def __init__(self, transaction: Transaction, questions: Questions, host: Host) -> None:
        self._transaction = transaction
        self._questions = questions
        self._host = host
        self._noted = record.load(host)
        self._drop_in = host.at(paths.DROP_IN)
        self.done: List[Server] = []
        self.pending: List[SshdError] = []
        self.notes: List[str] = []

    def bring_into_force(self, audits: Sequence[Audit], is_changed: bool, place: str) -> None:
        """Restart the servers that have not read what is in `place`, each if that is ours to do."""
        # Decided for all before the first, whose restart takes evidence along: the PID file may be another's.
        unread = [audit for audit in audits if self._is_unread(audit, is_changed, place)]
        for server, reasons in [(audit.server, self._reasons_not_to(audit)) for audit in unread]:
            if reasons:
                message = f"{place} is written, but {server.name} was not restarted: {'; '.join(reasons)}"
                remedy = f"{server.restart_command} brings all of that into force"
                self.pending.append(SshdError(Problem(message, remedy)))
                continue
            self._questions.check(server)
            try:
                self._restart(server, place)
            except NotRestartedError as error:
                self.done.remove(server)
                self.pending.append(error)
            except UnansweredError as error:
                self.pending.append(error)

    def _is_unread(self, audit: Audit, is_changed: bool, place: str) -> bool:
        server = audit.server
        if server.listener is None or (server.unit and server.unit.is_template):
            return False
        reading = audit.reading(self._noted)
        if reading.is_current:
            return False
        if is_changed:
            return True
        # A text that was there before this run is to be brought into force only as somebody looks on.
        if place in reading.changed and self._host.attended:
            return True
        if not reading.is_noted:
            message = f"whether {server.name} has read {', '.join(reading.changed)} as it is now is not known"
            problem = Problem(message, f"{server.restart_command} settles it")
            if self._host.attended:
                self.pending.append(UnansweredError(problem))
            else:
                self.notes.append(str(problem))
        elif place in reading.changed:
            message = f"{server.name} has not read {place} since it changed"
            self.pending.append(SshdError(Problem(message, f"{server.restart_command}, open sessions survive")))
        return False

    def _restart(self, server: Server, place: str) -> None:
        if server.unit:
            self.done.append(server)
            service.restart(server.unit, self._host)
        elif server.script:
            self.done.append(server)
            server.script.restart(self._host)
        elif self._host.attended and server.listener and server.listener.pid != 1:
            self.done.append(server)
            _signal(server, self._host)
        else:
            message = f"{place} is written, but {server.name} is no service's and has not read it"
            self.pending.append(SshdError(Problem(message, server.restart_command)))

    def _reasons_not_to(self, audit: Audit) -> List[str]:
        found = []
        if audit.server.unit and audit.server.unit.is_starting:
            found.append(f"{audit.server.unit.name} is starting")
        changed = self._changed_by_others(audit)
        if changed:
            found.append(f"{', '.join(changed)} may have changed since it read that")
        if audit.server.is_to_start_otherwise and audit.server.unit:
            where = ", ".join((audit.server.unit.name, *audit.server.unit.files))
            found.append(f"{where} would start it with another command than it was started with")
        missing = _addresses_missing(audit)
        if missing:
            found.append(f"it does not listen on {', '.join(missing)}, which its configuration now names")
        return found

    def _changed_by_others(self, audit: Audit) -> Tuple[str, ...]:
        """Return what a server may not have read of others' files, which are as they were before this run."""
        before = self._transaction.before
        files, folders = audit.inputs
        inputs = record.Inputs(
            # A main file may be a link to the one that is written.
            {name: before.files.get(os.path.realpath(name), found) for name, found in files.items()},
            {name: before.folders.get(name, found) for name, found in folders.items()},
        ).without(self._drop_in)
        noted = self._noted
        if noted:
            entries = tuple(one._replace(inputs=one.inputs.without(self._drop_in)) for one in noted.entries)
            noted = noted._replace(entries=entries)
        reading = record.reading(audit.server, inputs, noted, audit.pid_file)
        return () if reading.is_current else reading.changed

    def undo(self) -> str:
        """Have the servers that were restarted run with what was put back; return their states."""
        return ", ".join(dict.fromkeys(self._recover(server) for server in self.done))

    def _recover(self, server: Server) -> str:
        if server.unit:
            return service.recover(server.unit, self._host)
        if server.script:
            return server.script.recover(self._host)
        with contextlib.suppress(SshdError, OSError):
            _signal(server, self._host)
            return "active"
        return "in an unknown state"


def _addresses_missing(audit: Audit) -> List[str]:
    """Return the addresses that a server's configuration names now, and on which it does not listen."""
    server = audit.server
    if server.listener is None or not server.listener.addresses or (server.unit and server.unit.is_activated):
        return []
    listened = {
        ("*" if address in processes.WILDCARDS else address, port) for address, port in server.listener.addresses
    }
    found = []
    for shown in verification.reported(audit.reply.values).get("listenaddress", ()):
        address, _, port = shown.rpartition(":")
        bare = address.strip("[]")
        # Without IPv6 it listens on the other wildcard alone.
        if ("*" if bare in processes.WILDCARDS else bare, int(port)) not in listened:
            found.append(shown)
    return found


def _signal(server: Server, host: Host) -> None:
    """Have a process that is no service's read its files anew; raise SshdError if it does not live on."""
    before = server.listener
    if before is None:
        return
    os.kill(before.pid, signal.SIGHUP)
    end = time.monotonic() + _SIGNAL_SECONDS
    while time.monotonic() < end:
        now = next((one for one in processes.listeners(host) if one.pid == before.pid), None)
        is_same = now is not None and now.began == before.began
        # It opens them one by one.
        if now and is_same and now.addresses == before.addresses and not set(now.sockets) & set(before.sockets):
            return
        time.sleep(0.05)
    raise SshdError(Problem(f"{server.name} does not listen again after kill -HUP", "start it by hand"))
