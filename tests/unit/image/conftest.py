"""An image with cloud-init, in a temporary folder."""

import pytest
from images import FILES, OLD, SCHEMA, make
from ssh_keepalive.image.root import Root


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "root"
    make(root, FILES)
    return root


@pytest.fixture
def root(folder):
    return Root(str(folder))


@pytest.fixture
def schema(folder):
    """The schema of a cloud-init that has one."""
    make(folder, {SCHEMA: OLD})
    (folder / SCHEMA).chmod(0o640)
    return folder / SCHEMA


@pytest.fixture
def units(folder):
    """The folder for units of an image with systemd."""
    make(folder, {"usr/lib/systemd/system/cloud-init.target": ""})
    return folder / "usr/lib/systemd/system"


@pytest.fixture
def clean_d(folder):
    """The folder of a cloud-init whose clean runs scripts."""
    make(folder, {"etc/cloud/clean.d/README": ""})
    return folder / "etc/cloud/clean.d"
