"""Instances of clouds: the policy comes over the wire, in each form that a cloud takes."""

from __future__ import annotations

import base64
import contextlib
import os
import subprocess
import textwrap
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from baking import bake, effective
from boots import interval
from built import RECIPES, run
from clouds import MAC, MISSING, Cloud, Tree, azure, ec2, openstack, ovf, virtual, write
from machine import Machine
from releases import RELEASES
from user_data_files import BASE64, config, encoded, mime, zipped
from virtual_machines import boot, disk_of, read, unhurried

ONE = "trixie"  # the release whose machines boot where there is little time
EACH = [pytest.param(suite, marks=() if suite == ONE else pytest.mark.slow) for suite in RELEASES]

FORMS: dict[str, Callable[[str], bytes]] = {
    "cloud-config": str.encode,
    "gzip": zipped,
    "mime": lambda text: mime(config(text)),
    "gzip-of-mime": lambda text: zipped(mime(config(text))),
    "mime-with-base64": lambda text: mime(config(encoded(text), more=BASE64)),
    "archive": lambda text: f"#cloud-config-archive\n- content: |\n{textwrap.indent(text, '    ')}".encode(),
    "jinja": lambda text: b"## template: jinja\n" + text.replace("{", "{% if v1 %}{").encode() + b"{% endif %}\n",
    "include": lambda _: b"#include\nhttp://169.254.169.254/part\n",
    "base64": lambda text: base64.b64encode(text.encode()),
}


def policy(seconds: int) -> str:
    """Return user-data by whose interval a test knows it again."""
    return f"#cloud-config\nssh_keepalive: {{client_alive_interval: {seconds}}}\n"


class Instances:
    """A machine that boots as one new instance of a cloud after the other."""

    def __init__(self, machine: Machine, cloud: Cloud) -> None:
        self.machine = machine
        self.cloud = cloud

    def boot(self, datasource: str, served: Tree, *options: str) -> None:
        """Boot one that cloud-init is to look for in one datasource (YAML); options are nspawn's."""
        if self.machine.running:
            self.machine.poweroff()
        (self.machine.root / "var/log/cloud-init.log").unlink(missing_ok=True)
        (self.machine.root / "etc/cloud/cloud.cfg.d/92_datasource.cfg").write_text(datasource)
        write(self.cloud.folder, served)
        self.cloud.boot(self.machine, *options)
        self.machine.wait()


@pytest.fixture(scope="module", params=EACH)
def instances(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instances]:
    if MISSING:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"clouds need {', '.join(MISSING)} (make host)")
    with Machine(request.param, None) as machine:
        bake(machine)
        with contextlib.closing(Cloud(tmp_path_factory.mktemp("cloud"))) as cloud:
            yield Instances(machine, cloud)


# In a container cloud-init reads no DMI, which tells of EC2: it asks without a token, and once the network is up.
EC2 = "datasource_list: [Ec2]\ndatasource: {Ec2: {strict_id: false}}\n"


@pytest.mark.parametrize(
    "form", [pytest.param(form, marks=() if form == "gzip-of-mime" else pytest.mark.slow) for form in FORMS]
)
def test_ec2(form: str, instances: Instances) -> None:
    machine = instances.machine
    seconds = 40 + list(FORMS).index(form)
    text = policy(seconds)
    instances.boot(EC2, {**ec2(f"i-{uuid.uuid4().hex[:8]}", FORMS[form](text)), "part": text})
    if form == "base64" and float(machine.release.cloud_init) < 25:  # later ones take it off
        tells_of_base64(machine)
    else:
        enforces(machine, seconds)


def enforces(machine: Machine, seconds: int) -> None:
    assert interval(machine) == str(seconds)
    assert machine.run("ssh-keepalive", "status").stdout.startswith("enforced: ")


def tells_of_base64(machine: Machine) -> None:
    told = machine.run("ssh-keepalive", "status", check=False)
    assert told.returncode == 1
    assert "base64" in told.stdout


VENDORS = (
    "#cloud-config\nssh_keepalive: {client_alive_interval: 70, client_alive_count_max: 2, tcp_keep_alive: false}\n"
)


def keeps_what_the_vendor_says(machine: Machine, seconds: int) -> None:
    """Assert that user-data has overridden the vendor's interval and nothing else."""
    assert machine.run("cloud-init", "status").stdout == "status: done\n"
    values = effective(machine)
    assert (values["clientaliveinterval"], values["clientalivecountmax"]) == (str(seconds), "2")
    assert values["tcpkeepalive"] in ("no", "false")  # 10.6 has the other word
    assert "\nasked by: user-data, vendor-data\n" in machine.run("ssh-keepalive", "status").stdout


@pytest.mark.parametrize("form", ["mime", pytest.param("gzip", marks=pytest.mark.slow)])
def test_openstack(form: str, instances: Instances) -> None:
    seconds = 60 + list(FORMS).index(form)
    served = openstack(f"i-{uuid.uuid4()}", FORMS[form](policy(seconds)), VENDORS)
    # A container is told so by its first process, a virtual machine by its DMI.
    instances.boot("datasource_list: [OpenStack]\n", served, "--setenv=product_name=OpenStack Nova")
    keeps_what_the_vendor_says(instances.machine, seconds)


@contextlib.contextmanager
def attached(files: Tree, label: str, scratch: Path) -> Iterator[str]:
    """Yield the block device of a file system."""
    write(scratch / "disc", files)
    image = scratch / "image"
    # Clouds make it iso9660, vfat or udf, which not every kernel has; cloud-init looks at its label or its name.
    make = ("mke2fs", "-q", "-t", "ext4", "-L", label, "-d", scratch / "disc", image, "1M")
    subprocess.run(make, check=True)
    losetup = ("losetup", "--find", "--show", "--read-only", image)
    device = subprocess.run(losetup, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    try:
        yield device
    finally:
        subprocess.run(("losetup", "--detach", device), check=True)


def test_config_drive(instances: Instances, tmp_path: Path) -> None:
    drive = openstack(f"i-{uuid.uuid4()}", zipped(policy(59)), VENDORS)
    with attached(drive, "config-2", tmp_path) as device:
        instances.boot("datasource_list: [ConfigDrive]\n", {}, f"--bind={device}")
        keeps_what_the_vendor_says(instances.machine, 59)
        instances.machine.poweroff()


AZURE_TAG = "7783-7084-3265-9085-8269-3286-77"
# Outside containers cloud-init looks for the disk below /.
AZURE = "datasource_list: [Azure]\nresize_rootfs: false\n"
AZURE_DATA = [("gzip", "disc"), ("cloud-config", "disc"), ("mime", "disc"), ("base64", "disc")]
AZURE_DATA += [("cloud-config", "imds"), ("gzip-of-mime", "imds")]


# 20.4 waits two minutes for a temporary disk, /dev/disk/cloud/azure_resource.
@pytest.mark.parametrize("instances", EACH[1:], indirect=True)
@pytest.mark.parametrize(
    ("form", "place"), [pytest.param(*row, marks=pytest.mark.slow if row[0] != "gzip" else ()) for row in AZURE_DATA]
)
def test_azure(form: str, place: str, instances: Instances, tmp_path: Path) -> None:
    """Boot one whose user-data is on the disc with the OVF file (custom data), or in the metadata (user data)."""
    machine = instances.machine
    seconds = 80 + list(FORMS).index(form)
    data = {place: FORMS[form](policy(seconds))}
    dmi: Tree = {"system-uuid": str(uuid.uuid4()), "chassis-asset-tag": AZURE_TAG}
    before = len(instances.cloud.answers)
    with attached(ovf(data.get("disc", b"")), "azure", tmp_path) as device:
        served = azure(data.get("imds", b""))
        instances.boot(AZURE, served, f"--bind={device}:/dev/sr0", *virtual(tmp_path, dmi))
        assert "DataSourceAzure [seed=/dev/sr0]\n" in machine.run("cloud-init", "status", "--long", check=False).stdout
        assert instances.cloud.answers[before:] == [
            "200 GET /metadata/instance?api-version=2021-08-01&extended=true",
            "200 GET /machine/?comp=goalstate",
            "200 POST /machine?comp=health",
        ]
        if form == "base64":  # once more than Azure does it
            tells_of_base64(machine)
        else:
            enforces(machine, seconds)
        machine.poweroff()


EC2_UUID = "ec2e1916-9099-7caf-fd21-012345abcdef"
TELL = """\
#cloud-config
ssh_keepalive: {unresponsive_timeout: 3m}
runcmd:
- [systemd-run, --no-block, sh, -c, "exec >/told; cloud-init status --wait --long; ssh-keepalive status; poweroff"]
"""


@pytest.mark.slow
def test_a_virtual_machine_of_ec2(tmp_path: Path) -> None:
    """Boot what knows by its DMI that it is on EC2: cloud-init brings a token to each question then (IMDSv2)."""
    root, disk = tmp_path / "root", tmp_path / "disk"
    run(RECIPES / "mmdebstrap.sh", ONE, root)
    unhurried(root)
    disk_of(root, disk)
    with contextlib.closing(Cloud(tmp_path, "--token")) as cloud:
        write(cloud.folder, ec2("i-1", zipped(mime(config(TELL)))))
        # qemu's own network passes on what is for 169.254.169.254.
        network = ("-nic", f"user,model=virtio,mac={MAC}")
        hardware = ("-smbios", f"type=1,uuid={EC2_UUID},serial={EC2_UUID}")
        console = boot(root, disk, *network, *hardware, inside=cloud.inside)
        answers = cloud.answers
    # What it has written stands on its disk.
    told = read(disk, "/told")
    assert "detail: DataSourceEc2Local\n" in told, console[-4000:]
    assert "\nstatus: done\n" in f"\n{told}"
    assert "\nenforced: " in told
    assert "\nasked by: user-data" in told
    assert answers[0] == "200 PUT /latest/api/token"
    assert "200 GET /2009-04-04/user-data" in answers
    assert [answer for answer in answers if answer.startswith("401")] == []
