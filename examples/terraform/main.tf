# User-data in several parts, for machines whose image has the module: terraform init && terraform apply
terraform {
  required_providers {
    cloudinit = {
      source  = "hashicorp/cloudinit"
      version = "~> 2.3"
    }
  }
}

# It renders gzip in base64, for user_data_base64 (AWS) or custom_data (Azure). Where plain text is wanted, in metadata
# or user_data of others: gzip = false and base64_encode = false.
data "cloudinit_config" "machine" {
  part {
    filename     = "machine.yaml"
    content_type = "text/cloud-config"
    content      = file("${path.module}/machine.yaml")
  }

  # Adds to the lists of the parts before it, runcmd for example.
  part {
    filename     = "role.yaml"
    content_type = "text/cloud-config"
    merge_type   = "list(append)+dict(recurse_array)+str()"
    content      = file("${path.module}/role.yaml")
  }

  # Last, in a part of its own and without a merge_type: cloud-init then takes the policy as it stands here, whole. Of two
  # parts with ssh_keepalive the later replaces the earlier; only what an image sets is overridden key by key.
  part {
    filename     = "ssh-keepalive.yaml"
    content_type = "text/cloud-config"
    content      = file("${path.module}/ssh-keepalive.yaml")
  }
}

# What `ssh-keepalive check` reads as it is: terraform output -raw user_data | ssh-keepalive check -
output "user_data" {
  value = data.cloudinit_config.machine.rendered
}
