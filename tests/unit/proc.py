"""A temporary /proc."""

import os
import socket
import struct
import time


class Proc:
    """Hold processes in a folder as proc(5) has them."""

    def __init__(self, folder):
        self.folder = folder
        # In which namespace the one who asks is
        (folder / "self/ns").mkdir(parents=True)
        (folder / "self/ns/pid").symlink_to("pid:[1]")

    def add(self, pid, parent, title, began=None, uid=0, exe="/usr/sbin/sshd", namespace=None):
        """Put a process there; it began at a time in seconds since the epoch."""
        booted = time.time() - time.clock_gettime(7)
        ticks = int(((began or time.time()) - booted) * os.sysconf("SC_CLK_TCK"))
        process = self.folder / str(pid)
        (process / "fd").mkdir(parents=True)
        (process / "ns").mkdir()
        (process / "net").mkdir()
        (process / "exe").symlink_to(exe)
        (process / "ns/pid").symlink_to(namespace or "pid:[1]")
        (process / "stat").write_text("{} (a) b) S {} {} {} 0\n".format(pid, parent, " ".join(["7"] * 17), ticks))
        (process / "status").write_text("Name:\tsshd\nUid:\t{0}\t{0}\t{0}\t{0}\n".format(uid))
        (process / "cmdline").write_text(title.replace(" ", "\0") + "\0")
        return process

    def connect(self, pid, address, inode):
        """Give a process a connection from an address."""
        process = self.folder / str(pid)
        (process / "fd/3").symlink_to("/dev/null")
        (process / "fd/4").symlink_to("socket:[{}]".format(inode))
        six = ":" in address
        packed = socket.inet_pton(socket.AF_INET6 if six else socket.AF_INET, address)
        words = struct.unpack("={}I".format(len(packed) // 4), packed)
        remote = "".join("{:08X}".format(word) for word in words)
        line = "  {}: 0:0016 {}:DD5C {} 0:0 0:0 0 0 0 {} 1\n"
        table = "  sl  local_address rem_address   st\n"
        table += line.format(0, "0" * len(remote), "0A", inode) + line.format(1, remote, "01", inode)
        (process / "net/tcp").write_text("" if six else table)
        (process / "net/tcp6").write_text(table if six else "")
