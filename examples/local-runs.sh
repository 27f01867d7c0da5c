# As root on an ordinary machine with cloud-init. Check a file: what is wrong, and in which line (cloud-init 22.2 on)?
cloud-init schema --config-file user-data.yaml --annotate

# Apply the policy now, from /etc/cloud/cloud.cfg.d; sessions survive, and the exit code is 1 if it cannot be enforced.
ssh-keepalive install
cp 95_ssh_keepalive.cfg /etc/cloud/cloud.cfg.d/
cloud-init single --name ssh_keepalive --frequency always

# Boot as a new instance with the file as its user-data. It gets all that a first boot brings, new host keys too.
mkdir -p /var/lib/cloud/seed/nocloud
cp user-data.yaml /var/lib/cloud/seed/nocloud/user-data
echo "instance-id: $(date +%s)" >/var/lib/cloud/seed/nocloud/meta-data
cloud-init clean
reboot
