# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The shell variable TMOUT, for machines whose sshd has no ChannelTimeout."""

from .paths import HEADER

# Every shell that reads /etc/profile reads this. In dash a readonly TMOUT would be no time-out, but the end of a script
# that sets it; within tmux and screen a window would end, which a lost connection leaves alone.
_TEXT = """\
{header}
case $- in
*i*)
    if [ -n "${{SSH_CONNECTION-}}" ] && [ -z "${{TMUX-}}${{STY-}}" ] &&
        [ -n "${{BASH_VERSION-}}${{ZSH_VERSION-}}${{KSH_VERSION-}}" ] && (unset TMOUT) 2>/dev/null; then
        TMOUT={seconds}
        readonly TMOUT
    fi
    ;;
esac
"""


def render(seconds: int) -> str:
    """Return what /etc/profile.d is to hold to have interactive shells over SSH end at a prompt after that time."""
    return _TEXT.format(header=HEADER, seconds=seconds)
