"""What docs/bench.md shows of make bench is what it has measured."""

import json
import re

import pytest
from bench import DATA, MARKS, PAGE
from pages import replaced
from results import condensed, page


def test_the_tables_are_those_of_the_data():
    # Before the first make bench there are none.
    text = page(json.loads(DATA.read_text())) if DATA.exists() else ""
    assert PAGE.read_text() == replaced(PAGE.read_text(), text, MARKS)


def test_of_a_boot_the_data_have_what_the_tables_take():
    boot = {"suite": "trixie", "kind": "module", "total": 100.00049, "sshd -T": 12.5, "window": 0.0}
    parts = [["import re", 1.5], ["run /usr/sbin/sshd -V", 1], ["wait /usr/sbin/sshd -V", 2], ["fsync", 0.00012]]
    told = {"set_passwords": 0.01, "runcmd": 0.02}
    assert condensed({**boot, "parts": parts, "steps": {**told, "locale": 3.0}}) == {
        **boot,
        "total": 100.0,
        "parts": {
            "imports": 1.5,
            "`sshd -V`": 3,
            "`sshd -T` (from 9.3 on with `-G`) of the candidate": 0,
            "`systemctl show`": 0,
            "`sshd -T` in place, about nobody in particular": 0,
            "fsync, in memory here": 0.0,
            "all else: schema, files, log": 95.5,
        },
        "steps": told,
        "processes": 1,
    }
    assert condensed({**boot, "kind": "uncompiled", "parts": parts}) == {
        **boot,
        "kind": "uncompiled",
        "total": 100.0,
        "processes": 1,
    }


@pytest.mark.parametrize("file", sorted(PAGE.parent.glob("*.svg")), ids=lambda file: file.name)
def test_a_picture_is_for_light_and_dark_pages_and_its_text_can_be_read(file):
    text = file.read_text()
    rules, drawn = re.search("(?s)(<style>.*?</style>)(.*)", text).groups()
    colours = "(?:fill|stroke): #[0-9a-f]{6}"
    assert set(re.findall(colours, drawn)) <= set(re.findall(r'\[style\*="({})"\]'.format(colours), rules))
    assert "prefers-color-scheme: dark" in rules
    assert drawn.count("<text ") > 20
