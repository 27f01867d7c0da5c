"""The units of a temporary machine, as systemd knows them, and the processes that they start."""

import json
import os
import time

from fakes.proc import Proc

DROP_IN = "/etc/ssh/sshd_config.d/00-ssh-keepalive.conf"
TITLE = "sshd: {} [listener] 0 of 10-100 startups"
EVERYWHERE = (("0.0.0.0", 22), ("::", 22))
_COMMAND = (
    "{{ path={program} ; argv[]={program} {words} ; ignore_errors=no ; start_time=[n/a] ; stop_time=[n/a] ; pid=0 ; "
    "code=(null) ; status=0/0 }}"
)


class Units:
    """Hold the units of a machine in a file."""

    def __init__(self, root):
        self.root = root
        self.file = os.path.join(root, "systemd.json")
        self.units = {}
        if os.path.exists(self.file):
            with open(self.file) as stream:
                self.units = json.load(stream)

    def save(self):
        """Write down how the units are now."""
        with open(self.file, "w") as stream:
            json.dump(self.units, stream)

    def add(self, name, words="-D $SSHD_OPTS", program="/usr/sbin/sshd", aliases=(), title=None, **properties):
        """Add a unit; `words` are its command's as systemd shows them, `title` what its process has instead."""
        unit = {"Id": name, "LoadState": "loaded", "ActiveState": "inactive", "SubState": "dead", "InvocationID": ""}
        if name.endswith(".service"):
            program = self.root + program
            unit.update(MainPID="0", Result="success", ExecMainStartTimestamp="")
            unit.update(Environment="SSHD_OPTS=", EnvironmentFiles="")
            unit["ExecStart"] = _COMMAND.format(program=program, words=words)
            unit["_title"] = "{} {}".format(program, title or words.replace(" $SSHD_OPTS", ""))
            unit["_program"] = program
        unit.update(properties, _aliases=list(aliases), _looks=0)
        self.units[name] = unit
        self.save()

    def find(self, name):
        """Return a unit by its name or an alias, None without one."""
        return next((unit for unit in self.units.values() if name in (unit["Id"], *unit["_aliases"])), None)

    def set(self, name, **properties):
        """Set properties of a unit."""
        self.units[name].update(properties)
        self.save()

    def text(self):
        """Return what an sshd that starts would read of the drop-in."""
        if not os.path.exists(self.root + DROP_IN):
            return ""
        with open(self.root + DROP_IN) as stream:
            return stream.read()

    def start(self, name, began=None, addresses=None):
        """Start a unit's process anew, which listens where the last one did, and return its number."""
        unit = self.units[name]
        unit["_addresses"] = addresses or unit.get("_addresses") or EVERYWHERE
        proc = Proc(self.root + "/proc")
        self.end(name)
        pid = proc.new_pid()
        began = time.time() if began is None else began
        cgroup = "/system.slice/" + name
        proc.add(pid, 1, TITLE.format(unit["_title"]), began=began, exe=unit["_program"], cgroup=cgroup, whole=True)
        proc.listen(pid, *unit["_addresses"])
        pid_file = self.root + "/run/sshd.pid"
        with open(pid_file, "w") as stream:
            stream.write("{}\n".format(pid))
        os.utime(pid_file, (began, began))
        unit.update(
            MainPID=str(pid),
            ActiveState="active",
            SubState="running",
            Result="success",
            InvocationID="{:032x}".format(pid),
            ExecMainStartTimestamp=time.strftime("%a %Y-%m-%d %H:%M:%S UTC", time.gmtime(began)),
            _read=self.text(),
        )
        self.save()
        return pid

    def end(self, name):
        """End a unit's process."""
        Proc(self.root + "/proc").remove(self.units[name]["MainPID"])
        self.units[name].update(MainPID="0", ActiveState="inactive", SubState="dead")
        self.save()
