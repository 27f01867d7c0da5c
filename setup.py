# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""Build and install cloud-init-ssh-keepalive."""

import re
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "cloudinit_module/ssh_keepalive/__init__.py").read_text()).group(1)

setup(
    name="cloud-init-ssh-keepalive",
    version=VERSION,
    description="Have every cloud machine drop dead SSH clients from its first boot on",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0 OR GPL-3.0-only",
    package_dir={"": "cloudinit_module"},
    packages=["ssh_keepalive"],
    py_modules=["cc_ssh_keepalive"],
    package_data={"ssh_keepalive": ["*.json"]},
    entry_points={"console_scripts": ["ssh-keepalive = ssh_keepalive.cli:main"]},
    python_requires=">=3.6",
    # What cloud-init itself depends on, in the versions that its distributions have
    install_requires=["PyYAML", "jsonschema"],
    extras_require={
        "test": ["pytest>=7", "pytest-xdist", "build", "python-hcl2>=8", "hypothesis", "ansible-core>=2.16"],
        "mutants": ["mutmut==3.*"],
        "bench": ["matplotlib>=3.8"],
        "lint": ["ruff==0.17.*", "mypy", "vermin", "types-PyYAML", "types-jsonschema"],
    },
)
