"""Never a traceback, and never another value than cloud-init's YAML, whatever is in a file."""

import contextlib
import gzip

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ssh_keepalive.check import diagnostics, document
from user_data_files import FILES, HEAD

SMALL = [file.content for file in FILES if len(file.content) < 5000]
PIECES = [
    *(
        "ab",
        "cd",
        ": ",
        ":",
        "- ",
        "\n",
        "\n  ",
        " ",
        "{",
        "}",
        "[",
        "]",
        ", ",
        "&x ",
        "*x",
        "<<: ",
        "? ",
        "!!int ",
        "!y ",
    ),
    *(
        "'",
        '"',
        "1:30",
        "010",
        "yes",
        "~",
        "=",
        "# c",
        "|\n",
        ">-\n",
        "---",
        "...",
        "%YAML 1.1\n",
        "\t",
        "\r\n",
        "é",
        "\0",
    ),
    *("ssh_keepalive:", "2024-01-01", "\u2028", "\x85", "\ufeff"),
]


def shown(content):
    remarks = diagnostics.diagnose(content)
    text = diagnostics.as_text("f", remarks)
    assert text.replace("\n", "").isprintable()
    diagnostics.as_json("f", remarks)
    return remarks


def in_order(value):
    """Return a value whose keys are in an order that no merge key changes."""
    if isinstance(value, dict):
        return sorted(((key, in_order(item)) for key, item in value.items()), key=repr)
    return [in_order(item) for item in value] if isinstance(value, list) else value


@given(st.binary())
def test_any_bytes(content):
    for start in (b"", b"#cloud-config\n", HEAD.encode(), b"#cloud-config-archive\n", b"\x1f\x8b\x08"):
        shown(start + content)
    shown(gzip.compress(content))


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.sampled_from(SMALL), st.lists(st.tuples(st.integers(0), st.binary(max_size=4) | st.none()), max_size=5))
def test_files_that_were_damaged(content, changes):
    for at, piece in changes:
        at %= len(content) + 1
        content = content[:at] + (content[at + 3 :] if piece is None else piece + content[at:])
    shown(content)


@settings(max_examples=1500, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=25).map("".join))
def test_yaml_is_read_as_by_cloud_init(text):
    try:
        expected = yaml.safe_load(text)
    except Exception:
        expected = None
    with contextlib.suppress(document.DocumentError):
        top = document.parse(text)
        if not document.ambiguous(top.node):
            assert repr(in_order(document.expand(top, (), {}))) == repr(in_order(expected))
        return
    # What only we refuse: recursion
    assert expected is None or "*x" in text
