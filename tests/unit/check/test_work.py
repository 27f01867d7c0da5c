"""check's work grows with its input and no faster: counted, since seconds tell of the machine."""

import itertools
import sys

import pytest
from ssh_keepalive.check import diagnostics, document
from user_data_files import HEAD

MULTIPART = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=X\n\n"
PART = "--X\nContent-Type: text/cloud-config\n\n#cloud-config\n"
SHAPES = {
    "double keys": lambda count: "#cloud-config\n" + "a: 1\n" * count,
    "double keys in one line": lambda count: "#cloud-config\nx: {" + "a: 1, " * count + "}\n",
    "unknown keys": lambda count: HEAD + "".join("  idle_time{}: 1\n".format(number) for number in range(count)),
    "keys like ours": lambda count: "#cloud-config\n" + "".join("ssh_keep{}: 1\n".format(n) for n in range(count)),
    "wrong match entries": lambda count: HEAD + "  match:\n" + "  - {user: a b, idle_timeout: 1}\n" * count,
    "aliases of one": lambda count: HEAD + "  match:\n  - &a {user: a b, idle_timeout: 1}\n" + "  - *a\n" * count,
    "wrong patterns": lambda count: HEAD + "  match: [{user: [" + "a b, " * count + "]}]\n",
    "wrong types": lambda count: HEAD + "  match: [" + "yes, " * count + "]\n",
    "numbers that are read otherwise": lambda count: HEAD + "  match: [" + "010, " * count + "]\n",
    "merge keys": lambda count: "#cloud-config\nx: &x {a: 1}\ny: &y {a: 2}\nz:\n" + "- {<<: [*x, *y]}\n" * count,
    "parts": lambda count: MULTIPART + (PART + "ssh_keepalive: 1\n") * count,
    "parts with double keys": lambda count: MULTIPART + (PART + "a: 1\na: 2\n") * count,
    "headers": lambda count: "MIME-Version: 1.0\n" + "X-A: b\n" * count + "\n",
    "archived parts": lambda count: "#cloud-config-archive\n" + "- {content: ''}\n" * count,
}


def steps(content):
    """Return how many calls of functions, C's too, check takes for a file."""
    counter = itertools.count()
    sys.setprofile(lambda *_: next(counter))
    try:
        remarks = diagnostics.diagnose(content)
        diagnostics.as_text("f", remarks)
        diagnostics.as_json("f", remarks)
    finally:
        sys.setprofile(None)
    return next(counter)


@pytest.mark.parametrize("shape", SHAPES)
def test_twice_as_much_takes_twice_the_work(shape):
    make = SHAPES[shape]
    steps(make(1).encode())  # what is imported once
    assert steps(make(400).encode()) < 2.2 * steps(make(200).encode())


def test_a_part_is_taken_apart_once_for_all_remarks_about_it(monkeypatch):
    remarks = diagnostics.diagnose((MULTIPART + (PART + "a: 1\n" * 9) * 3).encode())
    texts = []
    lines = document.lines
    monkeypatch.setattr(document, "lines", lambda text: texts.append(text) or lines(text))
    assert diagnostics.as_text("f", remarks).count("a second time") == 3 * 8
    assert len(texts) == 3


@pytest.mark.parametrize(
    "text",
    [
        "#cloud-config\n? '{}'\n: {{a: 1, a: 2}}\n",
        HEAD + "  ? '{}'\n  : {{a: 010}}\n",
        HEAD + "  match: [{{? '{}' : 1}}]\n",
        "#cloud-config-archive\n- {{filename: '{}', content: '#cloud-config'}}\n",
    ],
)
def test_no_remark_grows_with_a_name_that_all_of_them_repeat(text):
    sizes = set()
    for length in (1000, 100000):
        remarks = diagnostics.diagnose(text.format("k" * length).encode())
        assert remarks
        sizes.add(len(str(diagnostics.as_json("f", remarks)).replace("100000", "1000")))
    assert len(sizes) == 1
