# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""A login shell, asked what its profiles make of TMOUT."""

import re
import sys
from typing import Optional, Tuple

from .. import paths
from .host import Host
from .problem import Problem, SshdError

# Profiles may do anything; a boot is not to wait for them.
_SECONDS = 5.0


# What a login over SSH sets, since profiles look at it; without a home
_ENVIRONMENT = (
    "HOME=/nonexistent",
    "SHELL=/bin/bash",
    "TERM=dumb",
    "SSH_CLIENT=192.0.2.1 50000 22",
    "SSH_CONNECTION=192.0.2.1 50000 192.0.2.2 22",
    "SSH_TTY=/dev/pts/0",
)
# A terminal of its own, which what a profile leaves in the background may hold open: the shell's end counts.
_ON_A_TERMINAL = """\
import os, pty, select, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
ended = False
while True:
    if select.select([terminal], [], [], 0 if ended else 0.05)[0]:
        try:
            os.write(1, os.read(terminal, 65536))
        except OSError:
            break
    elif ended:
        break
    else:
        ended = os.waitpid(pid, os.WNOHANG)[0] == pid
"""
_NOBODY = "65534"


def tmout_problem(seconds: int, host: Host) -> Optional[Problem]:
    """Return why a login shell over SSH does not end at its prompt after that time; None if it does.

    Root's is asked, and that of somebody who is not root.
    """
    if host.program("bash") is None:
        return Problem("no bash is here that could be asked for TMOUT", "install bash")
    as_nobody = ("setpriv", "--reuid", _NOBODY, "--regid", _NOBODY, "--clear-groups")
    found = _problem("root", (), seconds, host)
    if found is None and host.program("setpriv"):
        found = _problem("nobody", as_nobody, seconds, host)
    return found


def _problem(user: str, as_user: Tuple[str, ...], seconds: int, host: Host) -> Optional[Problem]:
    environment = (*_ENVIRONMENT, f"USER={user}", f"LOGNAME={user}", f"PATH={host.path}")
    shell = ("bash", "-lic", 'printf "\nTMOUT=%s\n" "${TMOUT-}"')
    call = (sys.executable, "-BISc", _ON_A_TERMINAL, *as_user, *shell)
    try:
        answer = host.run("env", "-i", *environment, *call, seconds=_SECONDS)
    except SshdError:
        message = f"a login shell does not say within {_SECONDS:.0f} s what its TMOUT is"
        return Problem(message, "look for what its profiles wait for")
    found = re.findall(r"^TMOUT=(.*)$", answer.out, re.MULTILINE)
    now = found[-1].strip() if found else ""
    if now == str(seconds):
        return None
    profile = host.at(paths.PROFILE)
    if now:
        message = f"TMOUT is {now} where {seconds} is expected in a login shell, another profile overrides it"
        return Problem(
            message, "remove that line, grep -rn TMOUT /etc/profile /etc/profile.d /etc/bash.bashrc finds it"
        )
    return Problem(f"a login shell does not read {profile}", "have /etc/profile read /etc/profile.d/*.sh")
