# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The command ssh-keepalive."""

import argparse
import sys
from typing import List, Optional

from . import __version__, image, sshd
from .policy import Policy, PolicyError


def main(argv: Optional[List[str]] = None) -> int:
    """Run the command and return its exit code: 0 done, 1 refused, 2 wrong usage."""
    arguments = parser().parse_args(argv)
    try:
        return arguments.run(arguments) or 0
    except (image.ImageError, sshd.SshdError, PolicyError, OSError) as error:
        print("ssh-keepalive: {}".format(error), file=sys.stderr)
        return 1


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    top = argparse.ArgumentParser(
        prog="ssh-keepalive", description="Put cloud-init's ssh_keepalive module into images."
    )
    top.add_argument("--version", action="version", version="%(prog)s " + __version__)
    commands = top.add_subparsers(metavar="COMMAND", dest="command")
    commands.required = True
    for run, text in (
        (_install, "put the module into an image, or bring it up to date"),
        (_uninstall, "take everything out of an image again"),
        (_register, "have an image's cloud-init run the module that is in it, and know its key"),
        (_unregister, "give an image's cloud-init its own list of modules and schema back"),
        (_status, "say whether an upgrade of cloud-init has undone a part of that, exit 1 if so"),
        (_reapply, "express this machine's policy anew, after an upgrade of OpenSSH"),
    ):
        command = commands.add_parser(run.__name__[1:], help=text, description=text)
        command.set_defaults(run=run)
        if run is not _reapply:
            command.add_argument(
                "--root", default="/", metavar="DIR", help="the image's root (default: /, this machine)"
            )
    return top


def _install(arguments: argparse.Namespace) -> None:
    image.install(image.Root(arguments.root))


def _register(arguments: argparse.Namespace) -> None:
    image.register(image.Root(arguments.root))


def _unregister(arguments: argparse.Namespace) -> None:
    image.unregister(image.Root(arguments.root))


def _uninstall(arguments: argparse.Namespace) -> None:
    target = image.Root(arguments.root)
    if target.real("/") == "/":
        try:
            # A running sshd would keep the policy of a file that is gone.
            sshd.apply(Policy(enabled=False), sshd.Sshd())
        except sshd.SshdError as error:
            print("ssh-keepalive: sshd keeps the policy until it is restarted: {}".format(error), file=sys.stderr)
    image.uninstall(target)


def _status(arguments: argparse.Namespace) -> int:
    changed = image.status(image.Root(arguments.root))
    for path in changed:
        print("{}: not as it was registered, run ssh-keepalive register".format(path))
    return 1 if changed else 0


def _reapply(arguments: argparse.Namespace) -> None:
    report = sshd.reapply(sshd.Sshd())
    print(report or "no policy on this machine")
