"""A temporary /proc."""

import os
import shutil
import socket
import struct
import time

# No process of the real machine can have such a number.
FIRST_PID = 5000001
_BOOTTIME = 7


class Proc:
    """Hold processes in a folder as proc(5) has them."""

    def __init__(self, folder):
        self.folder = str(folder)
        if not os.path.isdir(self.folder + "/self/ns"):
            # In which namespace the one who asks is
            os.makedirs(self.folder + "/self/ns")
            os.symlink("pid:[1]", self.folder + "/self/ns/pid")
            self.boots("11111111-2222-3333-4444-555555555555")

    def boots(self, boot_id):
        """Say which boot this is."""
        os.makedirs(self.folder + "/sys/kernel/random", exist_ok=True)
        self._write(self.folder + "/sys/kernel/random/boot_id", boot_id + "\n")

    def add(
        self, pid, parent, title, began=None, uid=0, exe="/usr/sbin/sshd", namespace="pid:[1]", cgroup="/", whole=False
    ):
        """Put a process there, and return its folder.

        It began at a time in seconds since the epoch; a `whole` title is one word, as a daemon's that sets it is.
        """
        booted = time.time() - time.clock_gettime(_BOOTTIME)
        ticks = int(((time.time() if began is None else began) - booted) * os.sysconf("SC_CLK_TCK"))
        process = "{}/{}".format(self.folder, pid)
        for name in ("fd", "ns", "net"):
            os.makedirs(process + "/" + name)
        os.symlink(exe, process + "/exe")
        os.symlink(namespace, process + "/ns/pid")
        os.symlink("/dev/null", process + "/fd/0")
        stat = "{} (a) b) S {} {} {} 0\n".format(pid, parent, " ".join(["7"] * 17), ticks)
        self._write(process + "/stat", stat)
        self._write(process + "/status", "Name:\tsshd\nUid:\t{0}\t{0}\t{0}\t{0}\n".format(uid))
        self._write(process + "/cmdline", (title if whole else title.replace(" ", "\0")) + "\0")
        self._write(process + "/cgroup", "0::{}\n".format(cgroup))
        for table in ("tcp", "tcp6"):
            self._write(process + "/net/" + table, "  sl  local_address rem_address   st\n")
        return process

    def new_pid(self):
        """Return a number that no process has had yet."""
        return FIRST_PID + self._count("pids")

    def remove(self, pid):
        """End a process."""
        shutil.rmtree("{}/{}".format(self.folder, pid), ignore_errors=True)

    def listen(self, pid, *addresses):
        """Have a process listen on (address, port) pairs, on none that it has listened on before."""
        process = "{}/{}".format(self.folder, pid)
        for name in os.listdir(process + "/fd"):
            os.unlink("{}/fd/{}".format(process, name))
        for table in ("tcp", "tcp6"):
            self._write(process + "/net/" + table, "  sl  local_address rem_address   st\n")
        for address, port in addresses:
            self._open(pid, (address, port), None, "0A")

    def connect(self, pid, address):
        """Give a process a connection from an address, beside a socket that it listens on."""
        local = "::" if ":" in address else "0.0.0.0"
        self._open(pid, (local, 22), None, "0A")
        self._open(pid, (local, 22), (address, 56668), "01")

    def _open(self, pid, local, remote, state):
        process = "{}/{}".format(self.folder, pid)
        inode = 4711 + self._count("sockets")
        os.symlink("socket:[{}]".format(inode), "{}/fd/{}".format(process, 3 + len(os.listdir(process + "/fd"))))
        six = ":" in local[0]
        remote = remote or ("::" if six else "0.0.0.0", 0)
        line = "  1: {}:{:04X} {}:{:04X} {} 00000000:00000000 00:00000000 00000000 0 0 {} 1\n".format(
            _digits(local[0]), local[1], _digits(remote[0]), remote[1], state, inode
        )
        with open(process + "/net/" + ("tcp6" if six else "tcp"), "a") as stream:
            stream.write(line)

    def _count(self, what):
        file = "{}/{}".format(self.folder, what)
        number = 0
        if os.path.exists(file):
            with open(file) as stream:
                number = int(stream.read())
        self._write(file, str(number + 1))
        return number

    @staticmethod
    def _write(file, text):
        with open(file, "w") as stream:
            stream.write(text)


def _digits(address):
    packed = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    return "".join("{:08X}".format(word) for word in struct.unpack("={}I".format(len(packed) // 4), packed))
