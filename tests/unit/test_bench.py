"""What README.md and docs/ show of make bench is what it has measured."""

import json

import pytest
from bench import DATA, MARKS, PAGE, README
from pages import replaced
from results import page, summary


@pytest.mark.parametrize(("file", "shown"), [(README, summary), (PAGE, page)], ids=["README", "docs"])
def test_the_tables_are_those_of_the_data(file, shown):
    # Before the first make bench there are none.
    text = shown(json.loads(DATA.read_text())) if DATA.exists() else ""
    assert file.read_text() == replaced(file.read_text(), text, MARKS)
