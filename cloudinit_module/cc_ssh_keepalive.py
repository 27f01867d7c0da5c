# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""SSH keepalive: have sshd disconnect dead clients and end idle sessions, from the first boot on."""

# Only the standard library here, and no attribute called schema: anything else aborts cloud-init's whole boot stage.
import logging

frequency = "once-per-instance"  # cloud-init up to 22.1 reads these two
distros = ["all"]
meta = {
    "id": "cc_ssh_keepalive",
    "name": "SSH keepalive",
    "title": "Disconnect dead SSH clients and end idle sessions",
    "description": "Have sshd enforce the times of ``ssh_keepalive``, and verify with sshd that they are in effect.",
    "distros": distros,
    "examples": ["ssh_keepalive:\n  unresponsive_timeout: 3m\n  idle_timeout: 15m\n"],
    "frequency": frequency,
    "activate_by_schema_keys": ["ssh_keepalive"],
}

LOG = logging.getLogger(__name__)


# cloud-init up to 23.1 passes five positions, later ones four keywords; five parameters count as deprecated there.
def handle(name, cfg, cloud=None, log=None, args=None, _compat=None):
    """Enforce the policy that the merged config asks for; raise PolicyError, SshdError or OSError if it cannot."""
    from ssh_keepalive import policy
    from ssh_keepalive.machine.apply import apply
    from ssh_keepalive.machine.host import Host

    asked = policy.parse(cfg.get("ssh_keepalive"))
    if asked is None:
        LOG.debug("ssh_keepalive is not in the configuration, nothing to do")
        return
    service = cloud.distro.get_option("ssh_svcname", "ssh")
    LOG.info("%s", apply(asked, Host((service,))))
