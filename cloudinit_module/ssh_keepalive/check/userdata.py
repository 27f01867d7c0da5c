# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""User-data as clouds carry it, down to the section that cloud-init would hand to the module."""

import base64
import re
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from ..module_lists import LIST, LISTS, has_module
from ..policy import KEY, Path, closest
from . import document
from .document import DocumentError, Place, Scalar

# Decoded; clouds take 16 to 256 KiB.
MAX_BYTES = 4 << 20
# Of a part's name, which stands before each remark about the part
_LONGEST_NAME = 60

_CLOUD_CONFIG = "text/cloud-config"
_ARCHIVE = "text/cloud-config-archive"
_SCRIPT = "text/x-shellscript"
# cloudinit/handlers/__init__.py, INCLUSION_TYPES_MAP: what a text without a type of its own starts with, blanks and
# case aside, the longest first.
_STARTS = (
    ("#cloud-config-archive", _ARCHIVE),
    ("#cloud-config-jsonp", "text/cloud-config-jsonp"),
    ("## template: jinja", "text/jinja2"),
    ("#cloud-boothook", "text/cloud-boothook"),
    ("#include-once", "text/x-include-once-url"),
    ("#cloud-config", _CLOUD_CONFIG),
    ("#part-handler", "text/part-handler"),
    ("#include", "text/x-include-url"),
    ("#!", _SCRIPT),
)
_TEMPLATE = "a template (## template: jinja)"
_NOT_CHECKED = {
    "text/cloud-config-jsonp": "a JSON patch (#cloud-config-jsonp)",
    "text/jinja2": _TEMPLATE,
    "text/cloud-boothook": "a boothook (#cloud-boothook)",
    "text/x-include-once-url": "what #include-once fetches",
    "text/part-handler": "a part-handler (#part-handler)",
    "text/x-include-url": "what #include fetches",
    _SCRIPT: "a script",
}
# cloudinit/user_data.py, TYPE_NEEDED: the start tells. The first is that of a file without MIME.
_WHOLE = "text/x-not-multipart"
_UNTYPED = (_WHOLE, "text/plain", _SCRIPT)
# cloudinit/user_data.py, DECOMP_TYPES
_GZIP_TYPE = re.compile("application/(x-)?(gzip(-compressed|ped)?|compress(ed)?|gunzip)$")
_GZIP = b"\x1f\x8b"
# email.message.Message.get_payload
_ENCODINGS = ("base64", "quoted-printable", "x-uuencode", "uuencode", "uue", "x-uue")
# cloudinit/handlers/cloud_config.py
_MERGE_HEADERS = ("Merge-Type", "X-Merge-Type")
_DEFAULT_MERGE = "dict(replace)+list()+str()"

SOME_MACHINES = "not checked: which machines the launch-index means"
NOT_RENDERED = f"not checked: {_TEMPLATE}"
BASE64 = "base64 around all of it: not each datasource takes that off, and cloud-init would ignore it then"


class Part(NamedTuple):
    """Hold one of the texts in a file; the number is 0 if it is the only one."""

    number: int
    name: str
    text: str


class Remark(NamedTuple):
    """Say something about a place; without a place it is about the part, without a part about the file."""

    level: str
    message: str
    path: Path = ()
    part: Optional[Part] = None
    place: Optional[Place] = None


class _Named(NamedTuple):
    """Say where a list of modules is named, and whether ours is in it."""

    part: Part
    place: Place
    has_module: bool


class UserData(NamedTuple):
    """Hold what cloud-init would hand to the module, and the part that it comes from, None if there is no section."""

    section: Any
    part: Optional[Part]
    scalars: Dict[Path, Scalar]
    remarks: List[Remark]


class _RefusedError(ValueError):
    """Say why nothing of a file can be read."""


class _Typed(NamedTuple):
    """Hold a part as cloud-init would see it; `merge` and `launch` name a header, `written` is for one not encoded."""

    name: str
    kind: str
    content: bytes
    merge: str = ""
    launch: str = ""
    written: str = ""


def read(content: bytes) -> UserData:
    """Return the section in user-data; raise nothing, what is wrong is among the remarks."""
    remarks: List[Remark] = []
    parts: List[Tuple[Part, _Typed]] = []
    try:
        content = _unpacked(content, remarks)
        for typed in _parts(content):
            part = _part(0 if typed.content is content else len(parts) + 1, typed)
            if typed.kind == _ARCHIVE:
                for entry in _archived(part, remarks):
                    parts.append((_part(len(parts) + 1, entry), entry))
            else:
                parts.append((part, typed))
    except _RefusedError as error:
        remarks.append(Remark("error", str(error)))
    return _merged(parts, remarks)


def _part(number: int, typed: _Typed) -> Part:
    return Part(number, typed.name[:_LONGEST_NAME], typed.written or typed.content.decode("utf-8", "replace"))


def _merged(parts: List[Tuple[Part, _Typed]], remarks: List[Remark]) -> UserData:
    """Return the section of the last part that has one: cloud-init replaces a key with all that is in it."""
    nothing = UserData(None, None, {}, remarks)
    result = nothing
    is_known = True
    has_config = False
    lists: Dict[str, _Named] = {}
    for part, typed in parts:
        if typed.kind != _CLOUD_CONFIG:
            remarks += _not_config(part, typed)
            continue
        has_config = True
        config = _config(part, typed, remarks)
        if config is None:
            continue
        if typed.launch or "launch-index" in config:
            remarks.append(Remark("note", SOME_MACHINES, (), part))
        merge = _custom_merge(typed, config)
        for name in filter(config.__contains__, LISTS):
            key, use = config[name]
            is_ours_in_it = has_module(document.expand(use, (), {}))
            is_ours_in_it = is_ours_in_it or bool(merge and name in lists and lists[name].has_module)
            lists[name] = _Named(part, key.place, is_ours_in_it)
        if merge and KEY in config and (result.part or not is_known):
            message = f"not checked, since {merge} merges it with an earlier part's"
            remarks.append(Remark("note", message, (KEY,), part, config[KEY][0].place))
            is_known, result = False, nothing
            continue
        if merge:
            remarks.append(Remark("note", f"not checked: how {merge} merges it", (), part))
        if KEY not in config:
            remarks += _misspelled(part, config)
            continue
        key, use = config[KEY]
        if result.part:
            message = "part {} replaces it, by default cloud-init does not merge what is in a key: write it in one part"
            remark = Remark("warning", message.format(part.number), (KEY,), result.part)
            remarks.append(remark._replace(place=result.scalars[(KEY, "")].place))
        is_known = True
        scalars: Dict[Path, Scalar] = {}
        section = document.expand(use, (KEY,), scalars)
        scalars[(KEY, "")] = Scalar(key.place, KEY, None)
        result = UserData(section, part, scalars, remarks)
    if LIST in lists and not any(named.has_module for named in lists.values()):
        message = f"replaces the image's list, and cloud-init would not run {KEY}: add - [{KEY}] after ssh"
        remarks.append(Remark("warning", message, (LIST,), lists[LIST].part, lists[LIST].place))
    if has_config and is_known and not result.part and not any(remark.level == "error" for remark in remarks):
        remarks.append(Remark("note", f"no {KEY} in it"))
    return result


def _config(part: Part, typed: _Typed, remarks: List[Remark]) -> Optional[document.Entries]:
    """Return the keys of a part, None if cloud-init would ignore all of it."""
    try:
        top = document.parse(_yaml_text(typed))
        if top.node.kind == "scalar" and top.node.value is None:
            raise DocumentError(top.place, "nothing but comments, cloud-init ignores it with a warning")
        if top.node.kind != "mapping":
            raise DocumentError(top.place, "expected keys with values, cloud-init ignores anything else")
    except DocumentError as error:
        remarks.append(Remark("error", error.message, (), part, error.place))
        return None
    for path, place, line in document.duplicates(top.node):
        message = f"a second time, after line {line}: YAML keeps the last one only"
        remarks.append(Remark("error", message, path, part, place))
    for path, place, line in document.ambiguous(top.node):
        message = f"merged (<<) from line {line}, too: PyYAML's versions keep different ones, set it beside the <<"
        remarks.append(Remark("warning", message, path, part, place))
    return document.entries(top.node)


def _custom_merge(typed: _Typed, config: document.Entries) -> str:
    """Return the name of what sets another way of merging than the default for a part, "" without one."""
    for key in ("merge_how", "merge_type"):
        node = config[key][1].node if key in config else None
        if node and (node.items or node.value) and node.value != _DEFAULT_MERGE:
            return key
    return typed.merge


def _misspelled(part: Part, config: document.Entries) -> List[Remark]:
    close = closest(KEY, [key for key in config if isinstance(key, str)], 0.85)
    if close is None:
        return []
    return [Remark("error", f"unknown key, did you mean {KEY}?", (close,), part, config[close][0].place)]


def _not_config(part: Part, typed: _Typed) -> List[Remark]:
    """Return the remarks about a part that is not cloud-config."""
    if typed.kind not in (_WHOLE, "text/plain"):
        name = _NOT_CHECKED.get(typed.kind, f"a part of type {typed.kind}")
        return [Remark("note", f"not checked: {name}", (), part)]
    if not typed.content.strip():
        return []
    message = "the first line is not #cloud-config: cloud-init would ignore all of it"
    if part.text.startswith("\ufeff") or typed.content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        message = "a byte order mark hides #cloud-config from cloud-init: save it as UTF-8 without one"
    return [Remark("error", message, (), part, Place(1, 1, 0))]


def _unpacked(content: bytes, remarks: List[Remark]) -> bytes:
    """Return user-data without the base64 and the gzip around it."""
    _refuse_oversized(content)
    bare = _unbase64(content)
    if bare is not content:
        remarks.append(Remark("note", BASE64))
    content = _gunzipped(bare)
    if not content.strip():
        raise _RefusedError("empty")
    return content


def _refuse_oversized(content: bytes) -> None:
    if len(content) > MAX_BYTES:
        raise _RefusedError(f"more than {MAX_BYTES >> 20} MiB, not checked: clouds take 16 to 256 KiB")


def _unbase64(content: bytes) -> bytes:
    try:
        decoded = base64.b64decode(b"".join(content.split()), validate=True)
    except ValueError:
        return content
    # A word may look like base64, too.
    is_it = decoded[:2] == _GZIP or _is_mime(decoded) or _kind(decoded) is not None
    return decoded if is_it else content


def _gunzipped(content: bytes) -> bytes:
    if content[:2] != _GZIP:
        return content
    import gzip
    import io
    import zlib

    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
            unpacked = stream.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise _RefusedError(f"gzip that cannot be unpacked: {error}") from error
    _refuse_oversized(unpacked)
    return unpacked


def _is_mime(content: bytes) -> bool:
    # cloudinit/user_data.py, convert_string
    return b"mime-version:" in content[:4096].lower()


def _kind(content: bytes) -> Optional[str]:
    """Return the type that a text's start gives it."""
    start = content.decode("utf-8", "surrogateescape").lstrip()[:30].lower()
    return next((kind for prefix, kind in _STARTS if start.startswith(prefix)), None)


def _parts(content: bytes) -> Iterator[_Typed]:
    """Yield the parts of unpacked user-data, as cloudinit/user_data.py finds them."""
    if not _is_mime(content):
        yield _Typed("", _kind(content) or _WHOLE, content)
        return
    from . import mime

    try:
        message = mime.parse(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise _RefusedError(f"MIME with a byte that is not UTF-8, after {error.start} others") from error
    except mime.MimeError as error:
        raise _RefusedError(str(error)) from error
    parts = [part for part in message.walk() if not part.is_multipart()]
    parts = [part for part in parts if part.get_content_maintype() != "multipart"]
    if not parts:
        raise _RefusedError(
            "MIME multi-part in which no part is found: is its boundary the one that stands in the header?"
        )
    left = MAX_BYTES
    for part in parts:
        headers = dict(part.items())
        kind = part.get_content_type()
        written: Any = part.get_payload()
        body: Any = part.get_payload(decode=True)
        is_plain = str(part.get("Content-Transfer-Encoding", "")).strip().lower() not in _ENCODINGS
        if _GZIP_TYPE.match(kind):
            body, kind, is_plain = _gunzipped(body), "text/plain", False
        left -= len(body)
        if left < 0:
            raise _RefusedError(f"parts of more than {MAX_BYTES >> 20} MiB together, not checked")
        if kind in _UNTYPED:
            kind = _kind(body) or kind
        yield _Typed(
            str(part.get_filename() or ""),
            kind,
            body,
            _merge_header(headers),
            "Launch-Index" if "Launch-Index" in part else "",
            written if is_plain else "",
        )


def _merge_header(headers: Dict[Any, Any]) -> str:
    """Return the name of the header that sets another way of merging, "" without one."""
    return next((name for name in _MERGE_HEADERS if headers.get(name)), "")


def _archived(part: Part, remarks: List[Remark]) -> List[_Typed]:
    """Return the parts of a #cloud-config-archive (cloudinit/user_data.py, _explode_archive)."""
    try:
        top = document.parse(part.text)
        if top.node.kind != "sequence":
            raise DocumentError(top.place, "expected a list of parts")
    except DocumentError as error:
        remarks.append(Remark("error", error.message, (), part, error.place))
        return []
    found = []
    # Aliases repeat a text at no cost, and each is looked at anew.
    left = 10 * len(part.text) + 100000
    for index, use in enumerate(top.node.items):
        entry = document.expand(use, (), {})
        if isinstance(entry, str):
            entry = {"content": entry}
        content = entry.get("content", "") if isinstance(entry, dict) else None
        if isinstance(content, str):
            content = content.encode("utf-8", "surrogatepass")
        kind = entry.get("type") or "" if isinstance(entry, dict) else ""
        if not isinstance(content, bytes) or (kind and not re.match("[^/]+/[^/]+$", str(kind))):
            message = f"expected a text, or a mapping with content (a text) and type (such as {_CLOUD_CONFIG})"
            remarks.append(Remark("error", message, (index,), part, use.place))
            continue
        left -= len(content)
        if left < 0:
            message = "parts of more than ten times the file together, not checked"
            remarks.append(Remark("error", message, (index,), part, use.place))
            break
        found.append(
            _Typed(
                str(entry.get("filename") or ""),
                # Here, unlike in a file of its own, a text without a start is cloud-config.
                str(kind).lower() or _kind(content) or _CLOUD_CONFIG,
                content,
                _merge_header(entry),
                "launch-index" if "launch-index" in entry else "",
            )
        )
    return found


def _yaml_text(typed: _Typed) -> str:
    """Return the text that YAML gets; raise DocumentError where cloud-init has none to give it."""
    # email (3.6 to 3.14) hands out such characters as Latin-1 or as \u20ac, and cloud-init reads UTF-8.
    beyond = re.search("[^\x00-\x7f]", typed.written)
    if beyond:
        message = "a character outside ASCII, which cloud-init loses in MIME: encode the part with base64"
        raise DocumentError(document.place_after(typed.written[: beyond.start()]), message)
    try:
        return typed.content.decode("utf-8")
    except UnicodeDecodeError as error:
        before = typed.content[: error.start].decode("utf-8")
        message = f"byte 0x{typed.content[error.start]:02X} is not UTF-8"
        raise DocumentError(document.place_after(before), message) from error
