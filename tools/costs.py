"""What enforcing a policy costs a first boot, and since when it is in effect, by the module and by usual recipes."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from baking import DROP_IN, bake, effective
from machine import Machine

SUITES = ("bookworm", "trixie", "forky")
MODULE, UNCOMPILED, WRITE_FILES, RUNCMD = "module", "uncompiled", "write_files", "runcmd"
# How many patterns a policy has, each in a match entry of its own
PATTERNS = (0, 1, 10, 50, 250)
WITH_PACKAGES = " with packages"

PACKAGES_FOLDER = "usr/lib/python3/dist-packages"
RECIPE_FILE = "/etc/ssh/sshd_config.d/10-keepalive.conf"
USER_DATA = {
    # ssh_pwauth is what has cloud-init's own set_passwords change sshd's configuration and restart it.
    MODULE: "ssh_pwauth: true\nssh_keepalive: {unresponsive_timeout: 3m, idle_timeout: 15m}\n",
    UNCOMPILED: "ssh_keepalive: {unresponsive_timeout: 3m, idle_timeout: 15m}\n",
    WRITE_FILES: f"""\
write_files:
  - path: {RECIPE_FILE}
    content: |
      ClientAliveInterval 60
      ClientAliveCountMax 3
runcmd:
  - systemctl restart ssh
""",
    RUNCMD: """\
runcmd:
  - sed -i 's/^#*ClientAliveInterval .*/ClientAliveInterval 60/' /etc/ssh/sshd_config
  - sed -i 's/^#*ClientAliveCountMax .*/ClientAliveCountMax 3/' /etc/ssh/sshd_config
  - systemctl restart ssh
""",
}
# What each changes; and the steps of cloud-init that it needs, without the stages that they run in.
CHANGES = {MODULE: DROP_IN, UNCOMPILED: DROP_IN, WRITE_FILES: RECIPE_FILE, RUNCMD: "/etc/ssh/sshd_config"}
STEPS = {
    MODULE: ("ssh_keepalive",),
    UNCOMPILED: ("ssh_keepalive",),
    WRITE_FILES: ("write_files", "runcmd", "scripts_user"),
    RUNCMD: ("runcmd", "scripts_user"),
}
# An empty package, from the machine's own disk: the least that `packages:` can take.
PACKAGES = "packages: [empty]\napt: {preserve_sources_list: true}\n"
CONTROL = "Package: empty\nVersion: 1\nArchitecture: all\nMaintainer: Nobody <nobody@invalid>\nDescription: empty\n"

# Follows the module in its file: takes the time of what it imports, runs and syncs, and then of one `sshd -T`, started
# by the same process at the same moment of the boot.
PROBE = r"""

_handle = handle

def handle(name, cfg, cloud=None, log=None, args=None, _compat=None):
    import builtins, json, os, subprocess, time
    parts, depth = [], [0]

    def timed(label, function):
        def run(*args, **options):
            depth[0] += 1
            began = time.perf_counter()
            try:
                return function(*args, **options)
            finally:
                depth[0] -= 1
                if not depth[0]:
                    parts.append((label(*args), 1000 * (time.perf_counter() - began)))
        return run

    def started(process, argv, *rest, **options):
        process.label = " ".join(argv)
        init(process, argv, *rest, **options)
        process.began = time.perf_counter()

    def ended(process, *rest, **options):
        try:
            return wait(process, *rest, **options)
        finally:
            parts.append(("wait " + process.label, 1000 * (time.perf_counter() - process.began)))

    imported, fsync = builtins.__import__, os.fsync
    init, wait = subprocess.Popen.__init__, subprocess.Popen.wait
    builtins.__import__ = timed(lambda name, *rest: "import " + name, imported)
    os.fsync = timed(lambda file: "fsync", fsync)
    subprocess.Popen.__init__ = timed(lambda process, argv, *rest: "run " + " ".join(argv), started)
    subprocess.Popen.wait = ended
    began = time.perf_counter()
    try:
        return _handle(name, cfg, cloud, log, args)
    finally:
        total = 1000 * (time.perf_counter() - began)
        builtins.__import__, os.fsync = imported, fsync
        subprocess.Popen.__init__, subprocess.Popen.wait = init, wait
        asked = []
        for _ in range(9):
            began = time.perf_counter()
            subprocess.run(("/usr/sbin/sshd", "-T"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=True)
            asked.append(1000 * (time.perf_counter() - began))
        with open("/run/probe.json", "w") as stream:
            json.dump({"total": total, "parts": parts, "sshd -T": sorted(asked)[4]}, stream)
"""


def boots(repetitions: int) -> Iterator[dict[str, Any]]:
    """Boot machines of all releases with all user-data in turn, and yield what each first boot took."""
    kinds = (*USER_DATA, MODULE + WITH_PACKAGES, RUNCMD + WITH_PACKAGES)
    for _ in range(repetitions):
        for suite in SUITES:
            for kind in kinds:
                yield {"suite": suite, "kind": kind, **first_boot(suite, kind)}


def boots_by_patterns(repetitions: int) -> Iterator[dict[str, Any]]:
    """Boot machines of all releases with policies of all sizes in turn, and yield what each first boot took."""
    for _ in range(repetitions):
        for suite in SUITES:
            for count in PATTERNS:
                with Machine(suite, f"#cloud-config\nssh_keepalive: {with_patterns(count)}\n") as machine:
                    bake_probed(machine)
                    machine.boot()
                    machine.wait(timeout=300)
                    found = json.loads(machine.run("cat", "/run/probe.json").stdout)
                    yield {"suite": suite, "patterns": count, **found}


def with_patterns(count: int, idle: str = "15m") -> str:
    """Return a section (YAML) with many match entries, and an idle_timeout."""
    entries = [f"{{user: customer-{number}, unresponsive_timeout: 1h}}" for number in range(count)]
    return f"{{unresponsive_timeout: 3m, idle_timeout: {idle}, match: [{', '.join(entries)}]}}"


def bake_probed(machine: Machine) -> None:
    """Install the module so that it takes its own time."""
    bake(machine)
    module = machine.root / PACKAGES_FOLDER / "cc_ssh_keepalive.py"
    module.write_text(module.read_text() + PROBE)
    compile_as_packages_do(machine.root)


def first_boot(suite: str, kind: str) -> dict[str, Any]:
    """Return what a first boot took: the module's own times in ms, those of cloud-init's steps and the window in s."""
    name = kind.replace(WITH_PACKAGES, "")
    with Machine(suite, "#cloud-config\n" + USER_DATA[name] + (PACKAGES if name != kind else "")) as machine:
        if "ssh_keepalive" in USER_DATA[name]:
            bake_probed(machine)
            if name == UNCOMPILED:
                remove_compiled(machine.root)
        if name != kind:
            offer_package(machine.root)
        machine.boot()
        machine.wait(timeout=300)
        assert effective(machine)["clientaliveinterval"] != "0"
        if name != kind:
            machine.run("dpkg", "-s", "empty")
        probed = machine.run("cat", "/run/probe.json", check=False).stdout
        blame = machine.run("cloud-init", "analyze", "blame").stdout
        steps = re.findall(r"([0-9.]+)s \(.*/config-(.*)\)", blame)
        return {
            **json.loads(probed or "{}"),
            "steps": {step.replace("-", "_"): float(seconds) for seconds, step in steps},
            "window": window(machine, CHANGES[name]),
        }


def window(machine: Machine, file: str) -> float:
    """Return for how long sshd took connections before it had read a file as it is now, in seconds."""
    journal = machine.run("journalctl", "-b", "-o", "short-unix", "--no-pager").stdout
    listened = [float(at) for at in re.findall(r"^([0-9.]+) .*Server listening on 0.0.0.0 port 22", journal, re.M)]
    changed = float(machine.run("stat", "-c", "%.9Z", file).stdout)
    return next(at for at in listened if at > changed) - listened[0]


def compile_as_packages_do(root: Path) -> None:
    names = "cc_ssh_keepalive.py ssh_keepalive"
    subprocess.run(
        ("chroot", root, "sh", "-ec", f"cd /{PACKAGES_FOLDER}; python3 -m compileall -q {names}"), check=True
    )


def remove_compiled(root: Path) -> None:
    """Leave what an install from another Python leaves."""
    for folder in list((root / PACKAGES_FOLDER / "ssh_keepalive").rglob("__pycache__")):
        shutil.rmtree(folder)
    for file in (root / PACKAGES_FOLDER / "__pycache__").glob("cc_ssh_keepalive.*"):
        file.unlink()


def offer_package(root: Path) -> None:
    """Give a machine a repository on its disk, and no other."""
    repository = root / "srv/repository"
    repository.mkdir()
    with tempfile.TemporaryDirectory() as folder:
        control = Path(folder, "DEBIAN/control")
        control.parent.mkdir()
        control.write_text(CONTROL)
        Path(folder).chmod(0o755)
        file = repository / "empty.deb"
        subprocess.run(("dpkg-deb", "--build", folder, file), check=True, stdout=subprocess.DEVNULL)
    content = file.read_bytes()
    fields = f"Filename: ./{file.name}\nSize: {len(content)}\nSHA256: {hashlib.sha256(content).hexdigest()}\n"
    (repository / "Packages").write_text(CONTROL + fields)
    shutil.rmtree(root / "etc/apt/sources.list.d")
    (root / "etc/apt/sources.list").write_text("deb [trusted=yes] file:/srv/repository ./\n")
