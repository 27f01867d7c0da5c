# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The unit that notes after each boot what sshd has read, before runcmd and people change its files."""

from ..paths import COMMAND, DROP_IN, LOCK

_TEXT = """\
# Written by ssh-keepalive
[Unit]
Description=Note what sshd has read of its SSH keepalive policy
After=ssh.service sshd.service cloud-init.service cloud-init-network.service
Before=cloud-final.service
ConditionPathExists=|{drop_in}
ConditionPathExists=|{lock}

[Service]
Type=oneshot
ExecStart=-{command} note
TimeoutStartSec=30
"""


def render() -> str:
    """Return the text of the unit; it starts nothing else, and nothing fails with it."""
    return _TEXT.format(command=COMMAND, drop_in=DROP_IN, lock=LOCK)
