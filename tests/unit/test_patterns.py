import pytest
from ssh_keepalive.patterns import example, example_address, fits, fits_address, is_within


@pytest.mark.parametrize(
    ("value", "patterns", "expected"),
    [
        ("anna", ["anna"], True),
        ("anna", ["a*"], True),
        ("anna", ["a?na"], True),
        ("anna", ["a?a"], False),
        ("anna", ["a*", "!anna"], False),
        ("anna", ["!bob"], False),
        ("anna", ["!bob", "*"], True),
        ("a.na", ["a.na"], True),
        ("anna", ["a.na"], False),
        ("a[n]", ["a[n]"], True),
        ("anna\n", ["anna"], False),
        ("a\nb", ["a*b"], True),
        ("anna", [], False),
    ],
)
def test_which_values_fit(value, patterns, expected):
    assert fits(value, patterns) is expected


@pytest.mark.parametrize(
    ("patterns", "value"),
    [
        (["anna"], "anna"),
        (["a*"], "a"),
        (["*"], "x"),
        (["a?c"], "axc"),
        (["!a", "a*"], "ax"),
        (["!a", "!ax", "a*"], "a1"),
        (["!*", "a*"], None),
        (["!a"], None),
        ([], None),
    ],
)
def test_an_example(patterns, value):
    assert example(patterns) == value


@pytest.mark.parametrize(
    ("address", "patterns", "expected"),
    [
        ("10.1.2.3", ["10.0.0.0/8"], True),
        ("10.1.2.3", ["10.0.0.0/8", "!10.1.0.0/16"], False),
        ("10.1.2.3", ["10.1.*"], True),
        ("10.1.2.3", ["2001:db8::/32"], False),
        ("2001:db8::7", ["2001:db8::/32"], True),
        ("10.1.2.3", ["!192.0.2.0/24"], False),
    ],
)
def test_which_addresses_fit(address, patterns, expected):
    assert fits_address(address, patterns) is expected


@pytest.mark.parametrize(
    ("pattern", "others", "is_sure"),
    [
        ("anna", ["bob", "anna"], True),
        ("anna", ["a*"], True),
        ("a*", ["a*"], True),
        ("ab*", ["a*"], False),
        ("10.1.0.0/16", ["10.0.0.0/8"], True),
        ("10.0.0.0/8", ["10.1.0.0/16", "10.0.0.0/16", "10.255.0.0/16"], False),
        ("10.0.0.1", ["10.0.*"], True),
        ("10.0.0.0/24", ["10.0.0.*"], False),
        ("anna", [], False),
    ],
)
def test_a_pattern_within_others(pattern, others, is_sure):
    assert is_within(pattern, others) is is_sure


@pytest.mark.parametrize(
    ("patterns", "address"),
    [
        (["10.0.0.0/8"], "10.0.0.0"),
        (["!10.0.0.0", "10.0.0.0/8"], "10.0.0.1"),
        (["!10.0.0.0/9", "10.0.0.0/8"], "10.191.255.253"),
        (["192.0.2.7"], "192.0.2.7"),
        (["2001:db8::/32"], "2001:db8::"),
        (["10.*"], "10.1.1.1"),
        (["10.1.2.?"], "10.1.2.1"),
        (["*"], "1.1.1.1"),
        (["2001:db8:*"], "2001:db8:1::1"),
        (["!10.0.0.0/8", "10.0.0.0/8"], None),
        (["gateway*"], None),
        (["!10.0.0.0/8"], None),
    ],
)
def test_an_example_of_an_address(patterns, address):
    assert example_address(patterns) == address
