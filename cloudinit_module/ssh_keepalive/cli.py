# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The command ssh-keepalive."""

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any, Dict, List, Optional, TextIO, Tuple, Type

from . import __version__

if TYPE_CHECKING:
    from . import policy

# Each command imports what it needs: check is run for single files, by editors and commit hooks.

Option = Tuple[str, Dict[str, Any]]

_ROOT: Option = ("--root", {"default": "/", "metavar": "DIR", "help": "the image's root (default: /, this machine)"})
_FILES: Option = ("file", {"nargs": "+", "metavar": "FILE", "help": "user-data, - for standard input"})
_FILE: Option = ("file", {"metavar": "FILE", "help": "user-data, - for standard input"})
_JSON: Option = ("--json", {"action": "store_true", "help": "as JSON, for programs"})
_FORMAT: Option = ("--format", {"choices": ("text", "json"), "default": "text", "help": "default: text"})
_CLOUD_INIT: Option = (
    "--with-cloud-init",
    {"metavar": "FILE", "help": "cloud-init's schema-cloud-config-v1.json, to print it with the key in it"},
)


def _version(name: str) -> Tuple[int, int]:
    from . import openssh

    found = openssh.version_of(name)
    if found is None:
        message = "{!r}: expected a version such as 9.2p1, or one of {}"
        raise argparse.ArgumentTypeError(message.format(name, ", ".join(openssh.DISTRIBUTIONS)))
    return found


_OPENSSH: Dict[str, Any] = {
    "metavar": "VERSION",
    "type": _version,
    "help": "the OpenSSH that is to keep it: 9.2p1, or a distribution that has it, such as debian-12",
}
_FOR: Option = ("--openssh", _OPENSSH)
_ON: Option = ("--openssh", {"required": True, **_OPENSSH})


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
        prog="ssh-keepalive",
        description="Check user-data with ssh_keepalive, and put the module into images.",
        epilog="Each command has help of its own, with examples: ssh-keepalive check --help",
    )
    top.add_argument("--version", action="version", version="%(prog)s " + __version__)
    commands = top.add_subparsers(metavar="COMMAND", dest="command")
    commands.required = True
    for run, text, options, examples in (
        (
            _check,
            "say what is wrong in user-data, exit 1 if something is",
            [_FILES, _FORMAT, _FOR],
            ["check user-data", "check --openssh debian-12 *.yaml", "check --format json - <user-data"],
        ),
        (
            _render,
            "print the drop-in that a policy becomes there, and the file for TMOUT if there is one",
            [_FILE, _ON],
            ["render user-data --openssh 9.2", "render user-data --openssh ubuntu-24.04 2>/dev/null | less"],
        ),
        (
            _explain,
            "say what becomes of dead clients and idle sessions there, and what is not covered",
            [_FILE, _ON],
            ["explain user-data --openssh debian-13"],
        ),
        (
            _schema,
            "print the JSON schema of the key, for editors",
            [_CLOUD_INIT],
            ["schema >ssh-keepalive.schema.json", "schema --with-cloud-init schema-cloud-config-v1.json"],
        ),
        (
            _install,
            "put the module into an image, or bring it up to date",
            [_ROOT],
            ["install --root /mnt/image"],
        ),
        (_uninstall, "take everything out of an image again", [_ROOT], ["uninstall --root /mnt/image"]),
        (
            _register,
            "have an image's cloud-init run the module that is in it, and know its key",
            [_ROOT],
            ["register"],
        ),
        (
            _unregister,
            "give an image's cloud-init its own list of modules and schema back",
            [_ROOT],
            ["unregister"],
        ),
        (
            _status,
            "say whether this machine keeps its policy, and what is to be done if not",
            [_JSON, _ROOT],
            ["status", "status --json", "status --root /mnt/image"],
        ),
        (
            _apply,
            "have this machine keep the policy of a file, proved as at its first boot",
            [_FILE],
            ["apply user-data", "apply - <user-data"],
        ),
        (_reapply, "express this machine's policy anew, after an upgrade of OpenSSH", [], ["reapply"]),
    ):
        command = commands.add_parser(
            run.__name__[1:],
            help=text,
            description=text,
            epilog="\n".join(["examples:", *("  ssh-keepalive " + example for example in examples)]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(run=run)
        for name, settings in options:
            command.add_argument(name, **settings)
    return top


def _check(arguments: argparse.Namespace) -> int:
    from . import diagnostics

    code = 0
    reports = []
    for name in arguments.file:
        shown = _shown(name)
        try:
            content = _content(name)
        except OSError as error:
            code = 2
            message = _unreadable(shown, error)
            reports.append({"file": diagnostics.printable(shown), "verdict": "unreadable", "reason": message})
            continue
        remarks = diagnostics.diagnose(content, arguments.openssh)
        code = max(code, int(diagnostics.has_errors(remarks)))
        if arguments.format == "text":
            _say(diagnostics.as_text(shown, remarks, _has_colours(sys.stdout)))
        else:
            reports.append(diagnostics.as_json(shown, remarks))
    if arguments.format == "json":
        import json

        _say(json.dumps({"files": reports}, indent=2) + "\n")
    return code


def _render(arguments: argparse.Namespace) -> int:
    from . import dropin, openssh, tmout

    policy, code = _policy(arguments.file, arguments.openssh)
    if policy is None:
        return code
    if not policy.enabled:
        print("ssh-keepalive: no file, enabled: false takes the policy off", file=sys.stderr)
        return 0
    expression = openssh.express(policy, arguments.openssh)
    if openssh.has(arguments.openssh, "reads-drop-ins"):
        texts = [("/etc/ssh/sshd_config.d/" + dropin.NAME, dropin.render(policy, expression))]
    else:
        place = "/etc/ssh/sshd_config, the marked blocks (with match a second one, at its end)"
        texts = [(place, dropin.with_block("", policy, expression))]
    if expression.tmout:
        texts.append(("/etc/profile.d/" + tmout.NAME, tmout.render(expression.tmout)))
    for place, text in texts:
        # Standard output has the files' bytes and nothing else.
        print("ssh-keepalive: {}:".format(place), file=sys.stderr, flush=True)
        _say(text)
        sys.stdout.flush()
    return 0


def _explain(arguments: argparse.Namespace) -> int:
    from . import explanation

    policy, code = _policy(arguments.file, arguments.openssh)
    if policy is not None:
        _say(explanation.explain(policy, arguments.openssh))
    return code


def _policy(name: str, version: Optional[Tuple[int, int]] = None) -> Tuple[Optional["policy.Policy"], int]:
    """Return the policy of a file and the exit code, without a policy after saying why."""
    from . import diagnostics

    shown = _shown(name)
    try:
        content = _content(name)
    except OSError as error:
        _unreadable(shown, error)
        return None, 2
    policy, remarks = diagnostics.judge(content, version)
    _say(diagnostics.as_text(shown, remarks, _has_colours(sys.stderr)), sys.stderr)
    if policy is None and not remarks:
        print("ssh-keepalive: {}: has no ssh_keepalive".format(diagnostics.printable(shown)), file=sys.stderr)
    return policy, int(policy is None)


def _shown(name: str) -> str:
    return "stdin" if name == "-" else name


def _unreadable(shown: str, error: OSError) -> str:
    """Say why a file cannot be read, and return that."""
    from .diagnostics import printable

    message = error.strerror or str(error)
    print("ssh-keepalive: {}: {}".format(printable(shown), message), file=sys.stderr)
    return message


def _content(name: str) -> bytes:
    """Return what a file holds, of a big one no more than shows that it is too big."""
    from .userdata import MAX_BYTES

    if name == "-":
        return sys.stdin.buffer.read(MAX_BYTES + 1)
    with open(name, "rb") as stream:
        return stream.read(MAX_BYTES + 1)


def _has_colours(stream: TextIO) -> bool:
    # https://no-color.org
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _say(text: str, stream: Optional[TextIO] = None) -> None:
    """Write to a stream (standard output by default), whatever characters that has."""
    stream = stream or sys.stdout
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))


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
    _say((json.dumps(found.as_json(), indent=2, sort_keys=True) if arguments.json else str(found)) + "\n")
    return found.exit_code


def _apply(arguments: argparse.Namespace) -> int:
    from . import sshd

    wanted, code = _policy(arguments.file)
    if wanted is not None:
        print(sshd.apply(wanted, sshd.Sshd()))
    return code


def _reapply(arguments: argparse.Namespace) -> None:
    from . import sshd

    report = sshd.reapply(sshd.Sshd())
    print(report or "no policy on this machine")
