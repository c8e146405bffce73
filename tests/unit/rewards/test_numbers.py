from fractions import Fraction

import pytest

from mentor_pl.rewards.numbers import equal_numbers, read_number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("42", "42"),
        ("42.", "42"),
        ("**42**", "42"),
        ("`42`", "42"),
        ("$42$", "42"),
        ("\\(42\\)", "42"),
        ("\\text{42}", "42"),
        ("−5", "-5"),
        ("+5", "5"),
        (".5", "1/2"),
        ("1,234.5", "2469/2"),
        ("1,234,567", "1234567"),
        ("1{,}234", "1234"),
        ("1 234 567", "1234567"),
        ("1e3", "1000"),
        ("2.5e+06", "2500000"),
        ("1E-05", "1/100000"),
        ("2.5 \\times 10^6", "2500000"),
        ("2 \\cdot 10^{-3}", "1/500"),
        ("2.5×10⁶", "2500000"),
        ("10^{-2}", "1/100"),
        ("-3/4", "-3/4"),
        ("\\frac{3}{4}", "3/4"),
        ("-\\dfrac{3}{4}", "-3/4"),
        ("\\frac34", "3/4"),
        ("\\frac{-3}{4}", "-3/4"),
        ("1 1/2", "3/2"),
        ("-1\\frac{1}{2}", "-3/2"),
        ("1½", "3/2"),
        ("½", "1/2"),
        ("\\$18", "18"),
        ("-$1,200.50", "-2401/2"),
        ("€5", "5"),
        ("5 €", "5"),
        ("18 dollars", "18"),
        ("3 million", "3000000"),
        ("50\\%", "50"),
        ("90°", "90"),
        ("90^\\circ", "90"),
        ("90 degrees", "90"),
        ("5\\text{ cm}", "5"),
        ("5 \\mathrm{~cm}^2", "5"),
        ("025", "25"),  # as contests print it
    ],
)
def test_numbers_are_read(text: str, value: str) -> None:
    number = read_number(text)
    assert number is not None
    assert number.value == Fraction(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nan",
        "inf",
        "1/0",
        "\\frac{1}{0}",
        "1,2",
        "12,34",
        "7 apples",
        "7 8",
        "seven",
        "5m",
        "00420",
        "1.2.3",
        "7 or 8",
    ]
    + ["2024-01-05", "10:30", "2^{10}", "3+4", "1e999999999", "\\frac{x}{2}", "5 am", "7B", "--5", "\ud800"],
)
def test_what_is_no_number_is_not_read(text: str) -> None:
    assert read_number(text) is None


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        ("0.333333", "1/3", True),  # six digits: wrong by one part in a million
        ("0.33333", "1/3", False),
        ("1e-9", "3e-9", False),
        ("1e-9", "0", False),
        ("0.30000000000000004", "0.3", True),
        ("1000000.5", "1000001", False),
        ("2.0000000001", "2", False),
        ("2.0000000000000004", "2", True),
        ("1234567.8", "1234567.9", False),
        ("333333333.3333", "1000000000/3", True),
        ("1000000001", "1000000000", False),  # whole numbers are exact
        ("72.0", "72", True),
        ("€5", "5", True),
        ("€5", "$5", False),
        ("5\\text{ cm}", "5\\text{ m}", False),
        ("5\\text{ cm}", "5 centimeters", True),
        ("20°C", "20°F", False),
        ("90°", "90 degrees", True),
    ],
)
def test_numbers_agree(a: str, b: str, equal: bool) -> None:
    one, other = read_number(a), read_number(b)
    assert one is not None
    assert other is not None
    assert equal_numbers(one, other) is equal
