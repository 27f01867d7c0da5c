"""The main job, for a person to watch: a real first boot, and a client that stops answering."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

import yaml
from baking import DROP_IN, effective
from clients import Client
from machine import RELEASES, Machine, base, unavailable

USER_DATA = Path(__file__).resolve().parents[2] / "examples/user-data/minimal.yaml"


def title(text: str) -> None:
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


def show(text: str) -> None:
    print("".join(f"    {line}\n" for line in text.rstrip().splitlines()), end="", flush=True)


def run(suite: str) -> bool:
    """Boot a machine, show what it did, and return whether it dropped a frozen client when it was asked to."""
    release = RELEASES[suite]
    user_data = USER_DATA.read_text()
    title(f"{release.name}, cloud-init {release.cloud_init}, OpenSSH {release.openssh}, is given this user-data")
    show(user_data)
    base(suite)
    with Machine(suite, user_data) as machine:
        command = (str(Path(sys.executable).with_name("ssh-keepalive")), "install", "--root", str(machine.root))
        subprocess.run(command, check=True)
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
        events.append((float(machine.run("stat", "-c", "%.9Z", DROP_IN).stdout), "the drop-in landed"))
        for at, event in sorted(events):
            show(f"{at - began:6.2f} s after power-on  {event}")

        title("What sshd says of itself (sshd -T)")
        values = effective(machine)
        show(
            "".join(f"{key} {values[key]}\n" for key in ("clientaliveinterval", "clientalivecountmax", "tcpkeepalive"))
        )

        asked = int(re.sub("s$", "", str(yaml.safe_load(user_data)["ssh_keepalive"]["unresponsive_timeout"])))
        title("A real ssh client logs in, and is frozen as if its machine had died (SIGSTOP)")
        with Client(machine) as client:
            client.freeze()
            measured = watch(client, asked)
        kept = asked - 1 <= measured <= asked + 1
        show(f"asked {asked} s, measured {measured:.1f} s: {'kept' if kept else 'NOT KEPT'}")
    return kept


def watch(client: Client, asked: int) -> float:
    """Show a bar that fills up to the promised second; return when sshd dropped the client, in seconds."""
    width = 50
    began = time.monotonic()
    while client.served() and time.monotonic() - began < 3 * asked:
        passed = time.monotonic() - began
        full = min(width, int(width * passed / asked))
        if sys.stdout.isatty():
            print(f"\r    [{'#' * full}{'.' * (width - full)}] {passed:4.1f} s of {asked} s", end="", flush=True)
        time.sleep(0.1)
    passed = time.monotonic() - client.last_sign_of_life
    print(f"\r    [{'#' * width}] dropped after {passed:.1f} s", flush=True)
    return passed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suites", nargs="*", default=["trixie"], metavar="SUITE", help=f"of {', '.join(RELEASES)}")
    suites = parser.parse_args().suites
    reason = unavailable()
    if reason:
        print(reason, file=sys.stderr)
        return 1
    print("The first run on this machine fetches Debian packages, which takes a minute.", flush=True)
    broken = [suite for suite in suites if not run(suite)]
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
