#!/bin/sh
# Makes a Debian root whose machines know ssh_keepalive: kiwi runs this in it, when all packages and the files of the
# folder root are there. In the project's top folder, as root, with debootstrap and the package (make package):
#     cp -r examples/images/kiwi description
#     install -D -m 644 -t description/root/etc/cloud/cloud.cfg.d examples/images/95_ssh_keepalive.cfg
#     install -D -m 644 -t description/root/opt dist/*.deb
#     mkdir -p -m 700 ~/.gnupg    # without it kiwi cannot import the key of Debian's archive
#     kiwi-ng system build --description description --target-dir image
set -eu
dpkg --install /opt/cloud-init-ssh-keepalive_*.deb
rm /opt/cloud-init-ssh-keepalive_*.deb
# What these packages and the building machine have left; each machine is to make its own.
rm -f /etc/hostname /etc/ssh/ssh_host_* /var/lib/dbus/machine-id
: >/etc/machine-id
