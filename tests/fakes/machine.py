"""A temporary machine whose commands are fakes, for what a real one cannot be made to do at will."""

import os
import shutil
import stat
import sys
import time
from pathlib import Path

from fakes.proc import Proc
from fakes.switches import Switches
from fakes.units import DROP_IN, EVERYWHERE, TITLE, Units
from ssh_keepalive.machine.host import Host
from ssh_keepalive.paths import UNIT

FAKES = Path(__file__).resolve().parent
# Ticks of the boot's clock, and of the one of file systems, are shorter.
PAUSE = 0.03
CHANGING = ("etc", "run", "proc")
SHIPPED = ("sshd", "systemctl", "bash")


class FakeMachine:
    """Hold a temporary machine: its folders, its processes, its fake commands and a log of how they were called.

    It runs systemd, has ssh.service with the alias sshd.service, and has not started it yet.
    """

    def __init__(self, root):
        self.root = root
        self.ssh, self.run, self.bin = root / "etc/ssh", root / "run", root / "usr/sbin"
        self.profile = root / "etc/profile.d"
        for folder in (self.ssh / "sshd_config.d", self.run / "systemd/system", self.bin, self.profile):
            folder.mkdir(parents=True)
        self.main = self.ssh / "sshd_config"
        self.main.write_text("Include {}/sshd_config.d/*.conf\nUsePAM yes\n".format(self.ssh))
        self.file = Path(str(root) + DROP_IN)
        self.record = self.run / "ssh-keepalive.json"
        self.proc = Proc(root / "proc")
        self.units = Units(str(root))
        self.units.add("ssh.service", aliases=["sshd.service"])
        # The fakes are started by it.
        (self.bin / "python3").symlink_to(os.path.realpath(sys.executable))
        (self.bin / "env").symlink_to("/usr/bin/env")
        for name in SHIPPED:
            self.have(name)

    def have(self, name):
        """Put a fake on the machine's path."""
        (self.bin / name).symlink_to(FAKES / ("service" if name == "rc-service" else name))

    def set(self, fake, **switches):
        """Set switches of a fake."""
        Switches(str(self.root), fake).set(**switches)

    def openssh(self, version):
        """Have sshd be of another version."""
        self.set("sshd", version="OpenSSH_" + version)

    def host(self, services=("ssh", "sshd"), attended=False, path=None):
        """Return the product's view of this machine."""
        return Host(services, attended, str(self.root), str(self.bin) if path is None else path)

    def calls(self, name):
        """Return the arguments of each call of a command."""
        file = self.root / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        return [line.partition(" ")[2] for line in lines if line.split(" ")[0] == name]

    def forget_calls(self):
        """Start the log of calls anew."""
        (self.root / "calls").unlink()

    def verbs(self):
        """Return what systemctl was told to do, and to which unit of sshd's."""
        calls = [call for call in self.calls("systemctl") if not call.startswith("show ") and not call.endswith(UNIT)]
        return [" ".join(call.split()[-2:]) for call in calls]

    def start(self, name="ssh.service", began=None, addresses=None):
        """Have systemd start a unit, after all that was written and before all that will be; return its process."""
        (self.run / "sshd").mkdir(exist_ok=True)
        time.sleep(PAUSE)
        pid = self._fresh_units().start(name, began, addresses)
        time.sleep(PAUSE)
        return pid

    def start_by_hand(self, pid=5000900, words="", parent=1, addresses=EVERYWHERE, title=TITLE, writes_pid=True):
        """Have an sshd that no service knows, started as `start` does; return its process."""
        (self.run / "sshd").mkdir(exist_ok=True)
        time.sleep(PAUSE)
        program = str(self.bin / "sshd")
        self.proc.add(pid, parent, title.format(" ".join(filter(None, (program, words)))), exe=program, whole=True)
        self.proc.listen(pid, *addresses)
        if writes_pid:
            (self.run / "sshd.pid").write_text("{}\n".format(pid))
        time.sleep(PAUSE)
        return pid

    def have_systemd_listen(self, port):
        """Have systemd take connections, as for a socket unit."""
        self.proc.add(1, 0, "/sbin/init", exe="/usr/lib/systemd/systemd")
        self.proc.listen(1, ("::", port))

    def unit(self, name="ssh.service"):
        """Return what systemd knows of a unit."""
        return self._fresh_units().units[name]

    def set_unit(self, name="ssh.service", **properties):
        """Set properties of a unit."""
        self._fresh_units().set(name, **properties)

    def add_unit(self, name, **details):
        """Add a unit."""
        self._fresh_units().add(name, **details)

    def stop(self, name="ssh.service"):
        """Have systemd stop a unit."""
        self._fresh_units().end(name)

    def replace_program(self, name="ssh.service"):
        """Have the program of a unit's process be replaced, as by an upgrade."""
        exe = "{}/{}/exe".format(self.proc.folder, self.unit(name)["MainPID"])
        program = os.readlink(exe)
        os.unlink(exe)
        os.symlink(program + " (deleted)", exe)

    def _fresh_units(self):
        self.units = Units(str(self.root))
        return self.units

    def sshd_has_read(self, name="ssh.service"):
        """Return the drop-in as it was when a unit's process was last started."""
        return self.unit(name)["_read"]

    def snapshot(self):
        """Return a copy of all that changes on the machine."""
        copy = Path(str(self.root) + ".snapshot")
        for name in CHANGING:
            shutil.copytree(str(self.root / name), str(copy / name), symlinks=True)
        shutil.copy(self.units.file, str(copy))
        return copy

    def restore(self, snapshot):
        """Have all be as it was; what is copied has changed now, and a listener is started after that."""
        for name in CHANGING:
            shutil.rmtree(str(self.root / name))
            shutil.copytree(str(snapshot / name), str(self.root / name), symlinks=True)
        shutil.copy(str(snapshot / Path(self.units.file).name), self.units.file)
        if self.record.exists():
            self.record.unlink()
        self.start()

    def off_systemd(self, manager="service"):
        """Have another init system: services are started by a command of that name."""
        (self.run / "systemd/system").rmdir()
        self.have(manager)

    def shown(self, said):
        """Return what was said, as it would be said on a machine of which this is the root."""
        return str(said).replace(str(self.root), "")

    def files(self):
        """Return names, modes and contents of all in /etc."""
        return {
            str(file.relative_to(self.root)): (stat.S_IMODE(file.lstat().st_mode), file.read_bytes())
            for file in self.root.glob("etc/**/*")
            if file.is_file()
        }
