#!/bin/sh
# Makes a Debian root whose machines know ssh_keepalive, with a default for all of them; qemu.sh boots it.
# Needs root, mmdebstrap, and ssh-keepalive on PATH. In the project's top folder, where README installs it in venv:
#     PATH=$PWD/venv/bin:$PATH examples/images/mmdebstrap.sh trixie FOLDER
# The hooks' own shells know what $1 is.
# shellcheck disable=SC2016
set -eu
here=$(cd "$(dirname "$0")" && pwd)
exec mmdebstrap --variant=apt \
    --include=systemd-sysv,linux-image-cloud-amd64,dbus,e2fsprogs,iproute2,locales,mount,netbase,passwd \
    --include=cloud-init,openssh-server,sudo \
    --customize-hook='rm -f "$1/etc/hostname" "$1/etc/resolv.conf" "$1"/etc/ssh/ssh_host_*' \
    --customize-hook='systemctl --root "$1" enable systemd-networkd' \
    --customize-hook='ssh-keepalive install --root "$1"' \
    --customize-hook="upload '$here/95_ssh_keepalive.cfg' /etc/cloud/cloud.cfg.d/95_ssh_keepalive.cfg" \
    "$@"
