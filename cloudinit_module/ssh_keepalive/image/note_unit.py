# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The unit that notes what sshd has read, whenever it was started: before runcmd and people change its files."""

from ..paths import COMMAND, DROP_IN, MAIN

_TEXT = """\
# Written by ssh-keepalive
[Unit]
Description=Note what sshd has read of its SSH keepalive policy
After=ssh.service sshd.service cloud-init.service cloud-init-network.service
Before=cloud-final.service

[Service]
Type=oneshot
# Without a policy there is nothing to note; systemd before 243 does not know this, and the command finds that out, too.
ExecCondition=/bin/grep -D skip -qs ssh.keepalive {drop_in} {main}
ExecStart=-{command} note
TimeoutStartSec=30
"""


def render() -> str:
    """Return the text of the unit; it starts nothing else, and nothing fails with it."""
    return _TEXT.format(command=COMMAND, drop_in=DROP_IN, main=MAIN)
