# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""Where everything is on a machine, and the lines that mark what is ours in a file of somebody else's."""

# sshd's
SSH = "/etc/ssh"
MAIN = SSH + "/sshd_config"
# SUSE has its main file here alone: one in /etc/ssh would replace it.
VENDOR_MAIN = "/usr/etc/ssh/sshd_config"
DROP_IN_FOLDER = SSH + "/sshd_config.d"
# Privilege separation, sshd(8)
SSHD_RUN_FOLDER = "/run/sshd"
SSHD_PID_FILE = "/run/sshd.pid"
# Where init scripts of Debian, of EL and of OpenRC have options for sshd
SSHD_DEFAULTS = ("/etc/default/ssh", "/etc/sysconfig/sshd", "/etc/conf.d/sshd")

# The product's own, on a machine. The first of the drop-ins, and the last of the profiles: a readonly TMOUT of somebody
# else's is then there before ours.
DROP_IN_NAME = "00-ssh-keepalive.conf"
DROP_IN = DROP_IN_FOLDER + "/" + DROP_IN_NAME
PROFILE = "/etc/profile.d/zz-ssh-keepalive.sh"
LOCK = "/run/ssh-keepalive.lock"
RECORD = "/run/ssh-keepalive.json"
# What holds a policy, beside blocks in the main file. What is staged for FOLDER/NAME is FOLDER/.NAME.*, and for the
# main file it is named after the last one here, which is never there itself.
POLICY_FILES = (DROP_IN, PROFILE, SSH + "/" + DROP_IN_NAME)
BEGIN, END = "# BEGIN ssh-keepalive", "# END ssh-keepalive"
HEADER = "# Managed by cloud-init's cc_ssh_keepalive; change ssh_keepalive in user-data instead."
OLD_HEADER = (
    "# Written by cloud-init's cc_ssh_keepalive and overwritten by it: change ssh_keepalive in user-data instead."
)

# The product's own, in an image
COMMAND = "/usr/bin/ssh-keepalive"
PACKAGE, MODULE = "ssh_keepalive", "cc_ssh_keepalive"
# Where Pythons of a distribution have their folders, and others
LIBRARIES = ("/usr/lib", "/usr/lib64")
LOCAL_LIBRARIES = ("/usr/local/lib", "/usr/local/lib64")
# Of all Pythons of Debian and its derivatives
DEBIAN_PACKAGES = "/usr/lib/python3/dist-packages"
CLOUD_INIT_COMMAND = "/usr/bin/cloud-init"
LOCAL_CLOUD_INIT_COMMAND = "/usr/local/bin/cloud-init"
# Read in the order of their names; the last list of modules replaces all others (util.py, read_conf_with_confd).
CLOUD_CFG = "/etc/cloud/cloud.cfg"
CLOUD_CFG_FOLDER = "/etc/cloud/cloud.cfg.d"
MODULE_LIST = CLOUD_CFG_FOLDER + "/99_zz_ssh_keepalive.cfg"
# Overrides all of these; ds-identify writes the file at each boot, and the folder is there on a booted machine alone.
RUNTIME_CFG_FOLDER = "/run/cloud-init"
RUNTIME_CFG = RUNTIME_CFG_FOLDER + "/cloud.cfg"
# What cloud-init has of an instance: the data that it was handed, and what it has made of that
INSTANCE = "/var/lib/cloud/instance"
# What cloud-init clean runs, from 22.3 on; older ones have no such folder.
CLEAN_FOLDER = "/etc/cloud/clean.d"
CLEAN_SCRIPT = CLEAN_FOLDER + "/50-ssh-keepalive"
# Enabled by a link in /usr: a preset that disables all takes links in /etc away (systemd.preset(5)).
UNIT_FOLDERS = ("/usr/lib/systemd/system", "/lib/systemd/system")
UNIT = "ssh-keepalive-note.service"
# At each boot, and whenever sshd is started anew
UNIT_WANTED_BY = ("cloud-init.target.wants", "ssh.service.wants", "sshd.service.wants")
REGISTER_UNIT = "ssh-keepalive-register.service"
# At each boot, before cloud-init; one of the other unit's, so that both are looked for in the same folders
REGISTER_UNIT_WANTED_BY = UNIT_WANTED_BY[:1]
# Off systemd: Debian's init scripts of cloud-init read the second file as shell, the first of them is this one.
INIT, INIT_SCRIPT = "/sbin/init", "/etc/init.d/cloud-init-local"
INIT_SCRIPT_DEFAULTS = "/etc/default/cloud-init"
# cloud-init 22.2 and later; a path beside its own files, without an override (schema.py, get_schema_dir)
CLOUD_INIT_SCHEMA_FOLDER = "cloudinit/config/schemas"
CLOUD_INIT_SCHEMA = CLOUD_INIT_SCHEMA_FOLDER + "/schema-cloud-config-v1.json"
# What follows the name of that file where its original is: also where dpkg-divert has packages of cloud-init put it.
ORIGINAL = ".ssh-keepalive-original"
# Three lines for each: the file, where packages put it instead, and who has diverted it
DPKG_DIVERSIONS = "/var/lib/dpkg/diversions"
