"""What docs/bench.md shows of make bench is what it has measured."""

import json
import re

import pytest
from bench import DATA, MARKS, PAGE
from pages import replaced
from results import page


def test_the_tables_are_those_of_the_data():
    # Before the first make bench there are none.
    text = page(json.loads(DATA.read_text())) if DATA.exists() else ""
    assert PAGE.read_text() == replaced(PAGE.read_text(), text, MARKS)


@pytest.mark.parametrize("file", sorted(PAGE.parent.glob("*.svg")), ids=lambda file: file.name)
def test_a_picture_is_for_light_and_dark_pages_and_its_text_can_be_read(file):
    text = file.read_text()
    rules, drawn = re.search("(?s)(<style>.*?</style>)(.*)", text).groups()
    colours = "(?:fill|stroke): #[0-9a-f]{6}"
    assert set(re.findall(colours, drawn)) <= set(re.findall(r'\[style\*="({})"\]'.format(colours), rules))
    assert "prefers-color-scheme: dark" in rules
    assert drawn.count("<text ") > 20
