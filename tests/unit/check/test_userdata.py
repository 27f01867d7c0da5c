"""What is read from user-data, and what it says of it; the table is in user_data_files.py."""

import base64
import gzip
import resource

import pytest
import yaml
from ssh_keepalive.check import diagnostics, distributions, userdata
from user_data_files import BAD, FILES, GOOD, config, mime


@pytest.mark.parametrize("file", FILES, ids=[file.name for file in FILES])
def test_what_is_said_of_a_file(file):
    remarks = diagnostics.diagnose(file.content, distributions.version_of(file.openssh))
    text = diagnostics.as_text("FILE", remarks)
    assert [line for line in text.splitlines() if not line.startswith("    ")] == ["FILE" + line for line in file.said]
    assert int(diagnostics.has_errors(remarks)) == file.code


def test_the_table_is_long_and_names_are_unique():
    assert len({file.name for file in FILES}) == len(FILES) > 40


def test_the_last_part_replaces_the_section_with_all_that_is_in_it():
    first = "#cloud-config\nssh_keepalive: {tcp_keep_alive: true, client_alive_interval: 60}\n"
    data = userdata.read(mime(config(first), config("hostname: a"), config(GOOD)))
    assert data.section == {"unresponsive_timeout": "3m"}
    assert data.part.number == 3


def test_a_later_default_part_settles_what_a_custom_one_left_open():
    data = userdata.read(mime(config(BAD), config(BAD + "merge_how: dict(recurse_dict)\n"), config(GOOD)))
    assert data.section == {"unresponsive_timeout": "3m"}


@pytest.mark.parametrize("value", ["[]", "null", "''", "dict(replace)+list()+str()"])
def test_a_merge_how_that_is_the_default_is_one(value):
    data = userdata.read(mime(config(BAD), config(GOOD + "merge_how: {}\n".format(value))))
    assert data.section == {"unresponsive_timeout": "3m"}
    assert [remark.level for remark in data.remarks] == ["warning"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1:30", 90),
        ("010", 8),
        ("0x3c", 60),
        ("0b11", 3),
        ("1_000", 1000),
        ("+60", 60),
        ("yes", True),
        ("Off", False),
        ("none", "none"),
        ("~", None),
        ("60.0", 60.0),
        ("1e3", "1e3"),
        ("'1:30'", "1:30"),
        ("089", "089"),
        ("!!str 60", "60"),
        ("!!binary YQ==", b"a"),
        ("[1, {a: b}]", [1, {"a": "b"}]),
    ],
)
def test_a_value_is_what_cloud_init_sees(text, value):
    assert yaml.safe_load(text) == value
    assert userdata.read("#cloud-config\nssh_keepalive: {}\n".format(text).encode()).section == value


# Names of one letter are one object in CPython, and PyYAML 6.0.4 goes by objects.
MERGED = """\
#cloud-config
base: &base {one: 1, two: 2}
other: &other {two: 3, three: 4}
ssh_keepalive: %s
"""
# Versions of PyYAML: https://github.com/yaml/pyyaml/issues/953
LAST_MERGED_WINS = {"6.0.4"}


@pytest.mark.parametrize(
    "section",
    [
        "{<<: *base}",
        "{<<: [*base, *other], two: 0}",
        "{<<: [*other, *base], one: 0, two: 0}",
        "{<<: [*base, *base]}",
        "{<<: *base, <<: *other}",
        "{two: 0, <<: *base}",
        "{<<: {<<: *base, one: 7}, ten: 1}",
        "{=: 1}",
        "*other",
    ],
)
def test_merge_keys_give_what_cloud_init_sees(section):
    text = MERGED % section
    assert userdata.read(text.encode()).section == yaml.safe_load(text)["ssh_keepalive"]


@pytest.mark.parametrize(
    ("section", "value"),
    [
        ("{<<: [*base, *other]}", {"one": 1, "two": 2, "three": 4}),
        ("{<<: [*other, *base], one: 0}", {"one": 0, "two": 3, "three": 4}),
        ("{<<: [*base, {<<: *base, two: 5}]}", {"one": 1, "two": 2}),
    ],
)
def test_a_key_of_two_merged_mappings_is_the_first_one_s_and_told(section, value):
    text = MERGED % section
    data = userdata.read(text.encode())
    assert data.section == value
    assert (yaml.safe_load(text)["ssh_keepalive"] == value) == (yaml.__version__ not in LAST_MERGED_WINS)
    (remark,) = data.remarks
    assert (remark.level, remark.path) == ("warning", ("ssh_keepalive", "two"))


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("{<<: [*base, *other]}", [(3, 16, 2)]),
        ("{<<: [*other, *base], one: 0}", [(2, 22, 3)]),
        ("{<<: [*base, *other], two: 0}", []),
        ("{<<: [*base, *base]}", []),
        ("{<<: *base, <<: *other}", [(3, 16, 2)]),
        ("{<<: {<<: *base, two: 3}}", []),
        ("{match: [{<<: [*base, *other]}, {<<: [*base]}]}", [(3, 16, 2)]),
    ],
)
def test_where_a_key_of_two_merged_mappings_is_told(section, said):
    data = userdata.read((MERGED % section).encode())
    message = "merged (<<) from line {}, too: PyYAML's versions keep different ones, set it beside the <<"
    assert [(remark.place[:2], remark.message) for remark in data.remarks] == [
        ((line, column), message.format(first)) for line, column, first in said
    ]


def chain(count):
    """Return a text whose merge keys double what is merged with each line."""
    lines = ["b{0}: &b{0} {{<<: [*b{1}, *b{1}]}}\n".format(i, i - 1) for i in range(1, count)]
    return "b0: &b0 {x: 1}\n" + "".join(lines)


BOMBS = {
    "deep-lists": b"a: " + b"[" * 4000000,
    "deep-mappings": b"{a: " * 1000000,
    "deep-dashes": b"- " * 2000000,
    "many-values": b"k: v\n" * 800000,
    "many-aliases": b"a: &a [" + b"1," * 100 + b"]\nb: [" + b"*a," * 100000 + b"]\n",
    "merge-keys": chain(40).encode(),
    "alias-chain": (
        "a0: &a0 [1]\n" + "".join("a{0}: &a{0} [*a{1}]\n".format(i, i - 1) for i in range(1, 5000))
    ).encode(),
    "digits": b"a: 1" + b":59" * 1000000,
    "nul-bytes": b"\0" * 4000000,
    "one-long-line": b"a: '" + b"A " * 2000000,
    "tags": b"a: " + b"!" * 1000000,
    "tabs": b"\t" * 4000000,
}
# What would take hours if it were looked at more than once
WORDS = {
    "blanks-after-a-word": b"a" + b" " * 4000000 + b"!",
    "lines-before-a-word": b"\n" * 4000000 + b"!",
    "almost-base64": b"MIME" * 1000000 + b"!",
}


@pytest.mark.skipif(not yaml.__with_libyaml__, reason="it is what makes these fast")
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_in_bounded_memory(name):
    remarks = diagnostics.diagnose(b"#cloud-config\n" + BOMBS[name])
    assert [remark.level for remark in remarks] == ["error"]
    assert len(diagnostics.as_text("f", remarks)) < 3000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 1 << 20  # in KiB


@pytest.mark.parametrize("name", WORDS)
def test_what_might_be_base64_is_looked_at_once(name):
    (remark,) = diagnostics.diagnose(WORDS[name])
    assert remark.message.startswith("the first line is not #cloud-config")


NESTED = "Content-Type: multipart/mixed; boundary=X{0}\n\n--X{0}\n"


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ('X: "' + ';\\"' * 331, None),
        ('X: "' + ';\\"' * 332, "a MIME header of more than 1000 characters, not checked"),
        ("X: a\n" + " b\n" * 400, "a MIME header of more than 1000 characters, not checked"),
        ("".join(map(NESTED.format, range(10))), None),
        ("".join(map(NESTED.format, range(11))), "MIME nested more than 10 deep, not checked"),
        ("".join(map(NESTED.format, range(5000))), "MIME nested more than 10 deep, not checked"),
        ("Content-Type: message/rfc822\n\n" * 11, "MIME nested more than 10 deep, not checked"),
    ],
)
def test_what_the_mime_parser_is_slow_for_is_refused(header, message):
    content = "MIME-Version: 1.0\n" + header + "\nContent-Type: text/cloud-config\n\n" + GOOD
    refusals = [remark.message for remark in diagnostics.diagnose(content.encode()) if "not checked" in remark.message]
    assert refusals == ([message] if message else [])


def test_mime_bombs_are_refused():
    head = b"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=X\n\n"
    many = userdata.read(head + b"--X\n\n" + b"\n" * 600000)
    assert [remark.message for remark in many.remarks] == ["MIME of more than 500000 lines, not checked"]
    returns = userdata.read(head + b"--X\n\n" + b"\r" * 600000)
    assert [remark.message for remark in returns.remarks] == ["MIME of more than 500000 lines, not checked"]
    body = base64.b64encode(gzip.compress(b"a" * (3 << 20))).decode()
    part = "Content-Type: application/gzip\nContent-Transfer-Encoding: base64", body
    together = userdata.read(mime(part, part))
    assert together.remarks[0].message == "parts of more than 4 MiB together, not checked"


def test_an_archive_that_repeats_a_text_is_refused():
    text = b"#cloud-config-archive\n- &a " + b"x" * 5000 + b"\n" + b"- *a\n" * 5000
    remarks = userdata.read(text).remarks
    assert "parts of more than ten times the file together, not checked" in [remark.message for remark in remarks]


def test_without_libyaml_it_reads_the_same_but_not_the_longest(monkeypatch):
    monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    assert userdata.read(GOOD.encode()).section == {"unresponsive_timeout": "3m"}
    remarks = diagnostics.diagnose(b"#cloud-config\n" + b"#" * 600000)
    assert [remark.message for remark in remarks] == [
        "more than 512 KiB, not checked: it requires libyaml, in PyYAML and for the characters in it"
    ]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("3", "expected a text, or a mapping with content (a text) and type (such as text/cloud-config)"),
        ("{content: [a]}", "expected a text, or a mapping with content (a text) and type (such as text/cloud-config)"),
        (
            "{content: a, type: b}",
            "expected a text, or a mapping with content (a text) and type (such as text/cloud-config)",
        ),
    ],
)
def test_an_archive_entry_that_is_none(entry, message):
    data = userdata.read("#cloud-config-archive\n- {}\n".format(entry).encode())
    assert [(remark.message, remark.path, remark.place.line) for remark in data.remarks] == [(message, (0,), 2)]


def test_a_word_that_could_be_base64_is_none():
    assert diagnostics.diagnose(b"true")[0].message.startswith("the first line is not #cloud-config")
