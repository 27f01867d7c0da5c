#!/bin/sh
# Boots the root that mmdebstrap.sh made as a new virtual machine, with user-data from a NoCloud seed; Ctrl-A X ends it.
# Needs root, cloud-image-utils and qemu-system-x86:  ./qemu.sh FOLDER USER_DATA -accel kvm
# The files in ../user-data have no key to log in with. Add your own to a copy, as ssh_authorized_keys: [KEY], and then:
#     ssh -p 2222 debian@localhost
set -eu
root=$1 user_data=$2
shift 2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mke2fs -q -t ext4 -d "$root" "$work/disk" 4G
printf 'instance-id: %s\n' "i-$(date +%s)" >"$work/meta-data"
cloud-localds "$work/seed" "$user_data" "$work/meta-data"
qemu-system-x86_64 -machine q35 -cpu max -smp 2 -m 1G -nographic -no-reboot \
    -kernel "$root/vmlinuz" -initrd "$root/initrd.img" -append "root=/dev/vda rw console=ttyS0" \
    -drive "file=$work/disk,format=raw,if=virtio,cache=unsafe" \
    -drive "file=$work/seed,format=raw,if=virtio,readonly=on" \
    -nic user,model=virtio,hostfwd=tcp:127.0.0.1:2222-:22 "$@"
