# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""What registers the module anew at a boot, before cloud-init reads its configuration, if that was changed."""

import hashlib
import os
from typing import List, Optional

from ..module_lists import LIST
from ..paths import (
    CLOUD_CFG,
    CLOUD_CFG_FOLDER,
    COMMAND,
    INIT_SCRIPT,
    MODULE_LIST,
    ORIGINAL,
    RUNTIME_CFG,
    RUNTIME_CFG_FOLDER,
)
from . import module_list
from .root import Root

# How lines begin by which a list tells what it was made from, and with which schema
_MADE_FROM, _SCHEMA = "Made from", "Schema"

# Programs of GNU, as wherever systemd is. Nothing is to be done if both are what they were; a schema that is not waits
# where it cannot be written. In the end it is the list that counts, in either place.
_SCRIPT = """\
is_made() {{ \\
        now=$(grep -lsZ -d skip {key} {cfg} {folder}/*.cfg {folder}/.*.cfg | sort -z | grep -zvxF {list} | \\
            xargs -0r sha256sum $2 2>/dev/null | tr -c "[:print:]\\n" "?"); \\
        for list in {list} {runtime}; do \\
            test "$now" && test "$now" = "$(sed -nE "s/^# ($1): //p" $list 2>/dev/null)" && return; \\
        done; \\
        return 1; \\
    }}; \\
    is_made "{made_from}|{schema}" "{file} {file}{original}" || \\
    {{ ! test -w {file} && is_made "{made_from}"; }} || \\
    {{ {command} register; is_made "{made_from}"; }}"""

# It holds up a boot for as long as it may take at most, and fails alone, only if the list is not right in the end.
_TEXT = """\
# Written by ssh-keepalive
[Unit]
Description=Bring cloud-init's list of modules up to date, with ssh_keepalive
DefaultDependencies=no
After=systemd-remount-fs.service
Before=cloud-init-local.service cloud-init-main.service shutdown.target
Conflicts=shutdown.target
RequiresMountsFor=/etc /usr

[Service]
Type=oneshot
# The order of names in shells is cloud-init's then.
Environment=LC_ALL=C
ExecStart=/bin/sh -c '{script}'
TimeoutStartSec=30
TimeoutStopSec=5
"""

# For init scripts, which know no time-out, and of which none makes this folder before
_DEFAULTS = """\
# Written by ssh-keepalive: cloud-init's init scripts read this, and the start of the first registers what was changed.
case "$0 $1" in *"{name} start")
    mkdir -p {run}
    LC_ALL=C timeout 30 /bin/sh -c '{script}' ;;
esac
"""


def render(schema: str) -> str:
    """Return the text of the unit; `schema` is the path of cloud-init's."""
    return _TEXT.format(script=_script(schema).replace("$", "$$").replace("%", "%%"))


def render_defaults(schema: str) -> str:
    """Return what cloud-init's init scripts are to read where there is no systemd."""
    return _DEFAULTS.format(name=os.path.basename(INIT_SCRIPT), run=RUNTIME_CFG_FOLDER, script=_script(schema))


def _script(schema: str) -> str:
    return _SCRIPT.format(
        key=LIST,
        cfg=CLOUD_CFG,
        folder=CLOUD_CFG_FOLDER,
        list=MODULE_LIST,
        file=schema,
        original=ORIGINAL,
        made_from=_MADE_FROM,
        schema=_SCHEMA,
        runtime=RUNTIME_CFG,
        command=COMMAND,
    )


def lines(root: Root, schema: Optional[str]) -> List[str]:
    """Return the lines by which a boot knows what a list was made from; `schema` is None if there is none yet."""
    schemas = [(file, root.read(file)) for file in (schema, f"{schema}{ORIGINAL}") if file and root.is_file(file)]
    return [
        f"# {what}: {_checksum(file, content)}"
        for what, files in ((_SCHEMA, schemas), (_MADE_FROM, module_list.sources(root)))
        for file, content in files
    ]


def _checksum(file: str, content: bytes) -> str:
    """Return what sha256sum says of a file, in ASCII: a comment in YAML may not hold all that a name may."""
    name = file.replace("\\", "\\\\").replace("\n", "\\n")
    escaped = "" if name == file else "\\"
    shown = "".join(chr(byte) if 32 <= byte < 127 else "?" for byte in os.fsencode(name))
    return f"{escaped}{hashlib.sha256(content).hexdigest()}  {shown}"
