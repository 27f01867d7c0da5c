# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""Restarts of servers that have not read our text, and the reasons not to: never for what others have changed."""

import contextlib
import errno
import os
import signal
import socket
import time
from typing import List, Sequence, Set, Tuple

from .. import paths
from . import files, judgement, processes, record, units, verification
from .audit import Audit, other_files
from .files import Transaction
from .host import Host
from .problem import NotRestartedError, Problem, SshdError, UnansweredError
from .processes import Listener
from .questions import Questions
from .servers import Server

_SIGNAL_SECONDS = 5.0


class Restarts:
    """Have servers read what a transaction has replaced, and have them read the old text if that fails.

    `done` are the servers that were restarted. `pending` says why a verified text, which stays, is not in effect yet,
    or is not known to be.
    """

    def __init__(self, transaction: Transaction, questions: Questions, host: Host) -> None:
        self._transaction = transaction
        self._questions = questions
        self._host = host
        self._noted = record.load(host)
        self._drop_in = host.at(paths.DROP_IN)
        self.done: List[Server] = []
        # Those that may have read what others have written just then
        self.doubtful: List[Server] = []
        self.pending: List[SshdError] = []

    def put_in_effect(self, audits: Sequence[Audit], is_changed: bool, place: str) -> None:
        """Restart the servers that have not read what is in `place`, each if that is ours to do."""
        # Decided for all before the first, whose restart takes evidence along: the PID file may be another's.
        unread = [audit for audit in audits if self._is_unread(audit, is_changed, place)]
        for audit, reasons in [(audit, self._reasons_not_to(audit)) for audit in unread]:
            server = audit.server
            seen = other_files(audit, self._host)
            if seen:
                self.pending.append(SshdError(seen))
                continue
            if reasons:
                message = f"{place} is written, but {server.name} was not restarted: {'; '.join(reasons)}"
                remedy = f"{server.restart_command} puts all of that into effect"
                self.pending.append(SshdError(Problem(message, remedy)))
                continue
            self._questions.check(server)
            try:
                self._restart(server, place)
                self._look_again(audit)
            except NotRestartedError as error:
                self.done.remove(server)
                self.pending.append(error)
            except UnansweredError as error:
                self.pending.append(error)

    def _is_unread(self, audit: Audit, is_changed: bool, place: str) -> bool:
        """Return whether a server has not read what is in `place`, and is to.

        What else it has not read, or is not known to have, is pending.
        """
        server = audit.server
        if server.unseen:
            self.pending.append(UnansweredError(server.unseen))
        if server.listener is None or (server.unit and server.unit.is_template):
            return False
        reading = audit.reading(self._noted)
        if reading.is_current:
            if server.is_replaced:
                message = f"{server.name} runs a program that was replaced since it was started"
                self.pending.append(UnansweredError(Problem(message, server.restart_command)))
            return False
        if is_changed:
            return True
        # A text that was there before this run is to be put into effect only while somebody looks on.
        if place in reading.changed and self._host.attended:
            return True
        if not reading.is_noted:
            self.pending.append(UnansweredError(judgement.unread(server, reading)))
        elif place in reading.changed:
            self.pending.append(SshdError(judgement.unread(server, reading._replace(changed=(place,)))))
        return False

    def _restart(self, server: Server, place: str) -> None:
        if server.unit:
            from . import service

            self.done.append(server)
            others = {listener.pid for listener in processes.listeners(self._host)}
            service.restart(server.unit, self._host)
            self._wait_until_it_listens(server, others)
        elif server.script:
            self.done.append(server)
            server.script.restart(self._host)
        elif self._host.attended and server.listener and self._may_be_signalled(server.listener):
            self.done.append(server)
            _signal(server, self._host)
        else:
            message = f"{place} is written, but {server.name} is no service's and has not read it"
            self.pending.append(SshdError(Problem(message, server.restart_command)))

    def _wait_until_it_listens(self, server: Server, others: Set[int]) -> None:
        """Wait, but not for long: systemd calls a unit that says nothing (Type=simple) active at once.

        The others are the processes that listened before. Raise SshdError if it has failed, and UnansweredError if it
        is not seen to listen.
        """
        end = time.monotonic() + _SIGNAL_SECONDS
        if server.unit is None or server.listener is None or not server.listener.addresses:
            return
        while time.monotonic() < end:
            new = [one for one in processes.listeners(self._host) if one.pid not in others]
            if any(set(one.addresses) & set(server.listener.addresses) for one in new):
                return
            time.sleep(0.05)
        now = units.now(server.unit.name, self._host)
        if now.failure or now.state != "active":
            raise SshdError(Problem(f"after its restart {now.name} is {now.state}: {now.failure or now.substate}"))
        message = f"{now.name} is not seen to listen after its restart"
        raise UnansweredError(Problem(message, "ssh-keepalive status tells whether it does"))

    def _may_be_signalled(self, listener: Listener) -> bool:
        """Return whether a process reads its files anew at a signal; one that was handed its sockets ends.

        So does one whose program is gone.
        """
        is_handed = processes.is_handed_sockets(listener.pid, self._host)
        return listener.pid != 1 and listener.starts_anew and not is_handed

    def _look_again(self, audit: Audit) -> None:
        if not audit.is_untouched:
            self.doubtful.append(audit.server)
            message = f"sshd's files were changed while {audit.server.name} was restarted"
            self.pending.append(UnansweredError(Problem(message, "ssh-keepalive status tells what is in effect")))

    def _reasons_not_to(self, audit: Audit) -> List[str]:
        server = audit.server
        found = []
        if server.unit and server.unit.is_starting:
            found.append(f"{server.unit.name} is starting")
        changed = list(self._changed_by_others(audit))
        if server.unit and server.listener:
            changed += units.changed_since(server.unit, server.listener, self._host)
        if server.script and server.listener:
            changed += server.script.changed_since(server.listener, self._host)
        if changed:
            found.append(f"{', '.join(dict.fromkeys(changed))} may have changed since it read that")
        if server.is_to_start_otherwise:
            where = ", ".join((server.service, *(server.unit.files if server.unit else ())))
            found.append(f"{where} would start it with another command than it was started with")
        return found + _obstacles(server, self._host) + _addresses_that_differ(audit, self._host)

    def _changed_by_others(self, audit: Audit) -> Tuple[str, ...]:
        """Return what a server may not have read of files of others."""
        inputs = self._transaction.without_this_run(audit.inputs).without(self._drop_in)
        noted = self._noted
        # This run of cloud-init makes those of a new instance itself: on sysvinit an sshd has others by then.
        until = processes.own_start(self._host)
        keys = record.changed_since_read(self._keys(audit), until, audit.server, noted, audit.pid_file)
        if noted:
            entries = tuple(one._replace(inputs=one.inputs.without(self._drop_in)) for one in noted.entries)
            noted = noted._replace(entries=entries)
        reading = record.reading(audit.server, inputs, noted, audit.pid_file)
        return (*keys, *(() if reading.is_current else reading.changed))

    def _keys(self, audit: Audit) -> List[str]:
        """Return the files of the host keys, which a server reads when it starts."""
        values = verification.reported(audit.reply.values)
        found = [*values.get("hostkey", ()), *values.get("hostcertificate", ())]
        return [file for file in found if file != files.key_for_asking(self._host)]

    def undo(self) -> str:
        """Have the servers that were restarted run with what was restored; return their states."""
        return ", ".join(dict.fromkeys(self._recover(server) for server in self.done))

    def _recover(self, server: Server) -> str:
        if server.unit:
            from . import service

            return service.recover(server.unit, self._host)
        if server.script:
            return server.script.recover(self._host)
        with contextlib.suppress(SshdError, OSError):
            _signal(server, self._host)
            return "active"
        return "in an unknown state"


def _obstacles(server: Server, host: Host) -> List[str]:
    """Return what would keep a unit from being started, and whom its stop would end."""
    if server.script:
        from .init_scripts import FORBIDS

        return [f"it would not be started again, by {FORBIDS}"] if os.path.exists(host.at(FORBIDS)) else []
    if server.unit is None or server.listener is None:
        return []
    found = []
    conditions = units.doubtful_conditions(server.unit, host)
    if conditions:
        found.append(f"{server.unit.name} may not be started again, with {', '.join(conditions)}")
    if server.unit.is_masked:
        found.append(f"{server.unit.name} is masked and would not be started again")
    if server.unit.kill_mode not in ("process", "none"):
        sessions = units.others_in(server.listener, host)
        if sessions:
            found.append(f"that would end {sessions} processes of sessions (KillMode={server.unit.kill_mode})")
    return found


def _addresses_that_differ(audit: Audit, host: Host) -> List[str]:
    """Return why a server may not be able to listen where its configuration says now, or would listen elsewhere."""
    server = audit.server
    if server.listener is None or not server.listener.addresses or (server.unit and server.unit.is_activated):
        return []
    listened = {
        ("*" if address in processes.WILDCARDS else address, port) for address, port in server.listener.addresses
    }
    named = {}
    for shown in verification.reported(audit.reply.values).get("listenaddress", ()):
        # What follows is a routing domain.
        address, _, port = shown.split()[0].rpartition(":")
        # Where it listens shows without the interface.
        bare = address.strip("[]").partition("%")[0]
        # Without IPv6 it listens on the other wildcard alone.
        is_listened = ("*" if bare in processes.WILDCARDS else bare, int(port)) in listened
        # It may be in a network of its own.
        named[shown] = (is_listened, _is_here(bare) or processes.may_listen_on(server.listener.pid, bare, host))
    new = [shown for shown, (is_listened, is_here) in named.items() if is_here and not is_listened]
    gone = [shown for shown, (is_listened, is_here) in named.items() if is_listened and not is_here]
    if named and not any(all(found) for found in named.values()):
        # With nothing to listen on it would die.
        new = [shown for shown, (is_listened, _) in named.items() if not is_listened]
    found = []
    if new:
        found.append(f"it does not listen on {', '.join(new)}, which its configuration now names")
    if gone:
        found.append(f"{', '.join(gone)}, which its configuration names, is no address of this machine now")
    return found


def _is_here(address: str) -> bool:
    """Return whether a program may listen on an address of this machine."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as bound:
            bound.bind(socket.getaddrinfo(address, 0, family, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST)[0][4])
    except socket.gaierror:
        return False
    except OSError as error:
        # Other refusals, of memory say, tell nothing of the address.
        return error.errno != errno.EADDRNOTAVAIL
    return True


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
