"""The .rpm by rpm, dnf and zypper: installed, carried through upgrades, and taken away again.

The root is Debian's, with the folders that EL has. The packages of cloud-init in it have Debian's files, and those of
OpenSSH none: this shows what our package's scripts do in each one's transactions, nothing of EL's Python, rpm and sshd.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from baking import DROP_IN
from bases import base
from boots import interval
from images import LIST, ORIGINAL, SCHEMA
from machine import Machine
from roots import chroot, knows_the_key, modules, restored, tree

NAME = "cloud-init-ssh-keepalive"
# Where cloud-init is on EL, in the folder of one version of Python, and where a later one is.
OLD, NEW = "/usr/lib/python3.11/site-packages", "/usr/lib/python3.13/site-packages"

EL_CLOUD_INIT = """\
Name: cloud-init
Version: {version}
Release: 1
Summary: Stands for EL's
License: none
BuildArch: noarch
Provides: /bin/sh
AutoReq: no
%description
%{{summary}}.
%install
mkdir -p %{{buildroot}}{folder} %{{buildroot}}/usr/bin %{{buildroot}}/etc/cloud
cp -r {root}/usr/lib/python3/dist-packages/cloudinit %{{buildroot}}{folder}
rm -rf $(find %{{buildroot}} -name __pycache__)
sed '1s|.*|{first_line}|' {root}/usr/bin/cloud-init >%{{buildroot}}/usr/bin/cloud-init
chmod 755 %{{buildroot}}/usr/bin/cloud-init
cp {root}/etc/cloud/cloud.cfg %{{buildroot}}/etc/cloud
%files
{folder}/cloudinit
/usr/bin/cloud-init
%config(noreplace) /etc/cloud/cloud.cfg
"""

# Version, folder, the release that it stands for, and its first line: as EL has it, and as upstream's own build does
CLOUD_INITS = (
    ("22.4", OLD, "bookworm", "#! /usr/bin/python3 -s"),
    ("25.1", OLD, "trixie", "#!/usr/bin/env python3"),
    ("26.2", NEW, "forky", "#!/usr/bin/python3"),
)

EL_OTHER = """\
Name: other
Version: 1
Release: 1
Summary: Brings a list of modules
License: none
BuildArch: noarch
%description
%{summary}.
%install
mkdir -p %{buildroot}/etc/cloud/cloud.cfg.d
echo 'cloud_init_modules: [other, ssh]' >%{buildroot}/etc/cloud/cloud.cfg.d/50_other.cfg
%files
/etc/cloud/cloud.cfg.d/50_other.cfg
"""

EL_OPENSSH = """\
Name: openssh-server
Version: {version}
Release: 1
Summary: Stands for EL's
License: none
BuildArch: noarch
%description
%{{summary}}.
%files
"""


def build_rpm(folder: Path, spec: str) -> None:
    """Build an rpm of a spec without sources, into a folder."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "package.spec")
        file.write_text(spec)
        macros = {
            "_topdir": scratch,
            "_dbpath": f"{scratch}/db",
            "_rpmdir": folder,
            "_rpmfilename": "%{NAME}-%{VERSION}.rpm",
        }
        defined = [word for name, value in macros.items() for word in ("--define", f"{name} {value}")]
        subprocess.run(("rpmbuild", "-bb", "--quiet", *defined, "--define", "__os_install_post %nil", file), check=True)


@pytest.fixture(scope="module")
def repository(rpm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all packages and with what dnf and zypper read of them."""
    folder = tmp_path_factory.mktemp("repository")
    for version, python, suite, first_line in CLOUD_INITS:
        spec = EL_CLOUD_INIT.format(version=version, folder=python, root=base(suite), first_line=first_line)
        build_rpm(folder, spec)
    for version in ("9.1", "9.2"):
        build_rpm(folder, EL_OPENSSH.format(version=version))
    build_rpm(folder, EL_OTHER)
    shutil.copy(rpm, folder / f"{NAME}.rpm")
    subprocess.run(("createrepo_c", "--quiet", folder), check=True)
    return folder


@pytest.fixture
def machine(machines: Callable[..., Machine]) -> Machine:
    """A machine with a root as EL's."""
    machine = machines("bookworm", "#cloud-config\nssh_keepalive: {unresponsive_timeout: 3m}\n")
    chroot(
        machine.root,
        "rm -r /usr/lib/python3/dist-packages/cloudinit /usr/bin/cloud-init /etc/cloud/cloud.cfg; "
        f"mkdir -p {OLD} {NEW} /usr/share/licenses /usr/share/man/man8; "
        f"printf '%s\\n' {OLD} {NEW} >/usr/lib/python3/dist-packages/el.pth",
    )
    return machine


def assert_like(root: Path, suite: str, python: str) -> None:
    """Assert that the module is beside the cloud-init of a release, in its list and in its schema."""
    schema = python[1:] + SCHEMA[len("usr/lib/python3/dist-packages") :]
    assert knows_the_key(root, schema)
    original = schema + ORIGINAL[len(SCHEMA) :]
    assert (root / original).read_bytes() == (base(suite) / SCHEMA).read_bytes()
    listed = [entry for entry in modules(root, LIST) if entry != ["ssh_keepalive"]]
    assert listed == modules(base(suite), "etc/cloud/cloud.cfg")
    found = chroot(root, "python3 -Bc 'import cc_ssh_keepalive as module; print(module.__file__)'; ssh-keepalive -h")
    assert found.startswith(f"{python}/cc_ssh_keepalive.py\nusage: ssh-keepalive ")


def run(*argv: str | Path, **environment: str) -> str:
    """Run a package manager; return what it and the packages' scripts print."""
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run(argv, env={**os.environ, **environment}, text=True, **options)
    assert done.returncode == 0, done.stdout
    return done.stdout


def run_rpm(root: Path, *argv: str | Path) -> str:
    return run("rpm", "--root", root, "--dbpath", "/var/lib/rpm", "--force-debian", *argv)


def test_the_rpm_follows_cloud_init_and_openssh(machine: Machine, repository: Path) -> None:
    root = machine.root
    rpm, other = repository / f"{NAME}.rpm", repository / "other-1.rpm"
    first, second, moved = (repository / f"cloud-init-{version}.rpm" for version in ("22.4", "25.1", "26.2"))
    openssh = [repository / f"openssh-server-{version}.rpm" for version in ("9.1", "9.2")]
    run_rpm(root, "-i", first, openssh[0])
    before = tree(root)

    assert run_rpm(root, "-i", rpm) == ""
    assert_like(root, "bookworm", OLD)
    assert run_rpm(root, "-V", NAME) == ""
    assert run_rpm(root, "-e", NAME) == ""
    restored(root, before)

    # Both at once, and then once more over what an older version would have left beside cloud-init.
    assert run_rpm(root, "-e", "cloud-init") == ""
    assert run_rpm(root, "-i", rpm, first) == ""
    installed = tree(root, (OLD[1:],))

    def changed() -> list[str]:
        # Of a module that was written anew the time has changed, which stands in what is compiled of it.
        now = tree(root, (OLD[1:],))
        names = [name for name in {**installed, **now} if not name.endswith("/cli.cpython-311.pyc")]
        return [name for name in names if installed.get(name) != now.get(name)]

    stale = root / OLD[1:] / "ssh_keepalive"
    (stale / "sshd.py").write_text("")
    (stale / "image.py").write_text("")
    (stale / "cli.py").write_text("")
    assert len(changed()) == 3
    assert run_rpm(root, "-U", "--force", rpm) == ""
    assert changed() == []
    assert_like(root, "bookworm", OLD)

    assert run_rpm(root, "-U", second) == ""
    assert_like(root, "trixie", OLD)

    assert run_rpm(root, "-i", other) == ""
    assert modules(root, LIST) == ["other", "ssh", ["ssh_keepalive"]]
    assert run_rpm(root, "-e", "other") == ""
    assert_like(root, "trixie", OLD)

    (root / DROP_IN[1:]).write_text('# policy: {"unresponsive_timeout": 180}\nClientAliveInterval 5\n')
    assert "written for OpenSSH 9.2:\n" in run_rpm(root, "-U", openssh[1])
    (root / DROP_IN[1:]).write_text("ClientAliveInterval 5\n")
    assert "run ssh-keepalive reapply\n" in run_rpm(root, "-U", "--force", openssh[1])

    assert run_rpm(root, "-U", moved) == ""
    assert_like(root, "forky", NEW)
    assert os.listdir(root / OLD[1:]) == []

    assert run_rpm(root, "-U", "--oldpackage", first) == ""
    assert run_rpm(root, "-e", NAME) == ""
    run_rpm(root, "-U", "--oldpackage", openssh[0])
    restored(root, before)


def test_the_remedy_of_an_install_that_failed_works_as_it_stands(machine: Machine, repository: Path) -> None:
    root = machine.root
    run_rpm(root, "-i", repository / "cloud-init-22.4.rpm")
    before = tree(root)
    late = root / "etc/cloud/cloud.cfg.d/99_zzz.cfg"
    late.write_text("cloud_init_modules: ssh\n")
    said = run_rpm(root, "-i", repository / f"{NAME}.rpm")
    assert "ssh-keepalive: /etc/cloud/cloud.cfg.d/99_zzz.cfg: no list of cloud_init_modules\n" in said
    warning = f"^{NAME}: cloud-init does not run the module: correct that, then run (.*)$"
    # Said by %posttrans, and by the trigger for cloud.cfg.d.
    (remedy,) = set(re.findall(warning, said, re.MULTILINE))
    late.unlink()
    assert chroot(root, remedy) == ""
    assert_like(root, "bookworm", OLD)
    assert run_rpm(root, "-e", NAME) == ""
    restored(root, before)


# What the managers are called with, and the words of theirs that are not their verbs' own.
MANAGERS = {
    "dnf": "dnf --assumeyes --setopt=reposdir=/dev/null --setopt=cachedir={home} --noplugins "
    "--nogpgcheck --releasever=9 --repofrompath=packages,{repository} --installroot={root}",
    "zypper": "zypper --non-interactive --no-gpg-checks --plus-repo=dir:{repository} --root={root}",
}
WORDS = {"zypper": {"reinstall": "install --force", "downgrade": "install --oldpackage", "upgrade": "update"}}


@pytest.mark.parametrize("manager", MANAGERS)
def test_a_package_manager_carries_the_rpm_along(
    manager: str, machine: Machine, repository: Path, tmp_path: Path
) -> None:
    root, ours = machine.root, str(repository / f"{NAME}.rpm")
    # Debian's rpm has its packages in the home folder.
    (tmp_path / ".rpmmacros").write_text("%_dbpath /var/lib/rpm\n")
    options = MANAGERS[manager].format(home=tmp_path, repository=repository, root=root)

    def manage(verb: str, *names: str) -> str:
        words = WORDS.get(manager, {}).get(verb, verb)
        packages = [name.replace("=", "-") if manager == "dnf" else name for name in names]
        said = run(*options.split(), *words.split(), *packages, HOME=str(tmp_path))
        assert "ssh-keepalive: " not in said
        return said

    manage("install", "cloud-init=22.4", "openssh-server=9.1")
    before = tree(root)
    manage("install", ours)
    assert_like(root, "bookworm", OLD)
    manage("install", "cloud-init=25.1")
    assert_like(root, "trixie", OLD)
    manage("install", "other")
    assert modules(root, LIST) == ["other", "ssh", ["ssh_keepalive"]]
    manage("remove", "other")
    assert_like(root, "trixie", OLD)
    (root / DROP_IN[1:]).write_text('# policy: {"unresponsive_timeout": 180}\nClientAliveInterval 5\n')
    said = manage("upgrade")
    assert "written for OpenSSH 9.2:\n" in said
    assert_like(root, "forky", NEW)
    for package in (NAME, "cloud-init"):
        manage("reinstall", package)
        assert_like(root, "forky", NEW)
    manage("downgrade", "cloud-init=22.4")
    assert_like(root, "bookworm", OLD)
    manage("remove", NAME)
    restored(root, before)

    # Both at once, in either direction
    manage("remove", "cloud-init")
    manage("install", ours, "cloud-init=22.4")
    assert_like(root, "bookworm", OLD)
    machine.boot()
    machine.wait()
    assert interval(machine) == "3"
    machine.poweroff()
    manage("remove", "cloud-init")
    assert [path for path in tree(root, ("usr", "etc")) if "ssh-keepalive" in path or "ssh_keepalive" in path] == []
