# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The command line of ssh-keepalive."""

import argparse
import os
import sys
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple, Type

from . import __version__, commands


class Argument(NamedTuple):
    """Hold what add_argument of argparse takes."""

    name: str
    settings: Dict[str, Any]


class Command(NamedTuple):
    """Describe a command; `run` takes its parsed arguments and returns the exit code.

    `is_for_root` tells that others cannot run it, unless on an image that is theirs.
    """

    run: Callable[[argparse.Namespace], int]
    help: str
    arguments: Tuple[Argument, ...]
    examples: Tuple[str, ...]
    is_for_root: bool = False


def _openssh(name: str) -> Tuple[int, int]:
    from .check import distributions

    version = distributions.version_of(name)
    if version is None:
        known = ", ".join(distributions.DISTRIBUTIONS)
        raise argparse.ArgumentTypeError(f"{name!r}: expected a version (9.2p1, what ssh -V prints) or one of {known}")
    return version


_VERSION = {
    "metavar": "VERSION",
    "type": _openssh,
    "help": "the OpenSSH that is to enforce the policy: 9.2p1, what ssh -V prints, debian-12, noble",
}
_FILE_HELP = {"metavar": "FILE", "help": "user-data, - for standard input"}

_FILE = Argument("file", _FILE_HELP)
_FILES = Argument("file", {"nargs": "+", **_FILE_HELP})
_OPENSSH = Argument("--openssh", {"required": True, **_VERSION})
_ANY_OPENSSH = Argument("--openssh", _VERSION)
_FORMAT = Argument("--format", {"choices": ("text", "json"), "default": "text", "help": "default: text"})
_JSON = Argument("--json", {"action": "store_true", "help": "as JSON, for programs"})
_ROOT = Argument("--root", {"default": "/", "metavar": "DIR", "help": "the image's root (default: /, this machine)"})
_WITH_CLOUD_INIT = Argument(
    "--with-cloud-init",
    {"metavar": "FILE", "help": "print cloud-init's own schema, schema-cloud-config-v1.json, with the key in it"},
)

COMMANDS = {
    "check": Command(
        commands.check_files,
        "name each mistake in user-data, with its line; exit 1 if there is one",
        (_FILES, _FORMAT, _ANY_OPENSSH),
        ("check user-data", "check --openssh debian-12 *.yaml", "check --format json - <user-data"),
    ),
    "render": Command(
        commands.render_file,
        "print the lines that sshd gets for a policy, and, where TMOUT is used, the file that sets it",
        (_FILE, _OPENSSH),
        ("render user-data --openssh 9.2", "render user-data --openssh ubuntu-24.04 2>/dev/null | less"),
    ),
    "explain": Command(
        commands.explain_file,
        "say what becomes of dead clients and idle sessions, when, and what is not covered",
        (_FILE, _OPENSSH),
        ("explain user-data --openssh debian-13",),
    ),
    "schema": Command(
        commands.print_schema,
        "print the JSON schema of ssh_keepalive, for editors",
        (_WITH_CLOUD_INIT,),
        ("schema >ssh-keepalive.schema.json", "schema --with-cloud-init schema-cloud-config-v1.json"),
    ),
    "install": Command(
        commands.change_image,
        "put the module into an image, or bring it up to date",
        (_ROOT,),
        ("install --root /mnt/image",),
        is_for_root=True,
    ),
    "uninstall": Command(
        commands.clear_image,
        "remove all that install has put into an image",
        (_ROOT,),
        ("uninstall --root /mnt/image",),
        is_for_root=True,
    ),
    "register": Command(
        commands.change_image,
        "add the module to cloud-init's list of modules, and its key to cloud-init's schema",
        (_ROOT,),
        ("register",),
        is_for_root=True,
    ),
    "unregister": Command(
        commands.change_image,
        "take the module off cloud-init's list of modules, and its key out of cloud-init's schema",
        (_ROOT,),
        ("unregister",),
        is_for_root=True,
    ),
    "status": Command(
        commands.print_status,
        "say whether this machine's policy is in effect, and what to do if not",
        (_JSON, _ROOT),
        ("status", "status --json", "status --root /mnt/image"),
    ),
    "apply": Command(
        commands.apply_file,
        "enforce the policy of a file on this machine, verified as at a first boot",
        (_FILE,),
        ("apply user-data", "apply - <user-data"),
        is_for_root=True,
    ),
    "note": Command(
        commands.note_reading,
        "record what sshd has read, and fail if that is not what was asked; a unit runs it",
        (),
        ("note",),
        is_for_root=True,
    ),
    "reapply": Command(
        commands.reapply_policy,
        "translate this machine's policy anew, after an upgrade of OpenSSH",
        (),
        ("reapply",),
        is_for_root=True,
    ),
}


def main(argv: Optional[List[str]] = None) -> int:
    """Run a command and return its exit code: 0 done, 1 refused or not enforced, 2 wrong usage or not known.

    It is 130 for Ctrl-C, and 141 where nobody reads what is said.
    """
    _open_missing_streams()
    try:
        try:
            return _run(argv)
        finally:
            commands.flush()
    except KeyboardInterrupt as error:
        commands.complain(": ".join(("interrupted", *map(str, error.args))))
        return 130
    except BrokenPipeError:
        return 141
    except OSError as error:
        commands.complain(_words(error))
        return 1


def _run(argv: Optional[List[str]]) -> int:
    arguments = parser().parse_args(argv)
    command = COMMANDS[arguments.command]
    if command.is_for_root and not commands.is_root():
        from .image.root import is_this_machine

        if is_this_machine(getattr(arguments, "root", "/")):
            commands.complain("run as root")
            return 1
    try:
        return command.run(arguments)
    except _refusals() as error:
        commands.complain(str(error))
        return getattr(error, "exit_code", 1)


def _words(error: OSError) -> str:
    words = ": ".join(str(word) for word in (error.filename, error.strerror) if word) or str(error)
    return f"{words}, run as root" if isinstance(error, PermissionError) and not commands.is_root() else words


def _open_missing_streams() -> None:
    """Have the three standard streams open, whatever the caller has closed: files would get their numbers."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    top = argparse.ArgumentParser(
        prog="ssh-keepalive",
        description="Check ssh_keepalive in user-data, put its module into images, and see what it does on a machine.",
        epilog="Each command has help of its own, with examples: ssh-keepalive check --help",
    )
    top.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    subparsers = top.add_subparsers(metavar="COMMAND", dest="command")
    subparsers.required = True
    for name, command in COMMANDS.items():
        subparser = subparsers.add_parser(
            name,
            help=command.help,
            description=command.help,
            epilog="\n".join(["examples:", *(f"  ssh-keepalive {example}" for example in command.examples)]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        for argument in command.arguments:
            subparser.add_argument(argument.name, **argument.settings)
    return top


def _refusals() -> Tuple[Type[Exception], ...]:
    """Return what a command raises that refuses; imported when something was raised."""
    from .image.root import ImageError
    from .machine.problem import SshdError
    from .policy import PolicyError

    return ImageError, SshdError, PolicyError
