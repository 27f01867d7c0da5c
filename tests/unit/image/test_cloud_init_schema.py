"""Texts in the forms that cloud-init's schema has had, cut down to a few keys."""

import json
import re

import pytest
from jsonschema import Draft4Validator
from ssh_keepalive.image.cloud_init_schema import has_key, is_same, with_additions, with_key, without_key
from ssh_keepalive.policy import load_schema

OURS = load_schema()["properties"]["ssh_keepalive"]

# Formatted by hand, with characters outside of ASCII
FROM_22_2 = """\
{
  "$schema": "http://json-schema.org/draft-04/schema#",
  "$defs": {
    "cc_ssh": {
      "properties": {
        "ssh_pwauth": {"type": ["boolean", "string"], "description": "“yes” or “no”"}
      }
    }
  },
  "allOf": [{ "$ref": "#/$defs/cc_ssh" }]
}
"""
FROM_22_2_WITH_OURS = """\
{
  "$schema": "http://json-schema.org/draft-04/schema#",
  "$defs": {
    "cc_ssh": {
      "properties": {
        "ssh_pwauth": {
          "type": [
            "boolean",
            "string"
          ],
          "description": "“yes” or “no”"
        }
      }
    },
    "cc_ssh_keepalive": {
      "type": "object",
      "properties": {
        "ssh_keepalive": {
          "type": "boolean"
        }
      }
    }
  },
  "allOf": [
    {
      "$ref": "#/$defs/cc_ssh"
    },
    {
      "$ref": "#/$defs/cc_ssh_keepalive"
    }
  ]
}
"""
FROM_22_4 = """\
{
  "$schema": "http://json-schema.org/draft-04/schema#",
  "$defs": {
    "all_modules": {
      "enum": [
        "ssh",
        "ssh-import-id",
        "ssh_import_id"
      ]
    },
    "cc_ssh": {
      "properties": {
        "ssh_pwauth": {
          "description": "Without a line break\\u2010"
        }
      }
    }
  },
  "allOf": [
    {
      "$ref": "#/$defs/cc_ssh"
    }
  ]
}
"""
FROM_22_4_WITH_OURS = """\
{
  "$schema": "http://json-schema.org/draft-04/schema#",
  "$defs": {
    "all_modules": {
      "enum": [
        "ssh",
        "ssh-import-id",
        "ssh_import_id",
        "ssh-keepalive",
        "ssh_keepalive"
      ]
    },
    "cc_ssh": {
      "properties": {
        "ssh_pwauth": {
          "description": "Without a line break\\u2010"
        }
      }
    },
    "cc_ssh_keepalive": {
      "type": "object",
      "properties": {
        "ssh_keepalive": {
          "type": "boolean"
        }
      }
    }
  },
  "allOf": [
    {
      "$ref": "#/$defs/cc_ssh"
    },
    {
      "$ref": "#/$defs/cc_ssh_keepalive"
    }
  ]
}
"""
FROM_23_4 = (
    FROM_22_4[:-3]
    + """,
  "properties": {
    "ssh_pwauth": {}
  },
  "additionalProperties": false
}
"""
)
FROM_23_4_WITH_OURS = (
    FROM_22_4_WITH_OURS[:-3]
    + """,
  "properties": {
    "ssh_pwauth": {},
    "ssh_keepalive": {}
  },
  "additionalProperties": false
}
"""
)
PAIRS = pytest.mark.parametrize(
    ("original", "registered"),
    [(FROM_22_2, FROM_22_2_WITH_OURS), (FROM_22_4, FROM_22_4_WITH_OURS), (FROM_23_4, FROM_23_4_WITH_OURS)],
    ids=["from-22.2", "from-22.4", "from-23.4"],
)


@PAIRS
def test_the_key_in_the_schema_of_each_version(original, registered):
    assert with_key(original, {"type": "boolean"}) == registered
    assert (has_key(original), has_key(registered)) == (False, True)


@PAIRS
def test_a_second_time_changes_nothing_but_an_old_subschema(original, registered):
    assert with_key(registered, {"type": "boolean"}) == registered
    assert with_key(with_key(original, OURS), {"type": "boolean"}) == registered


@PAIRS
def test_without_the_key_only_the_format_may_differ(original, registered):
    assert json.loads(without_key(registered)) == json.loads(original)
    assert without_key(original) == original
    if original != FROM_22_2:
        assert without_key(registered) == original


def test_a_text_without_a_line_end_keeps_to_that():
    assert without_key(with_key(FROM_22_4.rstrip(), OURS)) == FROM_22_4.rstrip()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expecting value: line 1 column 1 (char 0)"),
        ("[]", "it has no $defs or no allOf"),
        ('{"$defs": {}}', "it has no $defs or no allOf"),
        ('{"$defs": [], "allOf": []}', "it has no $defs or no allOf"),
    ],
)
def test_what_is_no_schema_of_cloud_inits(text, message):
    for change in (has_key, without_key, lambda text: with_key(text, OURS)):
        with pytest.raises(ValueError, match="^" + re.escape(message) + "$"):
            change(text)


def problems(original, document):
    validator = Draft4Validator(json.loads(with_key(original, OURS)))
    return sorted((".".join(map(str, error.path)), error.validator) for error in validator.iter_errors(document))


@pytest.mark.parametrize("original", [FROM_22_2, FROM_22_4, FROM_23_4])
@pytest.mark.parametrize(
    ("section", "found"),
    [
        (True, []),
        (None, []),
        ({"unresponsive_timeout": "3m"}, []),
        ({"client_alive_interval": 0, "client_alive_count_max": None}, []),
        ("3m", [("ssh_keepalive", "type")]),
        ({"unresponsive_timeout": 10}, [("ssh_keepalive.unresponsive_timeout", "minimum")]),
        ({"client_alive_interval": 3}, [("ssh_keepalive.client_alive_interval", "anyOf")]),
        ({"idle_timeout": "15m"}, []),
        ({"idle_timeout": "ever"}, [("ssh_keepalive.idle_timeout", "pattern")]),
        ({"match": [{"user": "a", "idle_timeout": 1}]}, [("ssh_keepalive.match.0.idle_timeout", "minimum")]),
        ({"interval": 3}, [("ssh_keepalive", "additionalProperties")]),
    ],
)
def test_what_it_says_of_a_section(original, section, found):
    assert problems(original, {"ssh_keepalive": section}) == found


def test_another_unknown_key_is_refused_where_it_was():
    document = {"ssh_keepalivee": True}
    assert problems(FROM_22_4, document) == []
    assert problems(FROM_23_4, document) == [("", "additionalProperties")]


def words(schema):
    yield from schema
    for value in [
        *schema.get("properties", {}).values(),
        *schema.get("anyOf", []),
        *filter(None, [schema.get("items")]),
    ]:
        yield from words(value)


def test_our_subschema_has_no_word_that_cloud_init_cannot_do():
    # With "not", cloud-init 24.4 to 25.2 dies of a TypeError (its is_valid wants a schema); oneOf hides the key.
    assert not {"not", "oneOf", "$ref", "deprecated"} & set(words(OURS))


OTHERS = {"cc_other": {"properties": {"other": {}}}}


def registered_with_others(original, in_order):
    """Return a schema with our key and then another tool's, which has sorted the definitions or not."""
    schema = json.loads(with_key(original, OURS))
    schema["$defs"] = {**schema["$defs"], **OTHERS} if in_order else {**OTHERS, **schema["$defs"]}
    schema["allOf"].append({"$ref": "#/$defs/cc_other"})
    schema["$defs"].get("all_modules", {}).get("enum", []).append("other")
    if "properties" in schema:
        schema["properties"]["other"] = {}
    return json.dumps(schema)


@pytest.mark.parametrize("original", [FROM_22_2, FROM_22_4, FROM_23_4])
@pytest.mark.parametrize("in_order", [True, False])
def test_what_came_behind_ours_goes_along_to_a_newer_schema(original, in_order):
    newer = original.replace("ssh_pwauth", "ssh_pwauth_new").replace('"ssh-import-id"', '"ssh-import-ids"')
    found = json.loads(with_additions(newer, registered_with_others(original, in_order)))
    wanted = json.loads(newer)
    wanted["$defs"].update(OTHERS)
    wanted["allOf"].append({"$ref": "#/$defs/cc_other"})
    wanted["$defs"].get("all_modules", {}).get("enum", []).append("other")
    if "properties" in wanted:
        wanted["properties"]["other"] = {}
    assert found == wanted


@PAIRS
def test_nothing_goes_along_where_nothing_came(original, registered):
    newer = original.replace("ssh_pwauth", "ssh_pwauth_new")
    for older in (original, registered):
        assert with_additions(newer, older) == newer


def test_a_key_goes_into_no_schema_that_takes_every_key():
    found = json.loads(with_additions(FROM_22_4, registered_with_others(FROM_23_4, True)))
    assert "properties" not in found
    assert "cc_other" in found["$defs"]


@PAIRS
def test_schemas_are_the_same_whatever_their_format(original, registered):
    assert is_same(original, json.dumps(json.loads(original)))
    assert not is_same(original, registered)
