"""A temporary machine whose commands are fakes, for what a real one cannot be made to do at will."""

import os
import stat
import sys

import pytest
from ssh_keepalive.sshd import Sshd

# Reads what it is told to like a real one as far as the tests need: Include, first value wins, one Match pass.
SSHD = """\
import fnmatch, glob, ipaddress, sys
arguments = sys.argv[1:]
version = "OpenSSH_8.4p1 Debian-5"
if "-V" in arguments:
    sys.exit("unknown option -- V\\n" + version + ", OpenSSL 1.1.1w  11 Sep 2023")
if "-t" in arguments:
    knows = "-o" not in arguments or "OpenSSH_8" not in version
    sys.exit(0 if knows else "command-line: line 0: Bad configuration option: ChannelTimeout")
who = dict(part.split("=") for part in arguments[arguments.index("-C") + 1].split(","))
def fits(criterion, patterns=""):
    if criterion == "Address":
        address = ipaddress.ip_address(who["addr"])
        return any(address in ipaddress.ip_network(network) for network in patterns.split(","))
    name = {{"User": who["user"], "Group": "root" if who["user"] == "root" else ""}}.get(criterion, "")
    return criterion == "all" or any(fnmatch.fnmatch(name, pattern) for pattern in patterns.split(","))
main = arguments[arguments.index("-f") + 1] if "-f" in arguments else "{ssh}/sshd_config"
values, debug = {{}}, "-ddd" in arguments
def read(name, shown, matching):
    active, included = not matching, True
    if debug and not matching:
        print("debug2: load_server_config: filename " + name, file=sys.stderr)
    for number, line in enumerate(open(name), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] == "Include":
            for file in included * sorted(glob.glob(words[1])):
                read(file, file, matching)
        elif words[0] == "Match":
            included = active = matching and fits(*words[1:])
            if debug and matching:
                print("debug3: checking match for '%s' user x host y" % " ".join(words[1:]), file=sys.stderr)
                print("debug3: match %sfound" % ("" if active else "not "), file=sys.stderr)
        elif words[0] == "Broken":
            sys.exit("%s: line %d: Bad configuration option: Broken" % (name, number))
        elif active:
            if debug:
                print("debug3: %s:%d setting %s" % (shown, number, " ".join(words)), file=sys.stderr)
            found.setdefault(words[0].lower(), " ".join(words[1:]))
found = {{"clientaliveinterval": "0", "clientalivecountmax": "3", "tcpkeepalive": "yes", "PidFile": "{run}/sshd.pid"}}
defaults, found = found, {{}}
read(main, main, False)
globals_, found = found, {{}}
print("debug2: parse_server_config_depth: config reprocess config len 1", file=sys.stderr)
read(main, "reprocess config", True)
defaults.update(globals_)
defaults.update(found)
for item in defaults.items():
    print(*item)
"""

SYSTEMCTL = """\
import pathlib, sys
state = pathlib.Path("{run}/sshd.state")
now = state.read_text() if state.exists() else "inactive"
if "is-active" in sys.argv:
    print(now)
    sys.exit(now != "active")
if "try-restart" in sys.argv and now == "active":
    file = pathlib.Path("{ssh}/sshd_config.d/00-ssh-keepalive.conf")
    pathlib.Path("{run}/sshd.read").write_text(file.read_text() if file.exists() else "")
"""


class FakeMachine:
    """Hold a temporary machine: its folders, its fake commands and a log of how they were called."""

    def __init__(self, root):
        self.root = root
        self.ssh, self.run, self.bin = root / "etc/ssh", root / "run", root / "bin"
        for folder in (self.ssh / "sshd_config.d", self.run / "systemd/system", self.bin):
            folder.mkdir(parents=True)
        self.main = self.ssh / "sshd_config"
        self.main.write_text("Include {}/sshd_config.d/*.conf\nUsePAM yes\n".format(self.ssh))
        self.file = self.ssh / "sshd_config.d/00-ssh-keepalive.conf"
        self.profile = root / "etc/profile.d"
        self.profile.mkdir()
        self.calls_file = root / "calls"
        self.fake("sshd", SSHD)
        self.fake("systemctl", SYSTEMCTL)

    def fake(self, name, script):
        """Put a command on the machine's path, a Python script that knows {ssh} and {run}."""
        file = self.bin / name
        log = "import os, sys\nname = os.path.basename(sys.argv[0])\nprint(name, *sys.argv[1:], file=open({!r}, 'a'))\n"
        body = script.format(ssh=self.ssh, run=self.run)
        file.write_text("#!{} -S\n{}{}".format(sys.executable, log.format(str(self.calls_file)), body))
        file.chmod(0o755)

    def sshd(self, **changes):
        """Return the product's view of this machine."""
        path = "{}:{}".format(self.bin, os.path.dirname(sys.executable))
        settings = {
            "ssh": str(self.ssh),
            "vendor_ssh": str(self.root / "usr/etc/ssh"),
            "profile": str(self.profile),
            "run": str(self.run),
            "proc": str(self.root / "proc"),
            "path": path,
        }
        settings.update(changes)
        return Sshd(**settings)

    def calls(self, name):
        """Return the arguments of each call of a command."""
        lines = self.calls_file.read_text().splitlines() if self.calls_file.exists() else []
        return [line.split(" ", 1)[1] for line in lines if line.startswith(name + " ")]

    def openssh(self, version):
        """Have sshd be of another version."""
        script = (self.bin / "sshd").read_text()
        (self.bin / "sshd").write_text(script.replace("OpenSSH_8.4p1", "OpenSSH_" + version))

    def sshd_is(self, state):
        """Set the state that the fake systemctl reports."""
        (self.run / "sshd.state").write_text(state)

    def sshd_has_read(self):
        """Return the drop-in as it was when sshd was last restarted."""
        return (self.run / "sshd.read").read_text()

    def files(self):
        """Return names, modes and contents of all in /etc."""
        return {
            str(file.relative_to(self.root)): (stat.S_IMODE(file.lstat().st_mode), file.read_text())
            for file in self.root.glob("etc/**/*")
            if file.is_file()
        }


@pytest.fixture
def machine(tmp_path):
    return FakeMachine(tmp_path)
