"""The harness itself: what the other tests on machines take for granted."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bases import base
from host import MachineError
from machine import CommandError, Machine

TOOLS = Path(__file__).resolve().parents[2] / "tools"
ANOTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPP other"
NEWEST = "trixie"


@pytest.fixture(scope="module")
def booted(oldest_or_newest: str) -> Iterator[Machine]:
    """One machine of each release for all tests up to the second boot, which leave it as it is."""
    with Machine(oldest_or_newest, f"#cloud-config\nssh_authorized_keys: [{ANOTHER_KEY}]\n") as machine:
        machine.boot()
        machine.wait()
        yield machine


def traces(name: str) -> list[str]:
    """List what the host has of a machine: mounts, commands, folders."""
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if name in line]
    commands = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            commands.append(path.read_text(errors="replace"))
    places = ("/sys/fs/cgroup", "/sys/fs/cgroup/*", "/run/systemd/nspawn/*", f"{base(NEWEST).parents[2]}/run")
    folders = [path for place in places for path in glob.glob(f"{place}/{name}")]
    return mounts + [command for command in commands if name in command] + folders


@pytest.mark.parametrize(
    ("program", "command"),
    [("cloud_init", "cloud-init --version"), ("openssh", "ssh -V"), ("python", "python3 --version")],
)
def test_versions(booted: Machine, program: str, command: str) -> None:
    printed = booted.sh(f"{command} 2>&1").stdout
    version = re.search(r"\d+\.\d+", printed)
    assert version, printed
    expected = getattr(booted.release, program)
    if booted.release.rolling:
        assert [int(part) for part in version[0].split(".")] >= [int(part) for part in expected.split(".")]
    else:
        assert version[0] == expected


def test_boots_without_complaint(booted: Machine) -> None:
    assert booted.run("cloud-init", "status").stdout == "status: done\n"
    assert booted.run("systemctl", "is-system-running", "--wait", check=False).stdout == "running\n"


def test_root_logs_in_though_user_data_gives_other_keys(booted: Machine) -> None:
    assert ANOTHER_KEY.split()[1] in booted.run("cat", "/root/.ssh/authorized_keys").stdout
    assert booted.run("ssh", "localhost", "whoami; hostname").stdout == "root\nmachine\n"


def test_first_boot_makes_new_keys_and_ids(booted: Machine, machines: Callable[..., Machine]) -> None:
    fresh = machines(booted.suite)
    assert (fresh.root / "etc/machine-id").read_text() == ""
    assert len((booted.root / "etc/machine-id").read_text()) == 33
    key = "etc/ssh/ssh_host_ed25519_key.pub"
    assert (fresh.root / key).read_text() != (booted.root / key).read_text()


def test_commands_run_in_a_clean_environment(booted: Machine) -> None:
    assert booted.run("cat", input="grüße\n").stdout == "grüße\n"
    assert booted.sh("echo $HOME $LANG $X; pwd", env={"X": "x"}).stdout == "/root C.UTF-8 x\n/\n"
    assert booted.sh("echo out; echo err >&2; exit 3", check=False).returncode == 3
    with pytest.raises(CommandError) as failed:
        booted.sh("echo out; echo err >&2; exit 3")
    assert (
        str(failed.value) == "sh -ec echo out; echo err >&2; exit 3: exit status 3\n"
        "--- stdout\nout\n\n--- stderr\nerr\n"
    )
    with pytest.raises(CommandError, match=r"not done after 0.2 s\n--- stdout\nout\n"):
        booted.sh("echo out; sleep 60", timeout=0.2)
    # The end of its group is not waited for.
    booted.run("timeout", "5", "sh", "-c", "while pgrep -x sleep; do :; done")


def test_signals_reach_the_command(booted: Machine) -> None:
    script = "trap 'echo caught; exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    with booted.popen("sh", "-c", script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGSTOP)
        assert "T" in booted.run("ps", "-o", "stat=", "-C", "sh").stdout
        process.send_signal(signal.SIGCONT)
        process.terminate()
        assert process.communicate(timeout=5) == ("caught\n", "")
        assert process.returncode == 5


def test_tells_whether_a_process_lives(booted: Machine) -> None:
    with booted.popen("sh", "-c", "echo $$; exec sleep 60") as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert booted.alive(pid)
        process.terminate()
        process.communicate(timeout=5)
    assert not booted.alive(pid)


# The last test on the shared machine, since it does not leave it as it was.
def test_a_second_boot_keeps_the_root_and_takes_a_new_seed(booted: Machine) -> None:
    booted.sh("touch /kept")
    booted.poweroff()
    assert not booted.running
    assert (booted.root / "kept").exists()
    # A module which fails ends the wait as well.
    booted.reseed("#cloud-config\nruncmd: [touch /new, [no-such-command]]\n")
    booted.boot()
    booted.wait()
    booted.run("test", "-e", "/kept", "-a", "-e", "/new")
    assert booted.run("cloud-init", "status", check=False).stdout == "status: error\n"
    assert booted.run("ssh", "localhost", "whoami").stdout == "root\n"


def test_two_at_once(machines: Callable[..., Machine]) -> None:
    both = [machines("forky"), machines(NEWEST)]
    for machine in both:
        machine.boot()
    for machine in both:
        machine.wait()
    for machine in both:
        machine.run("systemctl", "restart", "ssh")
    over_ssh = [machine.run("ssh", "localhost", "cat /etc/machine-id").stdout for machine in both]
    assert over_ssh == [(machine.root / "etc/machine-id").read_text() for machine in both]
    assert over_ssh[0] != over_ssh[1]


def test_no_datasource_and_no_cloud_init(machines: Callable[..., Machine]) -> None:
    machine = machines(NEWEST, None)
    machine.boot()
    machine.wait()
    assert "DataSourceNone" in machine.run("cloud-init", "status", "--long", check=False).stdout
    (machine.root / "etc/cloud/cloud-init.disabled").touch()
    machine.reboot()
    machine.wait()
    assert "status: disabled" in machine.run("cloud-init", "status").stdout


def test_a_machine_which_never_gets_ready(machines: Callable[..., Machine]) -> None:
    machine = machines(NEWEST, "#cloud-config\nbootcmd: [echo waiting, sleep 60]\n")
    machine.boot()
    machine._until("bootcmd did not run", 60, lambda: "waiting" in machine.console())
    with pytest.raises(MachineError, match=r"(?s)cloud-init did not finish in 0 s\n--- console.*Cloud-init.*waiting"):
        machine.wait(timeout=0)


def test_a_machine_which_ends_early(machines: Callable[..., Machine]) -> None:
    machine = machines(NEWEST, "#cloud-config\nbootcmd: [systemctl --no-block poweroff, sleep 60]\n")
    machine.boot()
    with pytest.raises(MachineError, match="switched off, and cloud-init did not finish"):
        machine.wait()
    with pytest.raises(MachineError, match="is switched off"):
        machine.run("true")


def test_nothing_is_left() -> None:
    with Machine(NEWEST) as machine:
        machine.boot()
        assert len(traces(machine.name)) > 3
    assert traces(machine.name) == []


def test_nothing_is_left_by_a_killed_owner(machines: Callable[..., Machine]) -> None:
    script = f"import machine, time; m = machine.Machine({NEWEST!r}); m.boot(); print(m.name); time.sleep(60)"
    command = (sys.executable, "-u", "-c", script)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=TOOLS) as owner:
        assert owner.stdout is not None
        name = owner.stdout.readline().strip()
        assert len(traces(name)) > 3
        owner.kill()
    machines(NEWEST)
    assert traces(name) == []


# The limit is each user's own.
USED_UP = """\
import ctypes, os, resource
from host import exhausted
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
os.setuid(65533)
while ctypes.CDLL(None).inotify_init() >= 0:
    pass
print(exhausted())
"""


def test_a_host_that_is_out_of_inotify_instances_is_told_which_limit_to_raise() -> None:
    answer = subprocess.run((sys.executable, "-c", USED_UP), cwd=TOOLS, stdout=subprocess.PIPE, text=True, check=True)
    limit = int(Path("/proc/sys/fs/inotify/max_user_instances").read_text())
    said = f", all {limit} inotify instances are in use: sysctl fs.inotify.max_user_instances={8 * limit}\n"
    assert answer.stdout == said


def test_ctrl_c_in_the_demo_throws_its_machine_away(tmp_path: Path) -> None:
    (tmp_path / "base").symlink_to(base(NEWEST).parents[1])
    environment = {**os.environ, "SSH_KEEPALIVE_CACHE": str(tmp_path)}
    command = (sys.executable, "demo.py", NEWEST)
    with subprocess.Popen(
        command, cwd=TOOLS, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stdout
        assert demo.stderr
        said = iter(demo.stdout.readline, "")
        assert any("boots for the first time" in line for line in said)
        for _ in range(2):
            demo.send_signal(signal.SIGINT)
        assert demo.stderr.read() == "\ninterrupted, the machine is thrown away\n"
    assert demo.returncode == 130
    assert list((tmp_path / "run").iterdir()) == []
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
