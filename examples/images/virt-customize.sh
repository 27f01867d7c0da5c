#!/bin/sh
# Puts the package (make package) and a default into a Debian image, which is not booted for that. Needs guestfs-tools:
#     ./virt-customize.sh debian-13-genericcloud-amd64.qcow2 ../../dist/cloud-init-ssh-keepalive_*_all.deb
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# virt-customize leaves a machine-id in the image, the same in all of them.
exec virt-customize --add "$1" \
    --upload "$2:/root/ssh-keepalive.deb" \
    --run-command 'dpkg --install /root/ssh-keepalive.deb && rm /root/ssh-keepalive.deb' \
    --upload "$here/95_ssh_keepalive.cfg:/etc/cloud/cloud.cfg.d/95_ssh_keepalive.cfg" \
    --truncate /etc/machine-id
