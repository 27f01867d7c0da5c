# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The command ssh-keepalive."""

import argparse
import sys
from typing import Any, List, Optional

from . import __version__, image, sshd
from .policy import KEY, Policy, PolicyError, Problem, parse


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
        (_status, "say whether this machine keeps its policy, and what is to be done if not"),
        (_apply, "have this machine keep the policy of a file, as at its first boot"),
        (_reapply, "express this machine's policy anew, after an upgrade of OpenSSH"),
    ):
        command = commands.add_parser(run.__name__[1:], help=text, description=text)
        command.set_defaults(run=run)
        if run is _status:
            command.add_argument("--json", action="store_true", help="as JSON, for programs")
        if run is _apply:
            command.add_argument("file", metavar="FILE", help="user-data with ssh_keepalive, - for standard input")
        elif run is not _reapply:
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
    import json

    from . import inspection

    is_here = image.Root(arguments.root).real("/") == "/"
    try:
        found = inspection.inspect(sshd.Sshd()) if is_here else inspection.inspect_image(arguments.root)
    except (image.ImageError, sshd.SshdError, OSError) as error:
        found = inspection.unknown(error)
    print(json.dumps(found.as_json(), indent=2, sort_keys=True) if arguments.json else found)
    return found.exit_code


def _apply(arguments: argparse.Namespace) -> int:
    try:
        with sys.stdin.buffer if arguments.file == "-" else open(arguments.file, "rb") as stream:
            content = stream.read()
    except OSError as error:
        print("ssh-keepalive: {}".format(error), file=sys.stderr)
        return 2
    policy = parse(_section(content))
    if policy is None:
        print("ssh-keepalive: {}: has no {}".format(arguments.file, KEY), file=sys.stderr)
        return 1
    print(sshd.apply(policy, sshd.Sshd()))
    return 0


def _section(content: bytes) -> Any:
    """Return the section in plain cloud-config, None without one; raise PolicyError if it is none."""
    import yaml

    if not content.startswith(b"#cloud-config"):
        raise PolicyError([Problem((KEY,), "the first line is not #cloud-config")])
    try:
        config = yaml.safe_load(content)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PolicyError([Problem((KEY,), " ".join(str(error).split()))]) from error
    return config.get(KEY) if isinstance(config, dict) else None


def _reapply(arguments: argparse.Namespace) -> None:
    report = sshd.reapply(sshd.Sshd())
    print(report or "no policy on this machine")
