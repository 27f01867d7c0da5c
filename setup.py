# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""Build and install cloud-init-ssh-keepalive: what there is to it is in setup.cfg."""

import configparser
import re
from pathlib import Path

from setuptools import setup

TOP = Path(__file__).resolve().parent


def long_description():
    """Return README, whose links lead to the page of setup.cfg: an index shows it without the files beside it."""
    config = configparser.ConfigParser()
    config.read(str(TOP / "setup.cfg"), encoding="utf-8")
    url = config.get("metadata", "url", fallback="")
    text = (TOP / "README.md").read_text(encoding="utf-8")
    # As GitHub has them: /raw/ for pictures, /blob/ for the rest. Until there is an address, they stay as they are.
    for before, view in ((r'src="', "raw"), (r"\]\((?![a-z]+:|#)", "blob")):
        text = re.sub(before, rf"\g<0>{url}/{view}/HEAD/", text) if url else text
    return text


setup(long_description=long_description())
