"""What docs/bench.md shows of make bench is what it has measured."""

import json

from bench import DATA, MARKS, PAGE
from pages import replaced
from results import page


def test_the_tables_are_those_of_the_data():
    # Before the first make bench there are none.
    text = page(json.loads(DATA.read_text())) if DATA.exists() else ""
    assert PAGE.read_text() == replaced(PAGE.read_text(), text, MARKS)
