# cloud-init's own commands, as root on an ordinary machine. Check a file (cloud-init 22.2 and later): what is wrong, and where?
cloud-init schema --config-file user-data.yaml --annotate

# Enforce a policy now, from /etc/cloud/cloud.cfg.d. Sessions survive. The exit code is 1 if it cannot be enforced.
ssh-keepalive install
cp 95_ssh_keepalive.cfg /etc/cloud/cloud.cfg.d/
cloud-init single --name ssh_keepalive --frequency always

# Boot as a new instance, with the file as user-data. That brings all of a first boot, new host keys included.
mkdir -p /var/lib/cloud/seed/nocloud
cp user-data.yaml /var/lib/cloud/seed/nocloud/user-data
echo "instance-id: $(date +%s)" >/var/lib/cloud/seed/nocloud/meta-data
cloud-init clean
reboot
