"""Write what templates become with the paths of ssh_keepalive, beside them: template.py FILE.in ...

@NAME@ is the value of NAME in ssh_keepalive.paths, of a tuple all of them. PYTHONPATH tells where that is.
"""

import re
import shutil
import sys
from pathlib import Path
from typing import Match

from ssh_keepalive import paths


def fill(text: str) -> str:
    """Return the text of a template with each @NAME@ replaced; raise AttributeError for a name that is unknown."""

    def value(found: Match[str]) -> str:
        named = getattr(paths, found.group(1))
        return named if isinstance(named, str) else " ".join(named)

    return re.sub("@([A-Z_]+)@", value, text)


if __name__ == "__main__":
    for template in map(Path, sys.argv[1:]):
        if template.suffix != ".in":
            sys.exit(f"{template}: no template, its name does not end with .in")
        file = template.with_suffix("")
        file.write_text(fill(template.read_text(encoding="utf-8")), encoding="utf-8")
        shutil.copymode(str(template), str(file))
