"""The switches of the fakes, which a test sets and a fake reads, and a log of the calls."""

import json
import os
import sys
import time

# Of all fakes. `answers` and `hangs` are by a word of the call's arguments: (exit code, stdout, stderr), and seconds,
# which a child of its own may take ("child"), or one that leaves the process group ("escaped"). `meanwhile` is what
# somebody else does while a command runs whose arguments hold some words, once: (words, path, text, None: gone).
_ALL = {"answers": {}, "hangs": {}, "hangs_in": "", "meanwhile": []}
_SERVICE = {
    **_ALL,
    "names": ["ssh"],
    # What the configuration may not hold, or it dies at its start
    "dies_of": "",
    # A status as OpenRC has it: what was started counts as started, and what has died cannot be stopped.
    "believes": False,
    # How often it is not up yet after a restart
    "late": 0,
}
DEFAULTS = {
    "sshd": {
        **_ALL,
        "version": "OpenSSH_8.4p1 Debian-5",
        "main": "/etc/ssh/sshd_config",
        # None: as its version has it
        "knows_channel_timeout": None,
        # As upstream's 8.2 and 8.3: without a Match in the main file those in included files are not looked at.
        "skips_match_in_includes": False,
        "has_host_keys": True,
        # What it traces is cut off there: log.c, 1,024 bytes with what is said around it
        "longest_message": 100000,
        # Why -t refuses what -T takes
        "refuses_to_start": "",
    },
    "systemctl": {
        **_ALL,
        "dies_of": "",
        # Restart=on-failure: after that many looks it is tried again
        "tries_again_after": 0,
        # Type=simple: what is started counts as active, listens on nothing, and dies or not
        "comes_to_nothing": "",
        # At how many looks it is on its way up (-1: at all)
        "starting": 0,
        # How many tries of systemd's own it counts in a restart by hand: one that was due just then
        "retries": 0,
        "has_hit_the_start_limit": False,
        "ignores_restarts": False,
        # systemd's own, as show-environment has it
        "environment": "LANG=C.UTF-8",
    },
    "service": _SERVICE,
    "rc-service": _SERVICE,
    "bash": {**_ALL, "reads_profiles": True},
    "ssh-keygen": _ALL,
    "restorecon": _ALL,
}


class Switches:
    """Hold the switches of one fake of a machine."""

    def __init__(self, root, name):
        self.file = os.path.join(root, "fakes", name + ".json")
        self.values = dict(DEFAULTS[name])
        if os.path.exists(self.file):
            with open(self.file) as stream:
                self.values.update(json.load(stream))

    def __getitem__(self, name):
        return self.values[name]

    def set(self, **values):
        """Set switches; one that is not there is a mistake of the test's."""
        unknown = set(values) - set(self.values)
        if unknown:
            raise KeyError("no such switch: {}".format(", ".join(sorted(unknown))))
        self.values.update(values)
        os.makedirs(os.path.dirname(self.file), exist_ok=True)
        with open(self.file, "w") as stream:
            json.dump(self.values, stream)


def called():
    """Log this call, do what all fakes can be told to do, and return the machine's root, switches and arguments."""
    name = os.path.basename(sys.argv[0])
    root = os.path.dirname(os.path.dirname(os.path.dirname(sys.argv[0])))
    arguments = sys.argv[1:]
    with open(os.path.join(root, "calls"), "a") as stream:
        print(name, *arguments, file=stream)
    switches = Switches(root, name)
    for one in list(switches["meanwhile"]):
        words, path, text = one
        if words in " ".join(arguments):
            switches.set(meanwhile=[other for other in switches["meanwhile"] if other != one])
            _do(path, text)
    for word, seconds in switches["hangs"].items():
        if word in arguments:
            _hang(seconds, switches["hangs_in"])
    for word, (code, out, err) in switches["answers"].items():
        if word in arguments:
            sys.stdout.write(out)
            sys.stderr.buffer.write(err.encode("utf-8", "surrogateescape"))
            sys.exit(code)
    return root, switches, arguments


def _do(path, text):
    if text is not None:
        with open(path, "w") as stream:
            stream.write(text)
    elif os.path.isdir(path):
        os.rmdir(path)
    else:
        os.unlink(path)


def _hang(seconds, where):
    if where:
        import subprocess

        subprocess.call(["/bin/sleep", str(seconds)], start_new_session=where == "escaped")
    else:
        time.sleep(seconds)
