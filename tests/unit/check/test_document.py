"""A YAML document: its values, where they stand, and what is refused, with either of PyYAML's parsers."""

import pytest
import yaml
from ssh_keepalive.check import document
from ssh_keepalive.check.document import DocumentError, Place


@pytest.fixture(params=["libyaml", "python"])
def parser(request, monkeypatch):
    """Have a document read by libyaml, or by the parser that PyYAML has without it."""
    if request.param == "python":
        monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    elif not yaml.__with_libyaml__:
        pytest.skip("this PyYAML is without libyaml")
    return request.param


def read(text):
    """Return the value of a document, and where everything in it stands."""
    scalars = {}
    value = document.expand(document.parse(text), (), scalars)
    return value, scalars


def places(text):
    """Return the places of all keys and values, by path; a key's path ends with ""."""
    return {path: tuple(scalar.place) for path, scalar in read(text)[1].items() if path}


def refusal(text):
    """Return where and why a document is refused."""
    with pytest.raises(DocumentError) as caught:
        document.parse(text)
    assert str(caught.value) == caught.value.message
    return tuple(caught.value.place), caught.value.message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: b", {("a", ""): (1, 1, 2), ("a",): (1, 4, 5)}),
        ("a: 'b c' # d\n", {("a", ""): (1, 1, 2), ("a",): (1, 4, 9)}),
        ("a:\n", {("a", ""): (1, 1, 2), ("a",): (1, 3, 3)}),
        ("---\na: 1\n...\n", {("a", ""): (2, 1, 2), ("a",): (2, 4, 5)}),
        ("? a\n: b\n", {("a", ""): (1, 3, 4), ("a",): (2, 3, 4)}),
        ("- a\n- b\n", {(0,): (1, 3, 4), (1,): (2, 3, 4)}),
        (
            "a: {b: 1, c: [x, 2]}",
            {
                ("a", ""): (1, 1, 2),
                ("a",): (1, 4, 21),
                ("a", "b", ""): (1, 5, 6),
                ("a", "b"): (1, 8, 9),
                ("a", "c", ""): (1, 11, 12),
                ("a", "c"): (1, 14, 20),
                ("a", "c", 0): (1, 15, 16),
                ("a", "c", 1): (1, 18, 19),
            },
        ),
        (
            "a:\n  b: 1\n  c:\n  - x\n",
            {
                ("a", ""): (1, 1, 2),
                ("a",): (2, 3, 3),
                ("a", "b", ""): (2, 3, 4),
                ("a", "b"): (2, 6, 7),
                ("a", "c", ""): (3, 3, 4),
                ("a", "c"): (4, 3, 4),
                ("a", "c", 0): (4, 5, 6),
            },
        ),
        # An end in another line is the line's end.
        ("a: |\n  x\nb: 1\n", {("a", ""): (1, 1, 2), ("a",): (1, 4, 0), ("b", ""): (3, 1, 2), ("b",): (3, 4, 5)}),
        ("a: x\n y\n", {("a", ""): (1, 1, 2), ("a",): (1, 4, 0)}),
        # Characters count, whatever room they take.
        ("é: 日本\n", {("é", ""): (1, 1, 2), ("é",): (1, 4, 6)}),
        ("\U0001f600: x\n", {("\U0001f600", ""): (1, 1, 2), ("\U0001f600",): (1, 4, 5)}),
    ],
)
def test_places(parser, text, expected):
    assert places(text) == expected


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\x85", "\u2028", "\u2029"])
def test_every_end_of_a_line_that_yaml_has_is_one(parser, end):
    text = "a: 1{0}b: 2{0}".format(end)
    assert places(text)[("b",)] == (2, 4, 5)
    assert document.lines(text) == ["a: 1", "b: 2", ""]


@pytest.mark.parametrize(
    ("text", "place"),
    [("", (1, 1, 2)), ("ab", (1, 3, 4)), ("ab\n", (2, 1, 2)), ("a\r\nb\x85c\u2028def", (4, 4, 5))],
)
def test_the_place_after_a_text(text, place):
    assert document.place_after(text) == Place(*place)


@pytest.mark.parametrize(
    ("text", "value", "written"),
    [
        ("a: 010", 8, "010"),
        ("a: yes", True, "yes"),
        ("a: ~", None, "~"),
        ("a:", None, ""),
        ("a: x y", "x y", "x y"),
        ("a: '010'", "010", None),
        ('a: "x"', "x", None),
        ("a: !!str 010", "010", None),
        ("a: !!binary YQ==", b"a", None),
        ("a: |\n  x\n", "x\n", None),
        ("a: '<<'", "<<", None),
        ("a: !!omap [b: 1]", [{"b": 1}], None),
    ],
)
def test_a_value_and_how_it_is_written(parser, text, value, written):
    found, scalars = read(text)
    assert found == {"a": value}
    assert type(found["a"]) is type(value)
    assert scalars[("a",)].written == written


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n...\n"])
def test_a_document_without_anything_is_null(parser, text):
    assert read(text)[0] is None


def test_an_alias_stands_where_it_is_written_and_what_is_in_it_at_the_anchor(parser):
    text = "a: &x {y: 1}\nb: *x\nc: &z 10s\nd: [*z]\n"
    assert read(text)[0] == {"a": {"y": 1}, "b": {"y": 1}, "c": "10s", "d": ["10s"]}
    found = places(text)
    assert (found[("a",)], found[("b",)]) == ((1, 4, 13), (2, 4, 6))
    assert found[("a", "y")] == found[("b", "y")] == (1, 11, 12)
    assert found[("a", "y", "")] == found[("b", "y", "")] == (1, 8, 9)
    assert (found[("c",)], found[("d", 0)]) == ((3, 4, 10), (4, 5, 7))


BASES = "base: &base {a: 1, b: 2}\nother: &other {b: 3, c: 4}\n"


@pytest.mark.parametrize(
    ("mapping", "value", "place"),
    [
        ("{<<: *base}", {"a": 1, "b": 2}, (1, 23, 24)),
        ("{<<: [*base, *other]}", {"a": 1, "b": 2, "c": 4}, (1, 23, 24)),
        ("{<<: [*other, *base]}", {"a": 1, "b": 3, "c": 4}, (2, 19, 20)),
        ("{<<: *base, b: 0}", {"a": 1, "b": 0}, (3, 22, 23)),
        ("{b: 0, <<: *base}", {"a": 1, "b": 0}, (3, 11, 12)),
        ("{<<: {<<: *base, b: 5}}", {"a": 1, "b": 5}, (3, 27, 28)),
        ("{<<: []}", {}, None),
    ],
)
def test_what_a_merge_key_gives_stands_where_it_comes_from(parser, mapping, value, place):
    text = BASES + "mine: " + mapping
    assert read(text)[0]["mine"] == value
    assert places(text).get(("mine", "b")) == place


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\n", []),
        ("a: 1\nb: 2\na: 3\na: 4\n", [(("a",), (3, 1, 2), 1), (("a",), (4, 1, 2), 1)]),
        ("a: [{b: 1, c: {d: 1, d: 2}}]\n", [(("a", 0, "c", "d"), (1, 22, 23), 1)]),
        ("a: &x {b: 1, b: 2}\nc: *x\n", [(("a", "b"), (1, 14, 15), 1)]),
        ("1: a\n'1': b\n", []),
        ("a: {<<: {b: 1}, b: 2}\n", []),
    ],
)
def test_duplicates(parser, text, expected):
    found = document.duplicates(document.parse(text).node)
    assert sorted((one.path, tuple(one.place), one.line) for one in found) == expected


def test_duplicates_are_found_everywhere_but_not_what_is_merged():
    text = "a: &a {x: 1, 'x': 2}\nb: [{true: 1, yes: 2}]\nc: {<<: *a, <<: *a, x: 3}\n1: 1\n0x1: 2\n"
    found = document.duplicates(document.parse(text).node)
    assert sorted((duplicate.place[:2], duplicate.path, duplicate.line) for duplicate in found) == [
        ((1, 14), ("a", "x"), 1),
        ((2, 15), ("b", 0, "True"), 2),
        ((5, 1), ("1",), 4),
    ]


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("a: !foo 1", (1, 4, 10), "not a value that YAML's !foo can have"),
        ("a: !!int ''", (1, 4, 12), "not a value that YAML's !!int can have"),
        ("a: 2024-13-45", (1, 4, 14), "not a value that YAML's !!timestamp can have"),
        ("a: !foo [1]", (1, 4, 10), "tag !foo does not fit"),
        ("a: =", (1, 4, 5), "= as a value, put it in quotes"),
        ("a: <<", (1, 4, 6), "<< as a value, put it in quotes"),
        ("<<: 3", (1, 5, 6), "<< merges a mapping or a list of mappings"),
        ("? [a]\n: 1", (1, 3, 6), "a key that is a list or a mapping"),
        ("a: *b", (1, 4, 6), "alias *b before its anchor"),
        ("a: &x 1\nb: &x 2", (2, 4, 8), "anchor &x a second time"),
        ("a: 1" + ":59" * 400, (1, 4, 1205), "a number of more than 1000 digits"),
        # libyaml takes these three.
        ("a: 3m\t", (1, 6, 7), "not YAML: a tab, indent with spaces"),
        (
            "a: |#b",
            (1, 5, 6),
            "not YAML: expected chomping or indentation indicators, but found '#', while scanning a block scalar",
        ),
        ("a: [b?c]", (1, 6, 7), "not YAML: expected ',' or ']', but got '?', while parsing a flow sequence"),
        ("a: b: c", (1, 5, 6), "not YAML: mapping values are not allowed here"),
        ("a: \x1b", (1, 4, 5), "character U+001B is not allowed in YAML"),
    ],
)
def test_what_cloud_init_cannot_load(text, place, message):
    if "more than" not in message:
        with pytest.raises((yaml.YAMLError, ValueError, IndexError)):
            yaml.safe_load(text)
    with pytest.raises(document.DocumentError) as caught:
        document.parse(text)
    assert (tuple(caught.value.place), caught.value.message) == (place, message)


def test_an_alias_within_what_it_stands_for(parser):
    assert refusal("a: &x\n- *x\n") == ((2, 3, 5), "alias *x within what it stands for")


def nested(depth):
    """Return lists within each other."""
    return "[" * depth + "]" * depth


def test_as_deep_as_is_allowed_and_one_deeper(parser):
    assert document.parse(nested(document.MAX_DEPTH)).node.height == document.MAX_DEPTH
    place = document.MAX_DEPTH + 1
    assert refusal(nested(document.MAX_DEPTH + 1)) == ((1, place, place + 1), "nested more than 50 deep")


def test_aliases_count_for_the_depth(parser):
    half = "a: &a {}\nb: ".format(nested(25))
    fits, too_deep = nested(24).replace("[]", "[*a]"), nested(25).replace("[]", "[*a]")
    assert "*a" in fits
    assert document.parse(half + fits).node.height == document.MAX_DEPTH
    message = "nested more than 50 deep once its aliases are"
    assert refusal(half + too_deep)[1] == message


def test_as_many_values_as_are_allowed_and_one_more(parser, monkeypatch):
    monkeypatch.setattr(document, "MAX_VALUES", 10)
    assert document.parse("[1, 2, 3, 4, 5, 6, 7, 8, 9]").node.size == 10
    assert refusal("[1, 2, 3, 4, 5, 6, 7, 8, 9, 0]")[1] == "more than 10 values once its aliases are expanded"
    assert refusal("[1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1") == ((1, 32, 33), "more than 10 values")


def test_aliases_count_for_the_values(parser, monkeypatch):
    monkeypatch.setattr(document, "MAX_VALUES", 10)
    assert document.parse("a: &a [1]\nb: [*a, *a]\n").node.size == 10
    message = "more than 10 values once its aliases are expanded"
    assert refusal("a: &a [1]\nb: [*a, *a, 1]\n") == ((1, 1, 1), message)


def test_as_many_digits_as_are_allowed_and_one_more(parser):
    assert read("9" * 1000)[0] == int("9" * 1000)
    assert refusal("9" * 1001) == ((1, 1, 1002), "a number of more than 1000 digits")
    assert read("'{}'".format("9" * 1001))[0] == "9" * 1001


ALLOWED = "\t\x85\xa0\ud7ff\ue000\ufffd\U00010000\U0010ffff"
FORBIDDEN = "\x00\x08\x0b\x0c\x0e\x1b\x1f\x7f\x84\x86\x9f\ud800\udfff\ufffe\uffff"


@pytest.mark.parametrize("character", ALLOWED, ids=ascii)
def test_characters_that_yaml_allows(parser, character):
    assert document.parse("# {}\na: 1".format(character)).node.items


@pytest.mark.parametrize("character", FORBIDDEN, ids=ascii)
def test_characters_that_yaml_forbids(parser, character):
    message = "character U+{:04X} is not allowed in YAML".format(ord(character))
    assert refusal("a: 1\n# {}".format(character)) == ((2, 3, 4), message)


def test_a_second_document_is_one_too_many(parser):
    assert refusal("a: 1\n---\nb: 2\n") == ((2, 1, 4), "a second document, cloud-init takes files with one only")


# libyaml knows 1.1 and 1.2 only, and PyYAML's own parser every 1.x.
NEWER = "%YAML 1.3\n---\na: 1\n"


def test_what_libyaml_alone_refuses_is_left_to_the_other_parser_where_it_is_short(parser):
    assert read(NEWER)[0] == {"a": 1}
    long = NEWER + "#" * (1 << 16)
    if parser == "libyaml":
        assert refusal(long) == ((1, 1, 2), "not YAML: found incompatible YAML document")
    else:
        assert read(long)[0] == {"a": 1}


@pytest.mark.parametrize("character", ["?", "\t", "\x85", "\u2028", "\u2029", "\ufeff", "|2#", "! "], ids=ascii)
def test_what_the_parsers_do_not_agree_on_is_for_the_slow_one_and_bounded(parser, character):
    text = "a: 1\n# {}\n".format(character)
    assert read(text)[0] == {"a": 1}
    message = "more than 512 KiB, not checked: it requires libyaml, in PyYAML and for the characters in it"
    assert refusal(text + "#" * (1 << 19)) == ((1, 1, 0), message)


# libyaml 0.2.6 stops at 1,000 by itself, at most 1024 characters ahead of what it has told.
@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: " + "[" * 51, (1, 53, 54)),
        ("a: " + "[" * 100000, (1, 53, 54)),
        ("- " * 40 + "[" * 100000, (1, 91, 92)),
        ("a: é" + "x" * 70000 + "\r\nb: " + "[" * 1001, (2, 53, 54)),
        ("a: {b: " + "[" * 30 + "]" * 30 + ", c: " + "[" * 100000, (1, 121, 122)),
    ],
    ids=["slightly", "in-one-line", "in-dashes", "after-much", "after-less"],
)
def test_the_first_that_is_nested_too_deep_is_told(text, place):
    with pytest.raises(document.DocumentError) as caught:
        document.parse(text)
    assert (tuple(caught.value.place), caught.value.message) == (place, "nested more than 50 deep")
