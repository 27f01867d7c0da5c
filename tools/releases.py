"""Debian's releases, with what they bring."""

from __future__ import annotations

from typing import NamedTuple


class Release(NamedTuple):
    """A Debian release; the versions are what its newest packages print."""

    suite: str
    name: str
    cloud_init: str
    openssh: str
    python: str
    rolling: bool = False  # its versions rise; those given here are the least


RELEASES = {
    release.suite: release
    for release in (
        Release("bullseye", "Debian 11", cloud_init="20.4", openssh="8.4", python="3.9"),
        Release("bookworm", "Debian 12", cloud_init="22.4", openssh="9.2", python="3.11"),
        Release("trixie", "Debian 13", cloud_init="25.1", openssh="10.0", python="3.13"),
        Release("forky", "Debian testing", cloud_init="26.2", openssh="10.6", python="3.14", rolling=True),
    )
}

# Releases whose OpenSSH comes from backports.
BACKPORTS = {
    release.suite: release
    for release in (
        RELEASES["bookworm"]._replace(suite="bookworm-backports", name="Debian 12 backports", openssh="10.0"),
        RELEASES["trixie"]._replace(suite="trixie-backports", name="Debian 13 backports", openssh="10.3"),
    )
}

# A release of another architecture, whose programs this one's kernel runs as well.
FOREIGN = {"bookworm-i386": RELEASES["bookworm"]._replace(suite="bookworm-i386", name="Debian 12 on i386")}
