"""A virtual machine that SELinux confines by Debian's policy, which denies nothing without saying so.

That policy has no domain for cloud-init, which runs in that of init's scripts, where little is denied. It keeps the
generator of cloud-init.target from writing to /run, hence the link, and cloud-init from mounting a seed, hence the
folder. What sshd may read is confined, and which context a file gets is as anywhere else.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from baking import DROP_IN, bake
from built import SUITE, without_keys
from images import LIST, ORIGINAL, SCHEMA
from machine import Machine
from roots import OURS, chroot, tree
from virtual_machines import boot, disk_of, mounted, read, unhurried

# Those of cloud-init and of our units, of sshd and of restorecon, with all that they start in the same
DOMAINS = ("init_t", "initrc_t", "sshd_t", "setfiles_t")
USER_DATA = """\
#cloud-config
ssh_keepalive: {unresponsive_timeout: 3m}
runcmd: [[sh, -c, "cat /proc/$PPID/attr/current >/domain"]]
"""
CONFIGURE = r"""
sed -i 's/^SELINUX=.*/SELINUX=enforcing/' /etc/selinux/config
sed -i 's/^-b .*/-b 65536/' /etc/audit/rules.d/audit.rules
semodule --disable_dontaudit --build
cd /etc/systemd/system/multi-user.target.wants
ln -s /usr/lib/systemd/system/cloud-init.target /etc/systemd/system/tell.service .
setfiles -F /etc/selinux/default/contexts/files/file_contexts /
"""
TELL = """\
[Unit]
After=cloud-final.service multi-user.target
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'exec >/told; getenforce; cloud-init status; ssh-keepalive status; \
cat /proc/$$(systemctl show -P MainPID ssh)/attr/current; echo; \
xargs matchpathcon -V </srv/written; ls -Z /run/ssh-keepalive.json'
ExecStopPost=systemctl --no-block poweroff
"""


def events(log: str) -> dict[int, str]:
    """Return the events of an audit log by their numbers, with the command lines readable."""
    found: dict[int, str] = {}
    for line in log.splitlines():
        number = re.match(r"type=(?!DAEMON_)\w+ msg=audit\([\d.]+:(\d+)\)", line)
        if number:
            line = re.sub(r"(?<=proctitle=)[0-9A-F]+", lambda shown: str(bytes.fromhex(shown[0])), line)
            found[int(number[1])] = f"{found.get(int(number[1]), '')}{line}\n"
    return found


@pytest.mark.slow
def test_a_first_boot_under_selinux(machines: Callable[..., Machine], tmp_path: Path) -> None:
    packages = ("linux-image-cloud-amd64", "e2fsprogs", "selinux-policy-default", "auditd")
    machine = machines(SUITE, USER_DATA, packages=packages)
    root = machine.root
    without_keys(root)
    before = tree(root, OURS)
    bake(machine)
    written = sorted(path for path in tree(root, OURS) if path not in before)
    written += [SCHEMA, DROP_IN[1:], "run/sshd"]
    # cloud-init is upgraded: the boot registers the module anew.
    (root / SCHEMA).write_bytes((root / ORIGINAL).read_bytes())
    with (root / "etc/cloud/cloud.cfg").open("a") as stream:
        stream.write("# upgraded\n")
    listed = (root / LIST).read_text()
    (root / "srv/written").write_text("".join(f"/{path}\n" for path in written))
    (root / "etc/systemd/system/tell.service").write_text(TELL)

    disk = disk_of(root, tmp_path / "disk")
    with mounted(disk, tmp_path / "mounted", "rw") as folder:
        unhurried(folder)
        chroot(folder, CONFIGURE)
    kernel = "security=selinux audit=1 audit_backlog_limit=65536"
    console = boot(root, disk, "-nic", "none", kernel=kernel)

    told = read(disk, "/told")
    assert told.startswith("Enforcing\nstatus: done\nenforced: "), console[-4000:]
    assert "\nregistered: cloud-init runs the module\n" in told
    assert ":sshd_t:" in told
    assert read(disk, "/domain").startswith("system_u:system_r:initrc_t:")
    assert read(disk, f"/{LIST}") != listed
    assert "ssh_keepalive" in read(disk, f"/{SCHEMA}")
    verified = re.findall(r"^/(\S+) verified\.$", told, re.MULTILINE)
    assert verified == written, told
    # The policy has no context for this file, which is its writer's then.
    assert ":initrc_runtime_t:s0 /run/ssh-keepalive.json" in told

    log = read(disk, "/var/log/audit/audit.log")
    found = events(log)
    assert "type=MAC_POLICY_LOAD " in log
    assert sorted(found) == list(range(min(found), max(found) + 1)), "events were lost"
    denied = [event for event in found.values() if "denied" in event]
    assert denied  # Debian's cloud-init has its share
    ours = rf"keepalive|scontext=\w+:\w+:({'|'.join(DOMAINS)}):"
    assert [event for event in denied if re.search(ours, event)] == []
