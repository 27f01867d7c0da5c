"""The images of each builder's recipe, made by its real tool and booted as new instances."""

from __future__ import annotations

import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from baking import DEFAULT, DROP_IN
from bases import base
from boots import READ_ONLY_USR
from built import RECIPES, SUITE, TOP, boots_as_a_new_instance, is_baked, is_of_no_machine, run, without_keys
from machine import Machine
from virtual_machines import disk_of, mounted, turn, unhurried

pytestmark = pytest.mark.slow

LEFT_OUT = shutil.ignore_patterns(".git", ".venv", ".*cache*", "build", "dist", "*.egg-info", "__pycache__")


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Path]:
    """A folder for what a builder writes, which may be much, and is not kept."""
    yield tmp_path
    # A builder that was stopped may have left mounts there.
    run("rm", "-rf", "--one-file-system", tmp_path)


@pytest.fixture
def system(machines: Callable[..., Machine]) -> Path:
    """The root of a system for virtual machines, which has no module yet."""
    root = machines(SUITE, None, packages=("linux-image-cloud-amd64", "e2fsprogs", "sudo")).root
    without_keys(root)
    run("systemctl", f"--root={root}", "enable", "systemd-networkd")
    return root


def replaced(text: str, *changes: tuple[str, str]) -> str:
    """Replace passages (regular expressions) that are each in a text once."""
    for old, new in changes:
        text, count = re.subn(old, lambda _, new=new: new, text, flags=re.DOTALL)
        assert count == 1, old
    return text


def test_the_containerfile_makes_a_system_with_a_read_only_usr(work: Path) -> None:
    storage = f'[storage]\ndriver = "vfs"\ngraphroot = "{work}/storage"\nrunroot = "{work}/run"\n'
    (work / "storage.conf").write_text(storage)
    environment = {"CONTAINERS_STORAGE_CONF": str(work / "storage.conf"), "BUILDAH_ISOLATION": "chroot"}

    def buildah(*argv: str | Path) -> str:
        return run("buildah", *argv, **environment).strip()

    # Both stages begin with a Debian that brings along what pip would download.
    container = buildah("from", "scratch")
    root = Path(buildah("mount", container))
    run("cp", "-a", f"{base(SUITE, packages=('python3-pip', 'python3-setuptools'))}/.", root)
    without_keys(root)
    buildah("config", "--env", "PIP_NO_BUILD_ISOLATION=0", container)
    buildah("commit", "--rm", container, "localhost/debian")

    shutil.copytree(TOP, work / "src", ignore=LEFT_OUT)
    debian = [f"--build-arg={name}=localhost/debian" for name in ("BUILD", "SYSTEM")]
    recipe = work / "src/examples/images/Containerfile"
    buildah("build", "--file", recipe, "--tag", "my-system", *debian, work / "src")

    root = Path(buildah("mount", buildah("from", "localhost/my-system")))
    boots_as_a_new_instance(root, READ_ONLY_USR)


def test_diskimage_builder_makes_an_image(work: Path, deb: Path) -> None:
    environment = {
        "ELEMENTS_PATH": str(RECIPES / "elements"),
        "DIB_RELEASE": SUITE,
        "DIB_SSH_KEEPALIVE_PACKAGE": str(deb),
        "DIB_SSH_KEEPALIVE_DEFAULT": str(RECIPES / "95_ssh_keepalive.cfg"),
        # On the mirror of all other tests
        "DIB_DEBIAN_SECURITY_MIRROR": "http://deb.debian.org/debian-security",
        "DIB_IMAGE_CACHE": str(work / "cache"),
        "TMPDIR": str(work),
    }
    image = work / "image"
    # Without vm, for which the host would need a device mapper, there is no boot loader.
    options = ("-t", "tar", "-o", image, "-p", "iproute2")
    run("disk-image-create", *options, "debian-minimal", "ssh-keepalive", **environment)
    (work / "root").mkdir()
    run("tar", f"--directory={work / 'root'}", "--extract", f"--file={image}.tar")
    boots_as_a_new_instance(work / "root")


def test_virt_customize_changes_an_image(work: Path, system: Path, deb: Path) -> None:
    disk = disk_of(system, work / "disk")
    (kernel,) = (system / "boot").glob("vmlinuz-*")
    (modules,) = (system / "usr/lib/modules").iterdir()
    environment = {
        "LIBGUESTFS_BACKEND": "direct",
        "LIBGUESTFS_BACKEND_SETTINGS": "force_tcg",
        "LIBGUESTFS_CACHEDIR": str(work),
        # The host's kernel may have no files.
        "SUPERMIN_KERNEL": str(kernel),
        "SUPERMIN_MODULES": str(modules),
    }
    Path("/lib/modules").mkdir(exist_ok=True)
    with turn():
        run(RECIPES / "virt-customize.sh", disk, deb, **environment)
    with mounted(disk, work / "root") as root:
        boots_as_a_new_instance(root)


# Debian's Packer is too old for two blocks of the recipe; the system is one of ours, without partitions.
OLD_PACKER = """\
  cd_files         = ["{work}/meta-data", "{work}/user-data"]
  format           = "raw"
  output_directory = "{work}/output"
  accelerator      = "tcg"
  qemuargs = [
    ["-cpu", "max"], ["-smp", "2"], ["-m", "1G"], ["-kernel", "{root}/vmlinuz"], ["-initrd", "{root}/initrd.img"],
    ["-append", "root=/dev/vda rw"],
  ]
"""


def test_packer_makes_an_image(work: Path, system: Path, deb: Path) -> None:
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", work / "key")
    recipe = (RECIPES / "packer.pkr.hcl").read_text()
    for name in ("meta-data", "user-data"):
        (text,) = re.findall(rf'"{name}" = "(.*)"\n', recipe)
        public = (work / "key.pub").read_text().strip()
        (work / name).write_text(text.replace("\\n", "\n").replace('${trimspace(file("${var.ssh_key}.pub"))}', public))
    changes = (
        ("packer {.*?\n}\n", ""),
        ('"https://[^"]*.qcow2"', f'"{disk_of(system, work / "disk")}"'),
        ('"file:https:[^"]*"', '"none"'),
        ("  cd_content = {.*?\n  }\n", OLD_PACKER.format(work=work, root=system)),
    )
    (work / "packer.pkr.hcl").write_text(replaced(recipe, *changes))
    shutil.copy(RECIPES / "95_ssh_keepalive.cfg", work)
    variables = ("-var", f"package={deb}", "-var", f"ssh_key={work}/key")
    with turn():
        run("packer", "build", *variables, work / "packer.pkr.hcl", PACKER_CACHE_DIR=str(work / "cache"))
    (image,) = (work / "output").iterdir()
    with mounted(image, work / "root") as root:
        boots_as_a_new_instance(root)


def test_kiwi_makes_a_root(work: Path, deb: Path) -> None:
    (work / "examples").symlink_to(RECIPES.parent)
    (work / "dist").mkdir()
    (work / "dist" / deb.name).symlink_to(deb)
    *lines, build = re.findall("^#     (.*)\n", (RECIPES / "kiwi/config.sh").read_text(), re.MULTILINE)
    # The packing alone would take minutes.
    prepare = replaced(build, ("system build", "system prepare"), ("--target-dir image", "--root root"))
    run("env", f"--chdir={work}", "sh", "-ec", "\n".join((*lines, prepare)), HOME=str(work))
    assert stat.S_IMODE((work / "root" / DEFAULT).stat().st_mode) == 0o644
    boots_as_a_new_instance(work / "root")


def test_mkosi_makes_an_image(work: Path) -> None:
    folder = work / "recipe"
    shutil.copytree(RECIPES, folder)
    (command,) = re.findall("mkosi --directory examples/images (.*?) *#", (folder / "mkosi.conf").read_text())
    # Its containers have the cgroups of those of the other tests.
    run("mkosi", "--directory", folder, *command.split(), SYSTEMD_NSPAWN_UNIFIED_HIERARCHY="1")
    boots_as_a_new_instance(folder / "image")


# Run in the virtual machine when it has booted: cloud-init counts a boot as running until all that it started is done.
FACTS = f"""\
#cloud-config
ssh_keepalive: {{tcp_keep_alive: false}}
write_files:
- path: /run/tell
  content: |
    # What others write there must not stand in our lines: systemd (see its SIGNALS), the kernel, the login prompt.
    kill -s RTMIN+21 1
    dmesg --console-off
    systemctl stop serial-getty@ttyS0
    exec >/dev/ttyS0 2>&1
    tell() {{ sed "s/^/\\nFACT $1 /"; }}
    cloud-init status --wait --long | tell status
    cloud-init status >/dev/null; echo $? | tell code
    cloud-init schema --system | tell schema
    uname -r | tell kernel
    systemd-detect-virt | tell virt
    sshd -T | grep -E '^(clientalive|tcpkeepalive)' | sort | tell sshd
    cat /etc/machine-id | tell machine-id
    ls /etc/ssh/ssh_host_*_key | tell host-keys
    runuser -l debian -c 'sudo ssh-keepalive status' | tell keepalive
    cat {DROP_IN} | tell drop-in
    stat -c %.9Z {DROP_IN} | tell landed
    journalctl -b -o short-unix --no-pager | sed -n 's/ .*Server listening on 0.0.0.0 port 22.*//p' | tell listening
    systemctl --failed --no-legend --plain | tell failed
    poweroff
runcmd: [systemd-run --no-block bash /run/tell]
"""


def test_mmdebstrap_and_qemu_make_a_virtual_machine(work: Path) -> None:
    run(RECIPES / "mmdebstrap.sh", SUITE, work / "root")
    assert is_baked(work / "root")
    is_of_no_machine(work / "root")
    unhurried(work / "root")
    (work / "user-data").write_text(FACTS)

    with turn():
        began = time.monotonic()
        console = run(RECIPES / "qemu.sh", work / "root", work / "user-data", "-accel", "tcg")
    print(f"\nthe virtual machine has run for {time.monotonic() - began:.0f} s")
    facts: dict[str, list[str]] = {}
    for name, fact in re.findall(r"^FACT (\S+) (.*?)\r*$", console, re.MULTILINE):
        facts.setdefault(name, []).append(fact)

    assert (facts["code"], facts["status"][0]) == (["0"], "status: done"), facts["status"]
    assert "detail: DataSourceNoCloud [seed=/dev/vdb]" in facts["status"]
    assert "Valid schema user-data" in "".join(facts["schema"])
    assert facts["kernel"][0].endswith("-cloud-amd64")
    assert facts["virt"] == ["qemu"]
    # The image's default, and what user-data adds to it
    assert facts["sshd"] == ["clientalivecountmax 59", "clientaliveinterval 5", "tcpkeepalive no"]
    assert re.fullmatch("[0-9a-f]{32}", facts["machine-id"][0])
    assert facts["host-keys"]
    assert facts["keepalive"][0].startswith("enforced: ")
    assert facts["drop-in"] == [
        "# Managed by cloud-init's cc_ssh_keepalive; change ssh_keepalive in user-data instead.",
        '# policy: {"tcp_keep_alive": false, "unresponsive_timeout": 300}',
        "ClientAliveInterval 5",
        "ClientAliveCountMax 59",
        "TCPKeepAlive no",
    ]
    assert len(facts["listening"]) == 1
    assert float(facts["landed"][0]) < float(facts["listening"][0])
    assert "failed" not in facts
