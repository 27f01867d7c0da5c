"""The packages: installed, carried through upgrades, and taken away again."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from baking import DROP_IN, effective
from bases import base
from images import LIST, ORIGINAL, SCHEMA
from machine import Machine
from roots import OURS, apt, chroot, fetch, knows_the_key, modules, restored, tree

NAME = "cloud-init-ssh-keepalive"
TOP = Path(__file__).resolve().parents[2]
USER_DATA = "#cloud-config\nssh_keepalive:\n  unresponsive_timeout: 3m\n"


def install(root: Path, deb: Path) -> str:
    """Install a .deb in a root that is not booted, and leave no copy of it there; return what dpkg prints."""
    shutil.copy(deb, root / "package.deb")
    said = chroot(root, "dpkg -i /package.deb")
    (root / "package.deb").unlink()
    return said


def keepalive(machine: Machine) -> tuple[str, str]:
    """Return interval and count as sshd reports them."""
    values = effective(machine)
    return values["clientaliveinterval"], values["clientalivecountmax"]


@pytest.mark.slow
def test_after_a_first_boot_that_asked_for_a_policy_status_names_the_one_command(
    suite: str, deb: Path, machines: Callable[..., Machine]
) -> None:
    machine = machines(suite, USER_DATA)
    machine.boot()
    machine.wait()
    shutil.copy(deb, machine.root / "package.deb")
    machine.run("dpkg", "-i", "/package.deb")
    told = machine.run("ssh-keepalive", "status", check=False)
    command = "cloud-init single --name ssh_keepalive --frequency always"
    assert (told.returncode, told.stdout.splitlines()[:2]) == (
        1,
        [
            f"not enforced: user-data asks for a policy, and there is no {DROP_IN}: "
            "cloud-init has not run the module on this instance",
            f"remedy: {command}",
        ],
    )
    machine.sh(command)
    assert machine.run("ssh-keepalive", "status").stdout.startswith("enforced: ")


@pytest.mark.slow
def test_the_packages_own_test_passes_where_it_is_installed(
    suite: str, deb: Path, machines: Callable[..., Machine]
) -> None:
    tests = TOP / "packaging/debian/tests"
    fields = dict(line.split(": ", 1) for line in (tests / "control").read_text().splitlines())
    machine = machines(suite)
    install(machine.root, deb)
    machine.boot()
    machine.wait()
    name = fields["Tests"]
    shutil.copy(tests / name, machine.root / "srv")
    answer = machine.run(f"/srv/{name}", env={"AUTOPKGTEST_TMP": "/srv"})
    # autopkgtest takes words on standard error for a failure.
    assert "allow-stderr" not in fields["Restrictions"]
    assert answer.stderr == ""
    assert "\nenforced: " in answer.stdout


VERIFY = "dpkg -V cloud-init | grep -v /usr/share/ || true"


def test_install_and_purge_leave_the_tree_as_it_was(
    oldest_or_newest: str, deb: Path, machines: Callable[..., Machine]
) -> None:
    root = machines(oldest_or_newest).root
    before, verified = tree(root), chroot(root, VERIFY)
    for _ in range(2):
        assert "ssh-keepalive:" not in install(root, deb)
        assert modules(root, LIST)[-2:] == ["ssh", ["ssh_keepalive"]]
        assert chroot(root, VERIFY) == verified
        if oldest_or_newest != "bullseye":  # cloud-init 20.4 has no schema
            assert knows_the_key(root)
            assert not knows_the_key(root, ORIGINAL)
    assert chroot(root, "ssh-keepalive --version; ls /usr/share/cloud-init-ssh-keepalive").splitlines()[1:] == [
        "check.schema.json",
        "ssh-keepalive.schema.json",
        "status.schema.json",
    ]
    chroot(root, f"dpkg --purge {NAME}")
    restored(root, before)


def test_an_older_version_leaves_no_module_behind(deb: Path, machines: Callable[..., Machine], tmp_path: Path) -> None:
    root = machines("trixie").root
    before = tree(root)
    install(root, deb)
    wanted = tree(root, ("usr", "etc"))
    chroot(root, f"dpkg --purge {NAME}")

    # Up to 0.1.0 all modules were in one folder, and what are now folders were modules.
    folder = tmp_path / "older"
    subprocess.run(("dpkg-deb", "--raw-extract", deb, folder), check=True)
    package = folder / "usr/lib/python3/dist-packages/ssh_keepalive"
    for room in ("image", "machine", "check"):
        shutil.rmtree(package / room)
    for module in ("dropin", "image", "sshd"):
        (package / f"{module}.py").write_text("")
    (package / "cli.py").write_text("def main():\n    print('0.0.9')\n")
    control = (folder / "DEBIAN/control").read_text()
    assert "\nVersion: 0.1.0\n" in control
    (folder / "DEBIAN/control").write_text(control.replace("\nVersion: 0.1.0\n", "\nVersion: 0.0.9\n"))
    (folder / "DEBIAN/md5sums").unlink()
    older = tmp_path / "older.deb"
    subprocess.run(("dpkg-deb", "--root-owner-group", "--build", folder, older), stdout=subprocess.PIPE, check=True)
    install(root, older)
    assert chroot(root, "ssh-keepalive") == "0.0.9\n"
    assert any("sshd.cpython" in path for path in tree(root))

    install(root, deb)
    assert tree(root, ("usr", "etc")) == wanted
    chroot(root, f"dpkg --purge {NAME}")
    restored(root, before)


@pytest.mark.slow
def test_piuparts_finds_nothing(deb: Path, machines: Callable[..., Machine]) -> None:
    if shutil.which("piuparts") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("needs piuparts (make host-peers)")
    # It works on a copy, which it installs the package in, purges it from, and searches for what is left.
    where = ("--distribution", "trixie", "--mirror", "http://deb.debian.org/debian", "--existing-chroot")
    checked = subprocess.run(
        ("piuparts", "--no-eatmydata", "--no-upgrade-test", *where, machines("trixie").root, deb),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert checked.returncode == 0, checked.stdout[-8000:]
    assert checked.stdout.count("INFO: PASS: ") == 2


def knows_the_unit(machine: Machine) -> bool:
    """Tell whether systemd would start the note unit with sshd."""
    return "ssh-keepalive-note.service" in machine.run("systemctl", "show", "--property=Wants", "ssh").stdout


def failed(machine: Machine) -> str:
    """Return the units that have failed, when all that was started has."""
    wait = "while systemctl list-jobs --no-legend | grep -q .; do sleep 0.1; done"
    said: str = machine.sh(f"{wait}; systemctl --failed --no-legend --plain").stdout
    return said


def test_a_machine_with_the_package(newest_of_all: str, deb: Path, machines: Callable[..., Machine]) -> None:
    machine = machines(newest_of_all, USER_DATA)

    def own() -> dict[str, tuple[object, ...]]:
        # A boot compiles what others' packages have left as source.
        found = tree(machine.root, OURS).items()
        return {path: what for path, what in found if "__pycache__" not in path or "ssh_keepalive" in path}

    before = own()
    install(machine.root, deb)
    machine.boot()
    machine.wait()
    assert machine.run("cloud-init", "status").stdout == "status: done\n"
    assert effective(machine)["clientaliveinterval"] != "0"
    assert any("ssh_keepalive" in path and "__pycache__" in path for path in own())
    assert knows_the_unit(machine)
    # As where somebody has taken the files away, and systemd still knows the unit.
    machine.sh("mv /usr/bin/ssh-keepalive /srv; systemctl restart ssh; mv /srv/ssh-keepalive /usr/bin")
    assert failed(machine) == ""
    machine.run("dpkg", "--purge", NAME)
    assert own() == before
    assert effective(machine)["clientaliveinterval"] == "0"
    log = machine.run("journalctl", "-b", "--no-pager", "-u", "ssh").stdout
    assert log.count("Server listening on 0.0.0.0 port 22") == 3
    assert not knows_the_unit(machine)
    machine.run("systemctl", "restart", "ssh")
    assert failed(machine) == ""


def test_the_removal_of_a_package_without_a_policy_says_nothing_of_sshd(
    newest_of_all: str, deb: Path, machines: Callable[..., Machine]
) -> None:
    machine = machines(newest_of_all, "#cloud-config\nssh_keepalive: {idel_timeout: 15m}\n")
    install(machine.root, deb)
    machine.boot()
    machine.wait()
    assert "ssh-keepalive-note.service" in failed(machine)
    # Somebody's, who has not restarted sshd yet
    machine.sh("echo 'MaxStartups 20' >>/etc/ssh/sshd_config")
    said = machine.sh(f"dpkg --purge {NAME} 2>&1").stdout
    assert "sshd" not in said
    # What cloud-init has to say of that user-data stays.
    assert "ssh-keepalive" not in failed(machine)


def upgrade(machine: Machine, sources: tuple[str, ...], *wanted: str) -> str:
    """Have a running machine's apt install what was fetched; return what it prints."""
    script = f"DEBIAN_FRONTEND=noninteractive {apt(sources, '--no-download install', *wanted)} 2>&1"
    said: str = machine.sh(script, timeout=120).stdout
    return said


@pytest.mark.parametrize(
    ("old", "new", "sources"),
    [
        ("bookworm", "trixie", ("bookworm", "trixie", "bookworm-backports")),
        pytest.param("trixie", "forky", ("forky",), marks=pytest.mark.slow),
    ],
    ids=["12-to-13", "13-to-testing"],
)
def test_upgrades(old: str, new: str, sources: tuple[str, ...], deb: Path, machines: Callable[..., Machine]) -> None:
    machine = machines(old, USER_DATA)
    root = machine.root
    openssh = [f"openssh-{part}/{sources[2]}" for part in ("server", "client", "sftp-server") if len(sources) > 2]
    fetch(root, sources, f"cloud-init/{new}", *openssh)
    verified = chroot(root, VERIFY)
    shutil.copy(deb, root / "srv/package.deb")
    machine.boot()
    machine.wait()
    machine.run("dpkg", "-i", "/srv/package.deb")
    assert knows_the_unit(machine)
    machine.run("cloud-init", "single", "--name", "ssh_keepalive", "--frequency", "always")
    assert effective(machine)["clientaliveinterval"] != "0"
    before = modules(root, LIST)
    known = (root / SCHEMA).read_bytes()
    assert (root / ORIGINAL).read_bytes() == (base(old) / SCHEMA).read_bytes()

    assert "ssh-keepalive:" not in upgrade(machine, sources, f"cloud-init/{new}")
    after = modules(root, LIST)
    print(f"cloud_init_modules in Debian {old}: {before}\nwith Debian {new}'s cloud-init: {after}")
    assert [entry for entry in after if entry != ["ssh_keepalive"]] == modules(base(new), "etc/cloud/cloud.cfg")
    assert after.index(["ssh_keepalive"]) == after.index("ssh") + 1
    assert (root / ORIGINAL).read_bytes() == (base(new) / SCHEMA).read_bytes()
    assert knows_the_key(root)
    assert (root / SCHEMA).read_bytes() != known
    assert machine.sh(VERIFY).stdout == verified

    machine.poweroff()
    machine.reseed(USER_DATA)
    machine.boot()
    machine.wait()
    status = machine.run("cloud-init", "status", "--long").stdout
    assert "\nextended_status: done\n" in status
    assert "\nrecoverable_errors: {}\n" in status
    machine.run("cloud-init", "schema", "--system")

    if openssh:
        assert keepalive(machine) == ("3", "29")
        said = upgrade(machine, sources, *openssh)
        pattern = r"^enforced on OpenSSH 10.0:\n  .* disconnected 180 s .*\n.* changed, sshd restarted$"
        assert re.search(pattern, said, re.MULTILINE)
        assert keepalive(machine) == ("5", "35")

    machine.run("dpkg", "--purge", NAME)
    assert (root / SCHEMA).read_bytes() == (base(new) / SCHEMA).read_bytes()
    assert machine.sh(VERIFY).stdout == verified
    assert [file for file in (LIST, ORIGINAL, DROP_IN[1:]) if (root / file).exists()] == []


# Another's package with a list of modules
OTHER_CONTROL = (
    "Package: other\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: x\n"
)
OTHER_LIST = "etc/cloud/cloud.cfg.d/50_other.cfg"


def test_a_list_that_another_package_brings_counts_at_once(
    deb: Path, machines: Callable[..., Machine], tmp_path: Path
) -> None:
    root = machines("bookworm").root
    before = tree(root)
    for name, text in (("DEBIAN/control", OTHER_CONTROL), (OTHER_LIST, "cloud_init_modules: [other, ssh]\n")):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    install(root, deb)
    listed = modules(root, LIST)
    subprocess.run(("dpkg-deb", "-Zxz", "--build", tmp_path, root / "other.deb"), stdout=subprocess.PIPE, check=True)
    said = chroot(root, "dpkg -i /other.deb; rm /other.deb")
    assert said.count("Processing triggers for cloud-init-ssh-keepalive") == 1
    assert modules(root, LIST) == ["other", "ssh", ["ssh_keepalive"]]
    said = chroot(root, "dpkg --purge other")
    assert said.count("Processing triggers for cloud-init-ssh-keepalive") == 1
    assert modules(root, LIST) == listed
    chroot(root, f"dpkg --purge {NAME}")
    restored(root, before)


def test_a_failure_is_a_warning_and_dpkg_goes_on(deb: Path, machines: Callable[..., Machine]) -> None:
    root = machines("bookworm").root
    before = tree(root)
    late = root / "etc/cloud/cloud.cfg.d/99_zzz.cfg"
    late.write_text("cloud_init_modules: ssh\n")
    said = install(root, deb)
    assert (
        "ssh-keepalive: /etc/cloud/cloud.cfg.d/99_zzz.cfg: no list of cloud_init_modules\n"
        "cloud-init-ssh-keepalive: cloud-init does not run the module: correct that, then run ssh-keepalive register\n"
    ) in said
    assert not (root / LIST).exists()

    late.unlink()
    drop_in, main = root / DROP_IN[1:], root / "etc/ssh/sshd_config"
    original = main.read_text()
    for file, text in (
        (drop_in, "ClientAliveInterval 30\n"),
        (main, f"# BEGIN ssh-keepalive\n# policy: broken\n# END ssh-keepalive\n{original}"),
    ):
        file.write_text(text)
        said = chroot(root, "dpkg-trigger --by-package=openssh-server /usr/sbin/sshd; dpkg --configure --pending")
        assert said.endswith(
            f"ssh-keepalive: /{file.relative_to(root)}: has no policy line that can be read: "
            "cloud-init single --name ssh_keepalive --frequency always, or ssh-keepalive apply FILE\n"
            "cloud-init-ssh-keepalive: the policy may not be in effect: correct that, then run ssh-keepalive reapply\n"
        )
        drop_in.unlink(missing_ok=True)
    main.write_text(original)
    assert (root / LIST).exists()
    assert chroot(root, f"dpkg-query -W -f '${{db:Status-Status}}' {NAME}") == "installed"
    chroot(root, f"dpkg --purge {NAME}")
    restored(root, before)


@pytest.mark.parametrize("init", ["systemd", pytest.param("sysvinit", marks=pytest.mark.slow)])
def test_a_package_whose_upgrade_stopped_midway_is_removed_whole(
    init: str, deb: Path, machines: Callable[..., Machine]
) -> None:
    root = machines("trixie", init=init).root
    before = tree(root)
    install(root, deb)
    assert (root / "etc/default/cloud-init").exists() == (init == "sysvinit")
    shutil.copy(deb, root / "package.deb")
    # dpkg calls no prerm then.
    chroot(root, f"dpkg --unpack /package.deb; rm /package.deb; dpkg --purge {NAME}")
    restored(root, before)


def test_a_block_whose_end_is_gone_takes_nothing_along(deb: Path, machines: Callable[..., Machine]) -> None:
    root = machines("trixie").root
    defaults = root / "etc/default/cloud-init"
    block = "X=1\n# BEGIN ssh-keepalive\ntrue\n# END ssh-keepalive\n"
    for text, stays in ((block, "X=1\n"), (f"{block}# BEGIN ssh-keepalive\nY=1\n", "{0}")):
        install(root, deb)
        defaults.write_text(text)
        shutil.copy(deb, root / "package.deb")
        # dpkg calls no prerm then, and postrm alone removes it.
        chroot(root, f"dpkg --unpack /package.deb; rm /package.deb; dpkg --purge {NAME}")
        assert defaults.read_text() == stays.format(text)


def test_an_upgrade_after_the_key_was_taken_out_by_hand_brings_its_own_schema(
    deb: Path, machines: Callable[..., Machine]
) -> None:
    root, newer = machines("bookworm").root, (base("trixie") / SCHEMA).read_bytes()
    install(root, deb)
    chroot(root, "ssh-keepalive unregister")
    assert not knows_the_key(root)
    (root / ORIGINAL).write_bytes(newer)  # as dpkg does, which still diverts it
    chroot(root, f"dpkg-trigger --by-package=cloud-init /{SCHEMA}; dpkg --configure --pending")
    assert knows_the_key(root)
    assert (root / ORIGINAL).read_bytes() == newer
    chroot(root, f"dpkg --purge {NAME}")
    assert (root / SCHEMA).read_bytes() == newer


def test_a_registration_that_was_cut_off_is_made_good(deb: Path, machines: Callable[..., Machine]) -> None:
    root = machines("trixie").root
    before = tree(root)
    install(root, deb)
    # As it is between the two steps of registering, when both names are one file without our key.
    cut_off = f"ln -f /{ORIGINAL} /{SCHEMA}"
    chroot(root, f"{cut_off}; dpkg-trigger --by-package=cloud-init /{SCHEMA}; dpkg --configure --pending")
    assert knows_the_key(root)
    chroot(root, f"{cut_off}; dpkg --purge {NAME}")
    restored(root, before)


def test_somebody_elses_divert_is_a_warning(deb: Path, machines: Callable[..., Machine]) -> None:
    root = machines("trixie").root
    chroot(root, f"dpkg-divert --local --no-rename --add /{SCHEMA}")
    assert (
        "cloud-init-ssh-keepalive: another package has diverted the schema: "
        "run ssh-keepalive register after each upgrade of cloud-init\n"
    ) in install(root, deb)
    assert knows_the_key(root)
    assert chroot(root, f"dpkg-query -W -f '${{db:Status-Status}}' {NAME}") == "installed"
