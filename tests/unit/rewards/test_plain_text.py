import pytest

from mentor_pl.rewards.plain_text import is_text, plain


@pytest.mark.parametrize(
    "gold",
    [
        "Paris",
        "no",
        "on",
        "John Smith",
        "ABC",
        "A",
        "True",
        "\\text{Evelyn}",
        "\\textbf{(C)}",
        "São Paulo",
        "東京",
        "Москва",
    ]
    + ["7B", "B7", "A-12", "F-16", "H2O", "CO2", "x2", "e4", "K9", "3rd", "O+", "A-", "C++", "AB"]
    + [
        "2024-01-05",
        "05/01/2024",
        "5.1.2024",
        "2024-01-05T10:30:00Z",
        "10:30",
        "10:30 am",
        "5 pm",
        "March 5, 2024",
        "5 May",
    ]
    + ["192.168.1.0", "192.168.0.0/16", "fe80::1", "1.2.3", "v1.10", "1.2.3-rc1", "3-2", "1:2"]
    + ["+49 89 1234567", "(555) 010-9999", "555-0199", "555 0199", "+4989123456", "02134", "12345-6789"]
    + [
        "a@b.example",
        "https://example.org/a",
        "www.example.org",
        "example.org",
        "/usr/bin",
        "user_name",
        "#FF0000",
        "0x1F",
    ]
    + ["10 Downing Street", "12 Main St", "60 km/h", "ISBN 978-3-16-148410-0", "U.S."],
)
def test_words_names_and_codes_are_text(gold: str) -> None:
    assert is_text(gold)


@pytest.mark.parametrize(
    "gold",
    [
        "x+1",
        "x^2+xy",
        "2x",
        "2xy",
        "3x-2y",
        "\\pi",
        "2\\pi r",
        "\\frac{\\pi}{4}",
        "sin(x)",
        "2 sin x",
        "x=7",
        "(1,2)",
        "[0,1)",
    ]
    + [
        "\\{1,2\\}",
        "1,2",
        "7 or 8",
        "-2^10",
        "2^{10}",
        "sqrt(2)",
        "x_1",
        "n!",
        "x > 2",
        "\\sqrt{ab}",
        "π",
        "2π",
        "1-x",
    ],
)
def test_mathematics_is_not(gold: str) -> None:
    assert not is_text(gold)


def test_decoration_is_taken_off() -> None:
    assert plain("**\\text{New York}**.") == "New York"
    assert plain("“Paris”") == "Paris"
    assert plain("John\\ Smith\\_1") == "John Smith_1"
    assert plain("10⁶") == "10^{6}"  # not 106
    assert plain("2*3*4") == "2*3*4"
