# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The commands of ssh-keepalive, which take parsed arguments and return the exit code.

Each imports what it needs: check is run for single files, by editors and commit hooks.
"""

import contextlib
import os
import sys
from argparse import Namespace
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, NamedTuple, Optional, TextIO, Tuple

if TYPE_CHECKING:
    from .machine.host import Host
    from .openssh import Version
    from .policy import Policy


class _File(NamedTuple):
    """Hold a file of user-data; `content` is None if it cannot be read, and `reason` says why."""

    name: str
    content: Optional[bytes]
    reason: str = ""


def check_files(arguments: Namespace) -> int:
    """Say what is wrong in files of user-data; return 1 if something is, 2 if one cannot be read."""
    from .check import diagnostics

    code = 0
    reports: List[Dict[str, Any]] = []
    for path in arguments.file:
        file = _read(path)
        if file.content is None:
            code = 2
            name = diagnostics.printable(file.name)
            reports.append({"file": name, "verdict": "unreadable", "reason": file.reason})
            continue
        remarks = diagnostics.diagnose(file.content, arguments.openssh)
        code = max(code, int(diagnostics.has_errors(remarks)))
        if arguments.format == "text":
            _write(diagnostics.as_text(file.name, remarks, _has_colours(sys.stdout)))
        else:
            reports.append(diagnostics.as_json(file.name, remarks))
    if arguments.format == "json":
        import json

        _write(json.dumps({"files": reports}, indent=2) + "\n")
    return code


def render_file(arguments: Namespace) -> int:
    """Print the files that a policy becomes on an OpenSSH, on standard output their bytes and nothing else."""
    from . import openssh, paths, sshd_config, tmout

    policy, code = _policy_of(arguments.file, arguments.openssh)
    if policy is None:
        return code
    if not policy.enabled:
        complain("no file, enabled: false takes the policy off")
        return 0
    settings = openssh.translate(policy, arguments.openssh)
    if openssh.has(arguments.openssh, "reads-drop-ins"):
        texts = [(paths.DROP_IN, sshd_config.render(settings))]
    else:
        place = f"{paths.MAIN}, the marked blocks (with match a second one, at its end)"
        texts = [(place, sshd_config.with_block("", settings))]
    if settings.tmout:
        texts.append((paths.PROFILE, tmout.render(settings.tmout)))
    for place, text in texts:
        complain(f"{place}:")
        _write(text)
        flush()
    return 0


def explain_file(arguments: Namespace) -> int:
    """Say what a policy does to sessions on an OpenSSH, in lines as wide as COLUMNS or the terminal, else of 80."""
    import shutil

    from .check import explanation

    policy, code = _policy_of(arguments.file, arguments.openssh)
    if policy is not None:
        _write(explanation.explain(policy, arguments.openssh, shutil.get_terminal_size().columns))
    return code


def print_schema(arguments: Namespace) -> int:
    """Print the JSON schema of the key, or cloud-init's with the key in it."""
    from . import policy

    file = arguments.with_cloud_init
    if file is None:
        with open(policy.SCHEMA_FILE, encoding="utf-8") as stream:
            _write(stream.read())
        return 0
    from .image.cloud_init_schema import with_key

    try:
        with open(file, encoding="utf-8") as stream:
            _write(with_key(stream.read(), policy.load_schema()["properties"][policy.KEY]))
    except ValueError as error:
        complain(f"{file}: not cloud-init's schema: {error}")
        return 1
    return 0


def change_image(arguments: Namespace) -> int:
    """Do to an image what the command is called: install, register or unregister."""
    from .image import installation, registration
    from .image.root import Root, is_this_machine, option

    changes: Dict[str, Callable[[Root], Optional[List[str]]]] = {
        "install": installation.install,
        "register": registration.register,
        "unregister": registration.unregister,
    }
    try:
        notes = changes[arguments.command](Root(arguments.root))
    except KeyboardInterrupt:
        again = f"ssh-keepalive {arguments.command}{option(arguments.root)}"
        raise KeyboardInterrupt(f"not all is done, run {again} again") from None
    if arguments.command == "install" and is_this_machine(arguments.root):
        from .machine.host import Host

        # Not after register, which a unit runs early in the boot.
        _tell_systemd(Host(), "daemon-reload")
    for note in notes or ():
        complain(f"note: {note}")
    return 0


def clear_image(arguments: Namespace) -> int:
    """Take everything out of an image; on this machine, take the policy off its sshd first."""
    from .image.installation import has_traces, uninstall
    from .image.root import Root, is_this_machine
    from .machine.host import Host
    from .machine.interrupts import Interrupts
    from .machine.problem import SshdError
    from .paths import REGISTER_UNIT, UNIT

    root = Root(arguments.root)
    is_here = is_this_machine(arguments.root)
    # Without any there is nothing that a running sshd could enforce, and what it has read of others' is not asked.
    if is_here and has_traces(root):
        from .machine.apply import apply
        from .policy import Policy

        try:
            # A running sshd would enforce the policy of a file that is gone.
            apply(Policy(enabled=False), Host(attended=True))
        except SshdError as error:
            complain(f"sshd may enforce the policy until it is restarted: {error}")
    with Interrupts() as interrupts:
        # It takes a moment, and the command that would go on with it is a part of what it takes out.
        interrupts.hold()
        uninstall(root)
        if is_here:
            _tell_systemd(Host(), "daemon-reload")
            _tell_systemd(Host(), "reset-failed", UNIT, REGISTER_UNIT)
    return 0


def _tell_systemd(host: "Host", *arguments: str) -> None:
    """Have systemd, where it runs, know which units there are now; without that it does from the next boot on."""
    from .machine.problem import SshdError

    if host.runs_systemd:
        with contextlib.suppress(SshdError, OSError):
            host.run("systemctl", *arguments)


def print_status(arguments: Namespace) -> int:
    """Say whether a machine's policy is in effect, or an image is registered; return 1 if not, 2 for unknown."""
    from .image.root import ImageError, is_this_machine
    from .machine import report
    from .machine.host import Host
    from .machine.problem import Problem, SshdError
    from .machine.status import image_status, status, unknown

    try:
        is_here = is_this_machine(arguments.root)
        if is_here and not is_root():
            raise SshdError(Problem("not root", "run as root"))
        state = status(Host()) if is_here else image_status(arguments.root)
    except (ImageError, SshdError, OSError) as error:
        state = unknown(error, arguments.root)
    if arguments.json:
        import json

        _write(json.dumps(report.as_json(state), indent=2, sort_keys=True) + "\n")
    else:
        _write(report.as_text(state) + "\n")
    return int(state.exit_code)


def apply_file(arguments: Namespace) -> int:
    """Have this machine enforce the policy of a file."""
    policy, code = _policy_of(arguments.file)
    if policy is not None:
        from .machine.apply import apply
        from .machine.host import Host

        _write("\n".join(apply(policy, Host(attended=True)).lines()) + "\n")
    return code


def note_reading(arguments: Namespace) -> int:
    """Note which sshd has read the policy as it is now; return 1 if what was asked is not in effect, 2 for unknown."""
    from .machine.host import Host
    from .machine.problem import SshdError
    from .machine.status import note, unknown

    try:
        state = note(Host())
    except (SshdError, OSError) as error:
        state = unknown(error)
    for problem in state.problems:
        complain(f"{state.verdict.replace('-', ' ')}: {problem}")
    return int(state.exit_code)


def reapply_policy(_: Namespace) -> int:
    """Translate this machine's policy anew."""
    from .machine.apply import reapply
    from .machine.host import Host

    report = reapply(Host())
    _write("\n".join(report.lines() if report else ["no policy on this machine"]) + "\n")
    return 0


def _policy_of(path: str, version: Optional["Version"] = None) -> Tuple[Optional["Policy"], int]:
    """Return the policy of a file and the exit code, without a policy after saying why."""
    from .check import diagnostics

    file = _read(path)
    if file.content is None:
        return None, 2
    policy, remarks = diagnostics.judge(file.content, version)
    _write(diagnostics.as_text(file.name, remarks, _has_colours(sys.stderr)), sys.stderr)
    if policy is None and not remarks:
        complain(f"{diagnostics.printable(file.name)}: has no ssh_keepalive")
    return policy, int(policy is None)


def _read(path: str) -> _File:
    """Return what a file holds, of a big one no more than shows that it is too big; say why if it cannot be read."""
    from .check.diagnostics import printable
    from .check.userdata import MAX_BYTES

    name = "stdin" if path == "-" else path
    try:
        if path == "-":
            return _File(name, sys.stdin.buffer.read(MAX_BYTES + 1))
        with open(path, "rb") as stream:
            return _File(name, stream.read(MAX_BYTES + 1))
    except OSError as error:
        reason = error.strerror or str(error)
        complain(f"{printable(name)}: {reason}")
        return _File(name, None, reason)


def is_root() -> bool:
    """Return whether this is root's run."""
    return os.geteuid() == 0


def complain(message: str) -> None:
    """Say something on standard error, if that can be written to."""
    with contextlib.suppress(OSError):
        _write(f"ssh-keepalive: {message}\n", sys.stderr)
        with _written(sys.stderr):
            sys.stderr.flush()


def flush() -> None:
    """Write what is left to standard output; raise OSError if that cannot be done."""
    with _written(sys.stdout):
        sys.stdout.flush()


def _write(text: str, stream: Optional[TextIO] = None) -> None:
    """Write to a stream (standard output by default), whatever characters that has."""
    stream = stream or sys.stdout
    encoding = stream.encoding or "utf-8"
    with _written(stream):
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))


@contextlib.contextmanager
def _written(stream: TextIO) -> Iterator[None]:
    """Name a stream that cannot be written to, and have Python not try again as it ends."""
    try:
        yield
    except OSError as error:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())
        raise OSError(
            error.errno, error.strerror, f"standard {'output' if stream is sys.stdout else 'error'}"
        ) from error


def _has_colours(stream: TextIO) -> bool:
    # https://no-color.org
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
