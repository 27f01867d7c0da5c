# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""Build and install cloud-init-ssh-keepalive: what there is to it is in setup.cfg."""

from setuptools import setup

setup()
