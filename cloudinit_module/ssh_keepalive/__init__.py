# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""Keep an SSH keepalive policy on a cloud machine."""

__version__ = "0.1.0"
