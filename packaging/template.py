"""Write what templates become with the paths of ssh_keepalive, beside them: template.py FILE.in ...

@NAME@ is the value of NAME in ssh_keepalive.paths, of a tuple all of them. PYTHONPATH tells where that is. Who
publishes the packages, and where, is from setup.cfg.
"""

import configparser
import re
import shutil
import sys
from pathlib import Path
from typing import Dict, Match

from ssh_keepalive import paths

SETUP = Path(__file__).resolve().parents[1] / "setup.cfg"


def published() -> Dict[str, str]:
    """Return what setup.cfg says of maintainer and page, as packages have it, and nothing for what is not set."""
    setup = configparser.ConfigParser()
    setup.read(str(SETUP), encoding="utf-8")
    metadata = setup["metadata"]
    email, url = metadata.get("maintainer_email", ""), metadata.get("url", "")
    return {
        "MAINTAINER": metadata["maintainer"],
        "EMAIL": email,
        "ADDRESS": f" <{email}>" if email else "",
        "HOMEPAGE": f"\nHomepage: {url}" if url else "",
        "URL": f"\nURL:            {url}" if url else "",
    }


def fill(text: str) -> str:
    """Return the text of a template with each @NAME@ replaced; raise AttributeError for a name that is unknown."""

    known = published()

    def value(found: Match[str]) -> str:
        name = found.group(1)
        named = known[name] if name in known else getattr(paths, name)
        return named if isinstance(named, str) else " ".join(named)

    return re.sub("@([A-Z_]+)@", value, text)


if __name__ == "__main__":
    for template in map(Path, sys.argv[1:]):
        if template.suffix != ".in":
            sys.exit(f"{template}: no template, its name does not end with .in")
        file = template.with_suffix("")
        file.write_text(fill(template.read_text(encoding="utf-8")), encoding="utf-8")
        shutil.copymode(str(template), str(file))
