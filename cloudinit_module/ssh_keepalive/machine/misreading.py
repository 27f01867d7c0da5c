# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""A section that stands in user-data, and that cloud-init has not taken from it."""

import codecs
import re
from typing import NamedTuple, Optional

from .. import policy
from ..check import diagnostics, document, userdata
from ..check.userdata import Remark, UserData
from ..module_lists import LIST
from ..policy import KEY, Policy, PolicyError

# As a key of the top level: in the first column or in braces, and with a value that asks for something
_SECTION = re.compile(rf"^(?:\{{(?:.*,)?\s*)?[\"']?({KEY}[\"']?\s*:)(?!\s*(?:false|null|~)\s*$)", re.MULTILINE)
# Of what has no parts: as a key, and not in a comment
_ANYWHERE = re.compile(rf"^[^#\n]*\b({KEY}[\"']?\s*:)", re.MULTILINE)
_TEMPLATE = "a template that cloud-init could not render"
_CONDITION = "a template with conditions: whether it has the section once it is rendered is not known"
_BASE64 = "base64 around all of it, which cloud-init does not take off here"
_BY_ITSELF = "nothing is wrong in it, grep -i user.data /var/log/cloud-init.log may tell why"


class Misreading(NamedTuple):
    """Hold a section that cloud-init has ignored: where it is, why, and what to do.

    `policy` is what it asks for, None if it cannot be read or is refused. It is not `certain` that cloud-init should
    have read it where it may be meant for other machines.
    """

    source: str
    reason: str
    remedy: str
    policy: Optional[Policy]
    certain: bool = True


def find(source: str, file: str, content: bytes, is_taken: bool, refusal: str = "") -> Optional[Misreading]:
    """Return why a section in what cloud-init was handed is not in what it has made of that, None without a section.

    `is_taken` says that it has made something of it, and `refusal` why it takes none of it at all.
    """
    data = userdata.read(content)
    if data.part is None:
        found = _reason_nothing_was_read(data, content)
        if found is None or (found.message == _CONDITION and is_taken):
            return None
        asked = None
    else:
        if any(remark.message == userdata.SOME_MACHINES and remark.part is data.part for remark in data.remarks):
            # Others'
            return None
        try:
            asked = policy.parse(data.section)
            if asked is None:
                return None
        except PolicyError:
            asked = None
        is_base64 = any(remark.message == userdata.BASE64 for remark in data.remarks)
        reason = refusal or (_BASE64 if is_base64 else _BY_ITSELF)
        found = Remark("error", reason, (), data.part, data.scalars[(KEY, "")].place)
    remedy = f"ssh-keepalive apply {file}"
    if asked is None or diagnostics.has_errors(data.remarks):
        remedy = f"cp {file} FILE, correct that in FILE, then ssh-keepalive apply FILE"
    if found.message == _CONDITION:
        remedy = f"cloud-init devel render {file} shows what it becomes"
    reason = f"{diagnostics.where(file, found)}: {diagnostics.said(found)}"
    return Misreading(source, reason, remedy, asked, found.message != _CONDITION)


def place_of_list(file: str, content: bytes) -> str:
    """Return where what cloud-init was handed names a list of modules without ours, the file if that is not known."""
    remarks = userdata.read(content).remarks
    found = [remark for remark in remarks if remark.path == (LIST,) and remark.level == "warning"]
    return diagnostics.where(file, found[-1]) if found else file


def _reason_nothing_was_read(data: UserData, content: bytes) -> Optional[Remark]:
    # With others, such as a key that stands there twice, cloud-init takes a part.
    errors = [remark for remark in data.remarks if remark.level == "error" and not remark.path]
    encoding = "utf-16" if content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8"
    whole = content.decode(encoding, "replace")
    for error in errors:
        if error.part and _SECTION.search(error.part.text if encoding == "utf-8" else whole):
            return error
    for part in [remark.part for remark in data.remarks if remark.message == userdata.NOT_RENDERED]:
        section = part and _SECTION.search(part.text)
        if part and section and "#cloud-config" in part.text:
            place = document.place_after(part.text[: section.start(1)])
            return Remark("error", _CONDITION if "{%" in part.text else _TEMPLATE, (), part, place)
    if _ANYWHERE.search(whole):
        return next((error for error in errors if error.part is None), None)
    return None
