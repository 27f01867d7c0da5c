# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The sshd servers of this machine: found, asked, configured and restarted."""
