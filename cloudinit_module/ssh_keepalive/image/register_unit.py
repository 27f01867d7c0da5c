# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The unit that registers the module anew at a boot, before cloud-init reads its configuration, if that was changed."""

import hashlib
import os

from ..paths import CLOUD_CFG, CLOUD_CFG_FOLDER, COMMAND, MODULE_LIST, ORIGINAL, RUNTIME_CFG
from . import module_list
from .root import Root

# In the same words as checksum() below. Programs of GNU, as wherever systemd is; a name may hold anything but NUL.
_SCRIPT = """\
is_right() {{ \\
        now=$(grep -lsZ -d skip {key} {cfg} {folder}/*.cfg | grep -zvxF {list} | \\
            xargs -0 sha256sum -z {schema} {schema}{original} 2>/dev/null | sha256sum); \\
        grep -qsx "{made_from}${{now%% *}}" {list} {runtime}; \\
    }}; \\
    is_right || {{ {command} register; is_right; }}"""

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


def render(schema: str) -> str:
    """Return the text of the unit; `schema` is the path of cloud-init's."""
    script = _SCRIPT.format(
        key=module_list.LIST,
        cfg=CLOUD_CFG,
        folder=CLOUD_CFG_FOLDER,
        list=MODULE_LIST,
        schema=schema,
        original=ORIGINAL,
        made_from=module_list.MADE_FROM,
        runtime=RUNTIME_CFG,
        command=COMMAND,
    )
    return _TEXT.format(script=script.replace("$", "$$").replace("%", "%%"))


def checksum(root: Root, schema: str) -> str:
    """Return the checksum of what a registration depends on: the files that name a list, and both of the schema's."""
    schemas = [(file, root.read(file)) for file in (schema, schema + ORIGINAL) if root.is_file(file)]
    found = hashlib.sha256()
    for file, content in schemas + module_list.sources(root):
        found.update(b"%s  %s\0" % (hashlib.sha256(content).hexdigest().encode(), os.fsencode(file)))
    return found.hexdigest()
