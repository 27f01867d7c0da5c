# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""What registers the module anew at a boot, before cloud-init reads its configuration, if that was changed."""

import hashlib
import os
from typing import Iterable, Tuple

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

_MADE_FROM, _WITH_SCHEMA = "# Made from: ", "# With the schema: "

# In the same words as made_from() and with_schema(). Programs of GNU, as wherever systemd is. A schema that waits for a
# /usr that can be written does not hold up a boot again and again.
_SCRIPT = """\
is_listed() {{ \\
        now=$(grep -lsZ -d skip {key} {cfg} {folder}/*.cfg | grep -zvxF {list} | \\
            xargs -0r sha256sum -z | sha256sum); \\
        grep -qsx "{made_from}${{now%% *}}" {list} {runtime}; \\
    }}; \\
    is_known() {{ \\
        now=$(sha256sum -z {schema} {schema}{original} 2>/dev/null | sha256sum); \\
        grep -qsx "{with_schema}${{now%% *}}" {list} {runtime} || ! test -w {schema}; \\
    }}; \\
    is_listed && is_known || {{ {command} register; is_listed; }}"""

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
# Written by ssh-keepalive: cloud-init's init scripts read this, and the first one registers anew what was changed.
case $0 in *{name})
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
        key=module_list.LIST,
        cfg=CLOUD_CFG,
        folder=CLOUD_CFG_FOLDER,
        list=MODULE_LIST,
        schema=schema,
        original=ORIGINAL,
        made_from=_MADE_FROM,
        with_schema=_WITH_SCHEMA,
        runtime=RUNTIME_CFG,
        command=COMMAND,
    )


def made_from(root: Root) -> str:
    """Return the line by which the unit knows the files that a list was made from."""
    return _MADE_FROM + _checksum(module_list.sources(root))


def with_schema(root: Root, schema: str) -> str:
    """Return the line by which it knows both of cloud-init's schema."""
    return _WITH_SCHEMA + _checksum(
        [(file, root.read(file)) for file in (schema, schema + ORIGINAL) if root.is_file(file)]
    )


def _checksum(files: Iterable[Tuple[str, bytes]]) -> str:
    found = hashlib.sha256()
    for file, content in files:
        found.update(b"%s  %s\0" % (hashlib.sha256(content).hexdigest().encode(), os.fsencode(file)))
    return found.hexdigest()
