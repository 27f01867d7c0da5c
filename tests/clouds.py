"""A cloud around a machine: a network with DHCP and a metadata service, as EC2, OpenStack and Azure have them."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Union

from machine import Machine

MISSING = [program for program in ("dnsmasq", "ip") if shutil.which(program) is None]
MAC = "02:00:00:00:00:01"
FAKES = Path(__file__).resolve().parent / "fakes"
METADATA, WIRE_SERVER = "169.254.169.254", "168.63.129.16"  # the second is Azure's, for reports
ROUTES = [f"{network},192.0.2.1" for network in ("0.0.0.0/0", f"{METADATA}/32", f"{WIRE_SERVER}/32")]
DHCP = (
    *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--pid-file=", "--port=0"),
    *("--bind-dynamic", "--interface=cable", "--dhcp-range=192.0.2.10,192.0.2.99", "--dhcp-authoritative", "--no-ping"),
    *(f"--dhcp-option=option:classless-static-route,{','.join(ROUTES)}", f"--dhcp-option=245,{WIRE_SERVER}"),
)
FILES = {
    # The interface comes a moment after the machine's first process.
    "etc/systemd/system/cable.service": """\
[Unit]
DefaultDependencies=no
Before=network-pre.target cloud-init-local.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'until ip link set eth0 up; do sleep 0.1; done'
[Install]
WantedBy=sysinit.target
""",
    "etc/systemd/network/cable.network": "[Match]\nName=eth0\n[Network]\nDHCP=ipv4\n",
    "etc/cloud/cloud.cfg.d/91_cable.cfg": "network: {config: disabled}\n",
}
# Content, or what is in a folder
Tree = dict[str, Union[str, bytes, "Tree"]]


def write(folder: Path, tree: Tree) -> None:
    """Write files and folders in the place of what is there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, what in tree.items():
        if isinstance(what, dict):
            write(folder / name, what)
        else:
            (folder / name).write_bytes(what if isinstance(what, bytes) else what.encode())


def ec2(instance_id: str, user_data: bytes) -> Tree:
    """Return what EC2's service says."""
    interface = {"device-number": "0", "local-ipv4s": "192.0.2.10", "subnet-ipv4-cidr-block": "192.0.2.0/24"}
    data: Tree = {
        "instance-id": instance_id,
        "local-hostname": "machine",
        "placement": {"availability-zone": "nowhere-1a"},
        "network": {"interfaces": {"macs": {MAC: interface}}},
    }
    identity: Tree = {"instance-identity": {"document": json.dumps({"instanceId": instance_id})}}
    latest: Tree = {"user-data": user_data, "meta-data": data, "dynamic": identity}
    return {"latest": latest, "2009-04-04": latest}


def openstack(instance_id: str, user_data: bytes, vendor_data: str) -> Tree:
    """Return what OpenStack's service says, and a config drive holds."""
    latest: Tree = {
        "meta_data.json": json.dumps({"uuid": instance_id, "hostname": "machine"}),
        "user_data": user_data,
        "vendor_data.json": json.dumps({"cloud-init": vendor_data}),
    }
    # Nova answers as EC2 does, too.
    return {"openstack": {"latest": latest}, "latest": {"meta-data": {"instance-id": instance_id}}}


def azure(user_data: bytes) -> Tree:
    """Return what Azure's metadata service (IMDS) and its wire server say."""
    address = {"ipAddress": [{"privateIpAddress": "192.0.2.10"}], "subnet": [{"address": "192.0.2.0", "prefix": "24"}]}
    data = {
        "compute": {"osProfile": {"computerName": "machine"}, "userData": base64.b64encode(user_data).decode()},
        "network": {"interface": [{"macAddress": MAC.replace(":", ""), "ipv4": address}]},
    }
    return {"metadata": {"instance": json.dumps(data)}, "machine": GOAL_STATE}


GOAL_STATE = """\
<GoalState>
  <Incarnation>1</Incarnation>
  <Container>
    <ContainerId>container</ContainerId>
    <RoleInstanceList><RoleInstance><InstanceId>machine</InstanceId></RoleInstance></RoleInstanceList>
  </Container>
</GoalState>
"""


def ovf(custom_data: bytes) -> Tree:
    """Return what is on the disc that Azure gives a new machine."""
    return {"ovf-env.xml": OVF.format(base64.b64encode(custom_data).decode())}


OVF = """\
<Environment xmlns="http://schemas.dmtf.org/ovf/environment/1" xmlns:wa="http://schemas.microsoft.com/windowsazure">
  <wa:ProvisioningSection>
    <wa:LinuxProvisioningConfigurationSet>
      <wa:HostName>machine</wa:HostName>
      <wa:UserName>debian</wa:UserName>
      <wa:CustomData>{}</wa:CustomData>
    </wa:LinuxProvisioningConfigurationSet>
  </wa:ProvisioningSection>
  <wa:PlatformSettingsSection><wa:PlatformSettings/></wa:PlatformSettingsSection>
</Environment>
"""


def virtual(scratch: Path, dmi: Tree) -> Iterator[str]:
    """Yield nspawn's options by which cloud-init takes a machine for a virtual one, with DMI by dmidecode's names."""
    write(scratch / "dmi", dmi)
    write(scratch / "cable", {"virtual.conf": VIRTUAL})
    yield f"--bind-ro={scratch}/dmi:/etc/dmi"
    yield f"--bind-ro={scratch}/cable:/etc/systemd/system/cable.service.d"
    for program in ("sbin/dmidecode", "bin/systemd-detect-virt", "bin/dmesg", "bin/eject"):
        yield f"--bind-ro={FAKES}/virtual-machine:/usr/{program}"


VIRTUAL = """\
[Unit]
Before=cloud-init-main.service
[Service]
ExecStartPre=mount --bind /dev/null /proc/1/environ
ExecStartPre=sh -c 'test ! -e /sys/class/dmi/id || mount -t tmpfs nothing /sys/class/dmi'
"""


class Cloud:
    """A network namespace in which DHCP and the metadata service are served, on a cable to one machine at a time."""

    def __init__(self, scratch: Path, *options: str) -> None:
        """Open a cloud whose service has options, until close; it keeps its files in an empty folder."""
        self.name = f"cloud-{uuid.uuid4().hex[:8]}"
        self.folder = scratch / "served"
        self.folder.mkdir()
        self._answers = scratch / "answers"
        self.inside = ("ip", "netns", "exec", self.name)
        self._held = contextlib.ExitStack()
        with self._held:
            _ip("netns", "add", self.name)
            self._held.callback(_ip, "netns", "delete", self.name)
            _ip("-n", self.name, "link", "set", "lo", "up")
            for address in (METADATA, WIRE_SERVER):
                _ip("-n", self.name, "addr", "add", f"{address}/32", "dev", "lo")
            self._start(*DHCP, f"--dhcp-leasefile={scratch}/leases")
            self._start(str(FAKES / "metadata-service"), *options, str(self.folder))
            self._held = self._held.pop_all()

    def close(self) -> None:
        self._held.close()

    @property
    def answers(self) -> list[str]:
        """What was asked of the service, and how it answered."""
        return self._answers.read_text().splitlines()

    def boot(self, machine: Machine, *options: str) -> None:
        """Switch a machine on that has one interface, to this network."""
        for name, text in FILES.items():
            (machine.root / name).write_text(text)
        units = ("cable.service", "systemd-networkd.service")
        subprocess.run(("systemctl", "--quiet", f"--root={machine.root}", "enable", *units), check=True)
        machine.boot(*options)
        subprocess.run(("ip", "-n", self.name, "link", "delete", "cable"), stderr=subprocess.DEVNULL)
        peer = ("peer", "name", "eth0", "address", MAC, "netns", str(machine.pid))
        _ip("-n", self.name, "link", "add", "cable", "type", "veth", *peer)
        _ip("-n", self.name, "addr", "add", "192.0.2.1/24", "dev", "cable")
        _ip("-n", self.name, "link", "set", "cable", "up")

    def _start(self, *argv: str) -> None:
        with self._answers.open("ab") as output:
            process = subprocess.Popen((*self.inside, *argv), stdin=subprocess.DEVNULL, stdout=output)
        self._held.callback(process.wait)
        self._held.callback(process.terminate)


def _ip(*words: str) -> None:
    subprocess.run(("ip", *words), check=True)
