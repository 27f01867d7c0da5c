# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The unit that notes what sshd has read, whenever it was started, and fails if that is not what was asked."""

from ..paths import CLOUD_CFG, CLOUD_CFG_FOLDER, COMMAND, DROP_IN, INSTANCE, MAIN, RUNTIME_CFG

# Whatever may ask for a policy, or hold one
_FILES = (
    DROP_IN,
    MAIN,
    CLOUD_CFG,
    CLOUD_CFG_FOLDER,
    RUNTIME_CFG,
    "/proc/cmdline",
    # In a container
    "/proc/1/cmdline",
    *(f"{INSTANCE}/{name}.txt" for name in ("user-data", "vendor-data", "vendor-data2")),
    # What was included, too
    *(f"{INSTANCE}/{name}.txt" for name in ("cloud-config", "vendor-cloud-config", "vendor2-cloud-config")),
)
# A section, the header of a drop-in or block, a line of base64, the start of gzip; not an entry in a list of modules
_PATTERN = r"ssh_keepalive.? *(:|%%3[Aa])|(BEGIN |cc_)ssh.keepalive|^[A-Za-z0-9+/]{40,}=*.?$$|^\x1f"
_TEXT = """\
# Written by ssh-keepalive
[Unit]
Description=Note what sshd has read of its SSH keepalive policy, and whether that is what was asked
After=cloud-init.service cloud-init-network.service
Before=cloud-final.service
# However often sshd is started
StartLimitIntervalSec=0
# systemd knows a unit for a while after its files are gone, and sshd's would start it.
ConditionFileIsExecutable={command}

[Service]
Type=oneshot
# Without a policy there is nothing to note; systemd before 243 does not know this, and the command finds that out, too.
# grep's 2, for a file that is not there, would count as success here.
ExecCondition=/bin/sh -c "/bin/grep -RqsE -D skip '{pattern}' {files} || exit 1"
ExecStart={command} note
# Not known is no failure.
SuccessExitStatus=2
TimeoutStartSec=30
"""


def render() -> str:
    """Return the text of the unit; it starts nothing else, and nothing waits for it but the end of a boot."""
    return _TEXT.format(pattern=_PATTERN, files=" ".join(_FILES), command=COMMAND)
