# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""What distributions have of OpenSSH, and what people call a version of it."""

import re
from typing import Optional

from ..openssh import Version, parse_version

# For those who write user-data elsewhere: what one has added to it only its sshd can tell. Where one has gone to
# another version, its releases are named. Debian's were seen on machines. The others' are from
# - names of packages: Ubuntu's 8.2p1-4ubuntu0.11, 8.9p1-3ubuntu0.17, 9.6p1-3ubuntu13.19 and 10.2p1-2ubuntu3.6, those of
#   Red Hat and its rebuilds, 8.0p1-25, 8.7p1-49.el9_7, 9.9p1-7.el9_8 and 9.9p1-28.el10_2, Fedora's 9.9p1-10.fc42;
# - SUSE-SU-2024:2308-1 (9.6p1-150600.3.3.1), whose package openSUSE Leap has, too;
# - Amazon's release notes 2023.10.20260216 (8.7p1-8) and 2023.12.20260817 (9.9p1-10); pkgs.alpinelinux.org.
DISTRIBUTIONS = {
    "alpine-3.23": (10, 2),
    "alpine-3.24": (10, 3),
    "amazon-2023.10": (8, 7),
    "amazon-2023.12": (9, 9),
    "debian-11": (8, 4),
    "debian-12": (9, 2),
    "debian-13": (10, 0),
    "fedora-42": (9, 9),
    "opensuse-leap-15.6": (9, 6),
    "rhel-8": (8, 0),
    "rhel-9.7": (8, 7),
    "rhel-9.8": (9, 9),
    "rhel-10": (9, 9),
    "sles-15.6": (9, 6),
    "ubuntu-20.04": (8, 2),
    "ubuntu-22.04": (8, 9),
    "ubuntu-24.04": (9, 6),
    "ubuntu-26.04": (10, 2),
}
# Rebuilt from Red Hat's sources, or as their packages say
_LIKE_RHEL = re.compile("^(almalinux|alma|rocky|el)(?=[0-9])")
# As apt's sources and /etc/os-release say
CODENAMES = {
    "bullseye": "debian-11",
    "bookworm": "debian-12",
    "trixie": "debian-13",
    "focal": "ubuntu-20.04",
    "jammy": "ubuntu-22.04",
    "noble": "ubuntu-24.04",
    "resolute": "ubuntu-26.04",
}
# Upstream's, or a package's: 1:9.2p1-2+deb12u3, 9.9p1-7.el9_8
# OpenSSH's minor numbers have one digit; 25.10 and 15.6 are distributions'.
_PACKAGE = re.compile(r"([0-9]+:)?(([1-9]|10)\.[0-9])(p[0-9]+)?([-+~][^\s]*)?$(?!\n)")


def version_of(name: str) -> Optional[Version]:
    """Return the version that a name means, None without one.

    It may be upstream's or a package's, what `ssh -V` prints, a distribution with its release, or a codename.
    """
    package = _PACKAGE.match(name)
    if package:
        return parse_version("OpenSSH_" + package.group(2))
    lower = name.lower()
    release = _LIKE_RHEL.sub("rhel", re.sub("[- ]", "", CODENAMES.get(lower, lower)))
    named = (version for one, version in DISTRIBUTIONS.items() if one.replace("-", "") == release)
    return next(named, parse_version(name) if name.startswith("OpenSSH_") else None)
