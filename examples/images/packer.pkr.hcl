# Makes a Debian 13 image whose machines know ssh_keepalive, in a virtual machine. Needs packer, qemu-system-x86,
# qemu-utils, xorriso, a pair of ssh keys and the package (make package):
#     packer init FILE; packer build -var package=DEB -var ssh_key=PRIVATE_KEY FILE
packer {
  required_plugins {
    qemu = {
      source  = "github.com/hashicorp/qemu"
      version = "~> 1"
    }
  }
}

variable "package" {
  type = string
}

variable "ssh_key" {
  type = string
}

source "qemu" "debian" {
  iso_url      = "https://cloud.debian.org/images/cloud/trixie/latest/debian-13-genericcloud-amd64.qcow2"
  iso_checksum = "file:https://cloud.debian.org/images/cloud/trixie/latest/SHA512SUMS"
  disk_image   = true
  headless     = true
  cd_label     = "cidata"
  cd_content = {
    "meta-data" = "instance-id: packer\n"
    "user-data" = "#cloud-config\nssh_authorized_keys: ['${trimspace(file("${var.ssh_key}.pub"))}']\n"
  }
  ssh_username         = "debian"
  ssh_private_key_file = var.ssh_key
  # Remove the key that Packer logs in with, which cloud-init has given to root, too, and this machine's host keys.
  shutdown_command = "sudo rm -r ~/.ssh /root/.ssh /etc/ssh/ssh_host_*; sudo poweroff"
}

build {
  sources = ["source.qemu.debian"]

  # 1 is a failure. 2 is a boot that has ended with something to complain about (cloud-init 23.4 and later): no reason to
  # give up, and --long shows what it is. A policy that cannot be enforced is always 1.
  provisioner "shell" {
    inline           = ["cloud-init status --wait --long"]
    valid_exit_codes = [0, 2]
  }

  provisioner "file" {
    source      = var.package
    destination = "/tmp/cloud-init-ssh-keepalive.deb"
  }

  provisioner "file" {
    source      = "${path.root}/95_ssh_keepalive.cfg"
    destination = "/tmp/95_ssh_keepalive.cfg"
  }

  # The image's own sshd verifies that the default is in effect; then nothing of this machine stays in the image.
  provisioner "shell" {
    inline = [
      "sudo apt-get install -y /tmp/cloud-init-ssh-keepalive.deb",
      "sudo install -m 644 /tmp/95_ssh_keepalive.cfg /etc/cloud/cloud.cfg.d/",
      "sudo cloud-init single --name ssh_keepalive --frequency always",
      "sudo cloud-init clean --logs --machine-id --configs all",
    ]
  }
}
