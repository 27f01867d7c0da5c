"""The product in a machine: baked into its root, applied while it runs, and what its sshd then says."""

from __future__ import annotations

import re
import subprocess

from machine import Machine
from ssh_keepalive.image.installation import install
from ssh_keepalive.image.root import Root

DROP_IN = "/etc/ssh/sshd_config.d/00-ssh-keepalive.conf"
DEFAULT = "etc/cloud/cloud.cfg.d/95_ssh_keepalive.cfg"


def bake(machine: Machine, default: str | None = None) -> None:
    """Install the module in a machine's root, with a section (YAML) as the image's default."""
    install(Root(str(machine.root)))
    if default is not None:
        set_default(machine, default)


def set_default(machine: Machine, section: str) -> None:
    """Make a section (YAML) the image's default."""
    (machine.root / DEFAULT).write_text(f"ssh_keepalive: {section}\n")


def apply(machine: Machine, section: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Apply a section (YAML) to a running machine whose user-data has none."""
    set_default(machine, section)
    answer = machine.run("cloud-init", "single", "--name", "ssh_keepalive", "--frequency", "always", check=False)
    if check and answer.returncode:
        # cloud-init says only that it failed.
        log = machine.run("cat", "/var/log/cloud-init.log").stdout
        raise AssertionError(re.findall(r"^(?:ssh_keepalive\.[\w.]+\.)?\w+Error: .*$", log, re.MULTILINE)[-1:])
    return answer


def effective(machine: Machine, user: str = "root", address: str = "127.0.0.1") -> dict[str, str]:
    """Return the values that sshd reports for a user from an address, by keyword in lower case."""
    who = f"user={user},host=localhost,addr={address},laddr=127.0.0.1,lport=22"
    # /run/sshd is there while an sshd is, and the end of a connection by ssh@.service takes it along.
    script = f"for attempt in 1 2 3; do mkdir -p /run/sshd; sshd -T -C {who} && exit; done; exit 1"
    text = machine.sh(script).stdout
    pairs = (line.partition(" ") for line in text.splitlines())
    return {keyword.lower(): value for keyword, _, value in pairs}
