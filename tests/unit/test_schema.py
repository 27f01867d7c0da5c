"""The schema of the key, as editors and cloud-init have it."""

import re
import sys

import pytest
from ssh_keepalive import policy
from ssh_keepalive.policy import load_schema, parse


def subschemas(schema):
    properties = schema["properties"]["ssh_keepalive"]["properties"]
    return [*properties.items(), *properties["match"]["items"]["properties"].items()]


def test_every_key_of_the_schema_is_explained():
    for _, subschema in subschemas(load_schema()):
        assert subschema["title"]
        assert subschema["description"].endswith(".")


def test_a_time_means_the_same_for_some_as_for_everybody():
    properties = load_schema()["properties"]["ssh_keepalive"]["properties"]
    for key, subschema in properties["match"]["items"]["properties"].items():
        assert subschema == properties.get(key, subschema)


def test_every_example_of_the_schema_is_accepted():
    section = load_schema()["properties"]["ssh_keepalive"]
    for example in section["examples"]:
        parse(example)
    for key, subschema in section["properties"].items():
        for example in subschema["examples"]:
            needs = {"client_alive_count_max": {"client_alive_interval": 60}}
            needs.update({other: {"idle_timeout": 60} for other in ("idle_command_timeout", "idle_fallback")})
            parse({key: example, **needs.get(key, {})})


TIMES = {
    "unresponsive_timeout": (15, 86400),
    "idle_timeout": (60, 86400),
    "idle_command_timeout": (60, 604800),
    "client_alive_interval": (5, 3600),
}


@pytest.mark.parametrize("key", TIMES)
def test_editors_refuse_a_time_of_one_unit_wherever_we_do(key):
    least, most = TIMES[key]
    pattern = re.compile(load_schema()["properties"]["ssh_keepalive"]["properties"][key]["pattern"])
    for unit, seconds in (("", 1), ("s", 1), ("M", 60), ("h", 3600), ("D", 86400), ("w", 604800)):
        for number in range(2 * most // seconds + 2):
            is_time = least <= number * seconds <= most or (number == 0 and key == "client_alive_interval")
            assert bool(pattern.search("{}{}".format(number, unit))) == is_time, (number, unit)


def keywords(schema):
    """Return the keywords of a schema and of all that is in it."""
    if isinstance(schema, list):
        return set().union(*map(keywords, schema))
    if not isinstance(schema, dict):
        return set()
    found = set(schema) - {"properties", "examples"}
    for name in set(schema) - {"examples"}:
        found |= keywords(list(schema[name].values()) if name == "properties" else schema[name])
    return found


def test_the_schema_has_no_keyword_that_cloud_init_stops_for_or_reports_unreadably():
    # cloud-init 24.4 to 25.2 stop the stage for `not`, others hide the key behind oneOf, and `deprecated` degrades.
    assert keywords(load_schema()) == {
        "$schema", "additionalProperties", "anyOf", "description", "enum", "items", "maximum", "minItems", "minimum",
        "pattern", "patternErrorMessage", "required", "title", "type",
    }  # fmt: skip


def test_every_pattern_has_words_for_editors():
    for _, subschema in subschemas(load_schema()):
        for one in (subschema, subschema.get("items", {})):
            if "pattern" in one:
                example = str(one["examples"][0])
                assert one["patternErrorMessage"] == "expected {}, for example {}".format(one["title"], example)


@pytest.mark.parametrize("criteria", [{}, {"user": "a"}, {"group": "a"}, {"address": "::1"}])
def test_the_schema_refuses_a_match_entry_without_a_criterion(criteria):
    from jsonschema import Draft4Validator

    section = {"match": [{"unresponsive_timeout": "1h", **criteria}]}
    assert Draft4Validator(load_schema()).is_valid({"ssh_keepalive": section}) == bool(criteria)


def test_the_schema_is_a_valid_draft_4_schema():
    from jsonschema import Draft4Validator

    Draft4Validator.check_schema(load_schema())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file or directory"),
        (b"", "damaged: Expecting value: line 1 column 1 (char 0)"),
        (b"\xff", "damaged: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
    ],
    ids=["missing", "empty", "no-text"],
)
def test_a_schema_that_cannot_be_read_is_named(tmp_path, monkeypatch, content, words):
    file = tmp_path / "schema.json"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setattr(policy, "SCHEMA_FILE", str(file))
    with pytest.raises(OSError, match="install the module again") as caught:
        parse(True)
    assert caught.value.args == ("{}: {}, install the module again".format(file, words),)


def test_no_jsonschema_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    with pytest.raises(OSError, match="install jsonschema for " + sys.executable):
        parse(True)
