# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The script that takes an instance's policy away when cloud-init clean runs it."""

from ..paths import BEGIN, END, MAIN, POLICY_FILES

_TEXT = """\
#!/bin/sh
# Written by ssh-keepalive: an instance's policy goes with its other traces, and the next first boot writes it anew.
# sshd is not restarted: until the shutdown that follows a clean it keeps what it has read, and loses no session.
{remove}
# A block whose end is gone is none: nothing of somebody else's must go with it.
begin='{begin}' end='{end}' main={main}
count() {{
    grep -csx "$1" "$main"
}}
if count "$begin" >/dev/null && [ "$(count "$begin")" = "$(count "$end")" ]; then
    sed -i "/^$begin\\$/,/^$end\\$/d" "$(readlink -f "$main")"
fi
"""


def render() -> str:
    """Return what a file in cloud-init's clean.d is to hold."""
    places = [file.rpartition("/")[::2] for file in POLICY_FILES]
    remove = "\n".join(f"rm -f {folder}/{name} {folder}/.{name}.*" for folder, name in places)
    return _TEXT.format(remove=remove, main=MAIN, begin=BEGIN, end=END)
