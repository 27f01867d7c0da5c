"""How remarks are shown."""

import json
from pathlib import Path

import pytest
from jsonschema import Draft4Validator
from ssh_keepalive.check.diagnostics import as_json, as_text, diagnose, printable
from ssh_keepalive.check.distributions import version_of
from ssh_keepalive.check.document import Place
from ssh_keepalive.check.userdata import Part, Remark
from ssh_keepalive.policy import dotted
from user_data_files import BAD, FILES, config, mime

SCHEMA = json.loads((Path(__file__).resolve().parents[3] / "schema/check.schema.json").read_text())


def shown(text, line, column, end):
    """Return the source line and the carets for a place in a text."""
    remark = Remark("error", "m", (), Part(0, "", text), Place(line, column, end))
    return as_text("f", [remark]).partition("\n")[2]


def test_a_problem_with_its_source_line():
    assert as_text("user-data", diagnose(BAD.encode())) == (
        "user-data:4:25: error: ssh_keepalive.unresponsive_timeout: '10s': expected a time from 15s to 1d, "
        "for example 3m\n"
        "      unresponsive_timeout: 10s\n"
        "                            ^^^\n"
    )


def test_a_part_is_named():
    assert as_text("f", diagnose(mime(config(BAD, "b.yaml")))).startswith("f (part 1, b.yaml):4:25: error: ")


@pytest.mark.parametrize(
    ("text", "place", "expected"),
    [
        ("a: b", (1, 4, 5), "    a: b\n       ^\n"),
        ("a: b", (1, 4, 0), "    a: b\n       ^\n"),
        ("a: b # c", (1, 4, 0), "    a: b # c\n       ^\n"),
        ("a:", (1, 3, 3), "    a:\n      ^\n"),
        ("\ta: b", (1, 5, 6), "        a: b\n           ^\n"),
        ("日本: 語", (1, 5, 6), "    日本: 語\n          ^^\n"),
        ("e\u0301: b", (1, 5, 6), "    e\u0301: b\n       ^\n"),
        ("\x1b[31m: b", (1, 1, 6), "    \\x1b[31m: b\n    ^^^^^^^^\n"),
        ("a\u202e: b", (1, 5, 6), "    a\\u202e: b\n             ^\n"),
        ("a\u00a0: b", (1, 1, 3), "    a\\xa0: b\n    ^^^^^\n"),
        ("a\n", (2, 1, 0), ""),
        ("", (7, 1, 0), ""),
        (
            "x" * 500 + "bad" + "y" * 500,
            (1, 501, 504),
            "    ..." + "x" * 60 + "bad" + "y" * 97 + "...\n" + " " * 67 + "^^^\n",
        ),
    ],
)
def test_carets(text, place, expected):
    assert shown(text, *place) == expected


def test_every_line_that_is_shown_is_bearable():
    long = diagnose(b"#cloud-config\nssh_keepalive: {" + b"a" * 100000 + b": 1}\n")
    assert max(map(len, as_text("f", long).splitlines())) < 400


def test_no_control_character_reaches_a_terminal():
    part = mime(config(BAD, "a\x1bb\u202e"))
    text = as_text("evil\x1b[2J\nname\udcff", diagnose(part))
    assert text.replace("\n", "").isprintable()
    assert text.startswith("evil\\x1b[2J\\nname\\udcff (part 1, ")
    assert printable("a\x9bb\x7f\u2028") == "a\\x9bb\\x7f\\u2028"


def test_colours():
    text = as_text("f", diagnose(BAD.encode()), colours=True)
    assert text.startswith("\033[1mf:4:25:\033[0m \033[1;31merror:\033[0m ssh_keepalive.")
    assert text.endswith("\033[1;31m^^^\033[0m\n")


def test_a_problem_in_a_list_is_placed_where_it_stands(monkeypatch):
    from ssh_keepalive import policy

    def parse(section):
        path = ("ssh_keepalive", "match", 1)
        problems = [
            policy.Problem((*path, "user"), "bad"),
            policy.Problem((*path, "usr"), "other", ("usr",)),
            policy.Problem((*path, "absent"), "absent"),
            policy.Problem(("ssh_keepalive", "x", 3), "absent"),
        ]
        raise policy.PolicyError(problems)

    monkeypatch.setattr(policy, "parse", parse)
    text = b"#cloud-config\nssh_keepalive:\n  match:\n  - user: a\n  - user: b\n    usr: c\n"
    assert [(dotted(remark.path), remark.place[:2]) for remark in diagnose(text)] == [
        ("ssh_keepalive.x[3]", (2, 1)),
        ("ssh_keepalive.match[1].absent", (5, 5)),
        ("ssh_keepalive.match[1].user", (5, 11)),
        ("ssh_keepalive.match[1].usr", (6, 5)),
    ]


def test_unknown_keys_of_every_kind_are_pointed_at():
    text = b'#cloud-config\nssh_keepalive:\n  "a\\nb": 1\n  7: 1\n  no: 1\n  on: 2\n'
    assert [remark.place[:2] for remark in diagnose(text) if remark.level == "error"] == [
        (3, 3),
        (4, 3),
        (5, 3),
        (6, 3),
    ]


def test_json_of_every_file_is_as_its_schema_says():
    Draft4Validator.check_schema(SCHEMA)
    reports = [as_json(file.name, diagnose(file.content, version_of(file.openssh))) for file in FILES]
    reports.append({"file": "f", "verdict": "unreadable", "reason": "No such file or directory"})
    Draft4Validator(SCHEMA).validate(json.loads(json.dumps({"files": reports})))
    with pytest.raises(Exception, match="'x' was unexpected"):
        Draft4Validator(SCHEMA).validate({"files": [], "x": 1})


def test_json():
    assert as_json("f", diagnose(mime(config(BAD, "b.yaml")))) == {
        "file": "f",
        "verdict": "problems",
        "remarks": [
            {
                "level": "error",
                "message": "'10s': expected a time from 15s to 1d, for example 3m",
                "path": ["ssh_keepalive", "unresponsive_timeout"],
                "part": {"number": 1, "name": "b.yaml"},
                "place": {"line": 4, "column": 25, "end": 28},
            }
        ],
    }
