"""What people call a version of OpenSSH."""

import pytest
from ssh_keepalive.check.distributions import CODENAMES, DISTRIBUTIONS, version_of


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("9.2", (9, 2)),
        ("9.2p1", (9, 2)),
        ("debian-12", (9, 2)),
        ("rhel-9.8", (9, 9)),
        ("rocky-9.7", (8, 7)),
        ("almalinux-10", (9, 9)),
        ("OpenSSH_9.2p1 Debian-2+deb12u3, OpenSSL 3.0.15 3 Sep 2024", (9, 2)),
        ("OpenSSH_10.0p2", (10, 0)),
        ("1:9.2p1-2+deb12u3", (9, 2)),
        ("1:10.0p1-7~bpo12+1", (10, 0)),
        ("9.9p1-7.el9_8", (9, 9)),
        ("bookworm", (9, 2)),
        ("noble", (9, 6)),
        ("Debian 12", (9, 2)),
        ("debian12", (9, 2)),
        ("ubuntu24.04", (9, 6)),
        ("el8", (8, 0)),
        ("rhel8", (8, 0)),
        ("rocky9.8", (9, 9)),
        ("rhel-9", None),
        ("el", None),
        ("debian", None),
        ("debian-12\n", None),
        ("bookworm\n", None),
        ("24.04", None),
        ("25.10", None),
        ("3.24", None),
        ("15.6", None),
        ("9.2p1 -2", None),
        ("OpenSSH_for_Windows_9.5p1", None),
        ("9", None),
        ("9.2\n", None),
        ("9.2p", None),
        ("9.200", None),
        ("09.2", None),
        ("v9.2", None),
        ("٩.2", None),
        ("", None),
    ],
)
def test_versions_as_people_name_them(name, version):
    assert version_of(name) == version


def test_every_codename_is_of_a_release_that_is_known():
    assert set(CODENAMES.values()) <= set(DISTRIBUTIONS)


def test_every_distribution_has_a_version_of_its_own_or_another():
    assert len(DISTRIBUTIONS) > 15
    assert all(version_of(name) == version > (8, -1) for name, version in DISTRIBUTIONS.items())
