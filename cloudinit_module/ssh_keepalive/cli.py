# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The command ssh-keepalive."""

import argparse
import os
import sys
from typing import Any, Dict, List, Optional, Tuple, Type

from . import __version__

# Each command imports what it needs: check is run for single files, by editors and commit hooks.

Option = Tuple[str, Dict[str, Any]]

_ROOT: Option = ("--root", {"default": "/", "metavar": "DIR", "help": "the image's root (default: /, this machine)"})
_FILES: Option = ("file", {"nargs": "+", "metavar": "FILE", "help": "user-data, - for standard input"})
_FILE: Option = ("file", {"metavar": "FILE", "help": "user-data with ssh_keepalive, - for standard input"})
_JSON: Option = ("--json", {"action": "store_true", "help": "as JSON, for programs"})
_FORMAT: Option = ("--format", {"choices": ("text", "json"), "default": "text", "help": "default: text"})
_CLOUD_INIT: Option = (
    "--with-cloud-init",
    {"metavar": "FILE", "help": "cloud-init's schema-cloud-config-v1.json, to print it with the key in it"},
)


def main(argv: Optional[List[str]] = None) -> int:
    """Run the command and return its exit code: 0 done, 1 refused or problems, 2 wrong usage or no such file."""
    arguments = parser().parse_args(argv)
    try:
        return arguments.run(arguments) or 0
    except _refusals() as error:
        print("ssh-keepalive: {}".format(error), file=sys.stderr)
        return 1


def _refusals() -> Tuple[Type[Exception], ...]:
    from . import image, policy, sshd

    return image.ImageError, policy.PolicyError, sshd.SshdError, OSError


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    top = argparse.ArgumentParser(
        prog="ssh-keepalive", description="Check user-data with ssh_keepalive, and put the module into images."
    )
    top.add_argument("--version", action="version", version="%(prog)s " + __version__)
    commands = top.add_subparsers(metavar="COMMAND", dest="command")
    commands.required = True
    for run, text, options in (
        (_check, "say what is wrong in user-data, exit 1 if something is", [_FILES, _FORMAT]),
        (_schema, "print the JSON schema of the key, for editors", [_CLOUD_INIT]),
        (_install, "put the module into an image, or bring it up to date", [_ROOT]),
        (_uninstall, "take everything out of an image again", [_ROOT]),
        (_register, "have an image's cloud-init run the module that is in it, and know its key", [_ROOT]),
        (_unregister, "give an image's cloud-init its own list of modules and schema back", [_ROOT]),
        (_status, "say whether this machine keeps its policy, and what is to be done if not", [_JSON, _ROOT]),
        (_apply, "have this machine keep the policy of a file, as at its first boot", [_FILE]),
        (_reapply, "express this machine's policy anew, after an upgrade of OpenSSH", []),
    ):
        command = commands.add_parser(run.__name__[1:], help=text, description=text)
        command.set_defaults(run=run)
        for name, settings in options:
            command.add_argument(name, **settings)
    return top


def _check(arguments: argparse.Namespace) -> int:
    from . import diagnostics

    code = 0
    reports = []
    for name in arguments.file:
        shown = "stdin" if name == "-" else name
        try:
            content = _content(name)
        except OSError as error:
            code = 2
            message = error.strerror or str(error)
            print("ssh-keepalive: {}: {}".format(diagnostics.printable(shown), message), file=sys.stderr)
            reports.append({"file": diagnostics.printable(shown), "verdict": "unreadable", "reason": message})
            continue
        remarks = diagnostics.diagnose(content)
        code = max(code, int(diagnostics.has_errors(remarks)))
        if arguments.format == "text":
            _say(diagnostics.as_text(shown, remarks, _has_colours()))
        else:
            reports.append(diagnostics.as_json(shown, remarks))
    if arguments.format == "json":
        import json

        _say(json.dumps({"files": reports}, indent=2) + "\n")
    return code


def _content(name: str) -> bytes:
    """Return what a file holds, of a big one no more than shows that it is too big."""
    from .userdata import MAX_BYTES

    if name == "-":
        return sys.stdin.buffer.read(MAX_BYTES + 1)
    with open(name, "rb") as stream:
        return stream.read(MAX_BYTES + 1)


def _has_colours() -> bool:
    # https://no-color.org
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _say(text: str) -> None:
    """Write to standard output, whatever characters that has."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))


def _schema(arguments: argparse.Namespace) -> int:
    from . import policy

    if arguments.with_cloud_init is None:
        with open(policy.SCHEMA_FILE, encoding="utf-8") as stream:
            _say(stream.read())
        return 0
    from . import registration

    try:
        with open(arguments.with_cloud_init, encoding="utf-8") as stream:
            _say(registration.with_key(stream.read(), policy.load_schema()["properties"][policy.KEY]))
    except ValueError as error:
        message = "ssh-keepalive: {}: not cloud-init's schema: {}"
        print(message.format(arguments.with_cloud_init, error), file=sys.stderr)
        return 1
    return 0


def _install(arguments: argparse.Namespace) -> None:
    from . import image

    image.install(image.Root(arguments.root))


def _register(arguments: argparse.Namespace) -> None:
    from . import image

    image.register(image.Root(arguments.root))


def _unregister(arguments: argparse.Namespace) -> None:
    from . import image

    image.unregister(image.Root(arguments.root))


def _uninstall(arguments: argparse.Namespace) -> None:
    from . import image, sshd
    from .policy import Policy

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

    from . import image, inspection, sshd

    is_here = image.Root(arguments.root).real("/") == "/"
    try:
        found = inspection.inspect(sshd.Sshd()) if is_here else inspection.inspect_image(arguments.root)
    except (image.ImageError, sshd.SshdError, OSError) as error:
        found = inspection.unknown(error)
    print(json.dumps(found.as_json(), indent=2, sort_keys=True) if arguments.json else found)
    return found.exit_code


def _apply(arguments: argparse.Namespace) -> int:
    from . import diagnostics, policy, sshd, userdata

    try:
        content = _content(arguments.file)
    except OSError as error:
        print("ssh-keepalive: {}".format(error), file=sys.stderr)
        return 2
    shown = "stdin" if arguments.file == "-" else arguments.file
    remarks = diagnostics.diagnose(content)
    if diagnostics.has_errors(remarks):
        sys.stderr.write(diagnostics.as_text(shown, remarks))
        return 1
    wanted = policy.parse(userdata.read(content).section)
    if wanted is None:
        print("ssh-keepalive: {}: has no {}".format(shown, policy.KEY), file=sys.stderr)
        return 1
    print(sshd.apply(wanted, sshd.Sshd()))
    return 0


def _reapply(arguments: argparse.Namespace) -> None:
    from . import sshd

    report = sshd.reapply(sshd.Sshd())
    print(report or "no policy on this machine")
