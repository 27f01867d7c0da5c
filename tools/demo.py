"""The main job, for a person to watch: a real first boot, a client that stops answering, and a shell left idle."""

from __future__ import annotations

import argparse
import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import yaml
from baking import DROP_IN, effective
from bases import base
from clients import Client
from host import MachineError, unavailable
from machine import Machine
from releases import RELEASES
from sessions import KINDS, Session

TIMES = ("unresponsive_timeout", "idle_timeout")
REPORTED = ("clientaliveinterval", "clientalivecountmax", "channeltimeout", "unusedconnectiontimeout")
FIRST_RUN = "First run with {}: it is built once from Debian's mirror, in {{folder}}; that takes a minute."
USER_DATA = Path(__file__).resolve().parents[1] / "examples/user-data/minimal.yaml"


def title(text: str) -> None:
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


def show(text: str) -> None:
    print("".join(f"    {line}\n" for line in text.rstrip().splitlines()), end="", flush=True)


def run(suite: str) -> bool:
    """Boot a machine, show what it did, and return whether it dropped a frozen client when it was asked to."""
    release = RELEASES[suite]
    user_data = USER_DATA.read_text()
    base(suite, announce=FIRST_RUN.format(release.name))
    title(f"{release.name}, cloud-init {release.cloud_init}, OpenSSH {release.openssh}, is given this user-data")
    show(user_data)
    with Machine(suite, user_data) as machine:
        command = (str(Path(sys.executable).with_name("ssh-keepalive")), "install", "--root", str(machine.root))
        subprocess.run(command, check=True)
        title("The module is installed in the machine, which boots for the first time")
        began = time.time()
        machine.boot()
        machine.wait()

        title(f"cloud-init has written {DROP_IN}")
        show(machine.run("cat", DROP_IN).stdout)
        title("cloud-init status")
        status = machine.run("cloud-init", "status", "--long", check=False)
        show(f"{status.stdout}exit {status.returncode}")

        title("Order of events")
        journal = machine.run("journalctl", "-b", "-o", "short-unix", "--no-pager").stdout
        events = [
            (float(at), "sshd began to listen")
            for at in re.findall(r"^([0-9.]+) .*listening on 0.0.0.0", journal, re.M)
        ]
        events.append((float(machine.run("stat", "-c", "%.9Z", DROP_IN).stdout), "the drop-in was written"))
        for at, event in sorted(events):
            show(f"{at - began:6.2f} s after power-on  {event}")

        title("What sshd says of itself (sshd -T)")
        values = effective(machine)
        show("".join(f"{key} {values[key]}\n" for key in REPORTED if key in values))

        asked = {key: seconds(yaml.safe_load(user_data)["ssh_keepalive"][key]) for key in TIMES}
        title("Three real ssh clients log in: one is frozen as if its machine had died, one is left idle, one is used")
        with ExitStack() as stack:
            sessions = {"frozen": stack.enter_context(Client(machine))}
            for name, kind in (("idle", "shell at its prompt"), ("used", "shell, typing lines")):
                sessions[name] = stack.enter_context(Session(machine, KINDS[kind]))
                sessions[name].wait()
                sessions[name].begin()
            sessions["frozen"].freeze()
            sessions["frozen"].begin()
            ended = watch(sessions, 1.1 * max(asked.values()))
    enforced = True
    for name, promised in (("frozen", asked["unresponsive_timeout"]), ("idle", asked["idle_timeout"]), ("used", None)):
        end = ended[name]
        so = end is None if promised is None else end is not None and abs(end - promised) <= max(2, 0.05 * promised)
        wanted = "lives" if promised is None else f"{promised} s"
        measured = "lives" if end is None else f"ended after {end:.1f} s"
        show(f"{name:8} asked: {wanted:8} measured: {measured:20} {'enforced' if so else 'NOT ENFORCED'}")
        enforced = enforced and so
    return enforced


def seconds(time: str) -> int:
    return int(time.rstrip("s"))


def watch(sessions: dict[str, Session], limit: float) -> dict[str, float | None]:
    """Look at sessions for some seconds; return when each ended, in seconds from its last sign of life, if it did."""
    began = time.monotonic()
    ended: dict[str, float | None] = dict.fromkeys(sessions)
    while time.monotonic() - began < limit:
        for name, session in sessions.items():
            session.look()
            if ended[name] is None:
                ends = [end for process, end in session.ends.items() if end is not None and process != "nohup"]
                # A frozen client is still there when its sshd has gone.
                ended[name] = min(ends, default=None)
        if sys.stdout.isatty():
            states = (f"{name} {'lives' if end is None else f'{end:.1f} s'}" for name, end in ended.items())
            print(f"\r    {time.monotonic() - began:5.1f} s: {', '.join(states)}  ", end="", flush=True)
        time.sleep(0.05)
    print("\r" + " " * 70 + "\r" if sys.stdout.isatty() else "", end="")
    return ended


def interrupt(*_: object) -> None:
    """Raise KeyboardInterrupt, once: what cleans up is not to be interrupted."""
    signal.signal(signal.SIGINT, lambda *_: None)
    raise KeyboardInterrupt


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suites", nargs="*", default=["trixie"], metavar="SUITE", help=f"of {', '.join(RELEASES)}")
    suites = parser.parse_args().suites
    unknown = [suite for suite in suites if suite not in RELEASES]
    if unknown:
        parser.error(f"no such release: {', '.join(unknown)}; there are {', '.join(RELEASES)}")
    reason = unavailable()
    if reason:
        sys.exit(reason)
    signal.signal(signal.SIGINT, interrupt)
    try:
        broken = [suite for suite in suites if not run(suite)]
    except KeyboardInterrupt:
        print("\ninterrupted, the machine is thrown away", file=sys.stderr)
        return 130
    except MachineError as error:
        sys.exit(str(error))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
