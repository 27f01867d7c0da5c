# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""A login shell, asked what its profiles make of TMOUT."""

import re
from typing import Optional

from .. import paths
from .host import Host
from .problem import Problem, SshdError

# Profiles may do anything; a boot is not to wait for them.
_SECONDS = 5.0


def tmout_problem(seconds: int, host: Host) -> Optional[Problem]:
    """Return why a login shell over SSH does not end at its prompt after that time; None if it does."""
    if host.program("bash") is None:
        return Problem("no bash is here that could be asked for TMOUT", "install bash")
    # Of nobody's home; over SSH, as the profile wants to see it.
    environment = ("HOME=/nonexistent", "TERM=dumb", "SSH_CONNECTION=192.0.2.1 50000 192.0.2.2 22")
    call = ("bash", "-lic", 'printf "\\nTMOUT=%s\\n" "${TMOUT-}"')
    try:
        answer = host.run("env", "-i", f"PATH={host.path}", *environment, *call, seconds=_SECONDS)
    except SshdError as error:
        return Problem(f"a login shell does not say what its TMOUT is: {error}", "look for what its profiles wait for")
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
