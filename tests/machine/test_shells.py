"""Where an idle shell is to end by itself, a shell is asked whether it does."""

from __future__ import annotations

import re

import pytest
from baking import DROP_IN
from machine import Machine
from serving import OURS, apply, as_it_was, status, unattended

FOR_OTHERS = "echo '[ $(id -u) -eq 0 ] || readonly TMOUT=900' >/etc/profile.d/aa.sh"
# What an interactive login shell has as its time: it is asked, no file is read.
SHELLS = {
    "nothing else": ("", True),
    "a readonly one before": ("echo 'readonly TMOUT=900' >/etc/profile.d/aa.sh", False),
    "a declared one before": ("echo 'declare -rx TMOUT=900' >/etc/profile.d/aa.bash", True),
    "the same in a .sh": ("echo 'declare -rx TMOUT=900' >/etc/profile.d/aa.sh", False),
    "a readonly one in /etc/profile": ("sed -i '1ireadonly TMOUT=900' /etc/profile", False),
    "one that can be changed": ("echo 'TMOUT=900; export TMOUT' >/etc/profile.d/aa.sh", True),
    "a later one": ("echo 'TMOUT=900' >/etc/profile.d/zzz.sh", True),
    "none is read": ("sed -i /profile.d/,+7d /etc/profile; bash -n /etc/profile || : >/etc/profile", False),
    "an empty profile": (": >/etc/profile", False),
    "no profile": ("rm /etc/profile", False),
    "a profile that leaves early": ("sed -i '1ireturn' /etc/profile", False),
    "one on a terminal": ("echo '[ -t 0 ] && readonly TMOUT=900' >/etc/profile.d/aa.sh", False),
    "one over SSH": ("echo '[ -n \"$SSH_TTY\" ] && readonly TMOUT=900' >/etc/profile.d/aa.sh", False),
    "one for root": ("echo '[ \"$LOGNAME\" = root ] && readonly TMOUT=900' >/etc/profile.d/aa.sh", False),
    "a job in the background": ("echo 'sleep 100 &' >/etc/profile.d/aa.sh", True),
    "a job that holds the terminal": ("""echo "(trap '' HUP; exec sleep 100) &" >/etc/profile.d/aa.sh""", True),
    "the same value": ("echo 'readonly TMOUT=120' >/etc/profile.d/aa.sh", True),
}
IDLE = "{idle_timeout: 2m, idle_fallback: tmout}"


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if at < 2 else pytest.mark.slow) for at, name in enumerate(SHELLS)]
)
def test_a_shell_is_asked(oldest: Machine, name: str) -> None:
    script, ends = SHELLS[name]
    as_it_was(oldest)
    oldest.sh(script)
    said = unattended(oldest, IDLE)
    shown = oldest.run("ssh", "-tt", "localhost", input="echo is $TMOUT; exit\n").stdout
    assert ("is 120" in shown) == ends or said.code
    assert (said.code == 0) == ends, said
    # Other shells know no TMOUT.
    assert ("a bash or ksh that waits at its prompt ends after 120 s" in said.text) == ends
    if said.code:
        assert re.search("TMOUT is 900|does not read /etc/profile.d/zz-ssh-keepalive.sh", said.text)
        assert status(oldest).code != 0 or OURS in oldest.run("cat", DROP_IN).stdout
    # It may come later as well.
    as_it_was(oldest)
    assert apply(oldest, IDLE).code == 0
    oldest.sh(script)
    found = status(oldest)
    assert (found.code == 0) == ends, found.problems


@pytest.mark.slow
def test_a_shell_of_somebody_who_is_not_root_is_asked(oldest: Machine) -> None:
    as_it_was(oldest)
    oldest.sh(FOR_OTHERS)
    said = unattended(oldest, IDLE)
    assert (said.code, "TMOUT is 900 where 120 is expected" in said.text) == (1, True)
