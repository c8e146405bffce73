import pytest

from mentor_pl.rewards.judges import element_by_element, equal_as_numbers
from mentor_pl.rewards.plain_text import equal_as_text


def test_numbers_agree_within_a_relative_tolerance() -> None:
    assert equal_as_numbers("1000.0005", "1000", tolerance=1e-6)
    assert not equal_as_numbers("1000.002", "1000", tolerance=1e-6)
    assert not equal_as_numbers("1e-12", "3e-12")
    assert not equal_as_numbers("0.333", "1/3")
    assert not equal_as_numbers("seven", "7")


def test_texts_agree_whatever_their_case_and_white_space() -> None:
    assert equal_as_text(" New\n york", "new York")
    assert equal_as_text("**Paris**.", "\\text{Paris}")
    assert equal_as_text("(C)", "C")
    assert not equal_as_text("York", "New York")
    assert not equal_as_text("", "")


@pytest.mark.parametrize(
    ("answer", "gold", "right"),
    [
        ("\\{1,2\\}", "\\{1,2\\}", True),
        ("\\{1, 2\\}", "\\left\\{1,2\\right\\}", True),
        ("\\{2,1\\}", "\\{1,2\\}", False),
        ("(1,2)", "\\{1,2\\}", False),
        ("[0,1)", "[0,1)", True),
        ("[0,1]", "[0,1)", False),
        ("1,2", "1, 2", True),
        ("1,2", "(1,2)", False),
        ("1,2,3", "1,2", False),
        ("(1,2),(3,4)", "(1, 2), (3, 4)", True),
        ("(3,4),(1,2)", "(1,2),(3,4)", False),
        ("1,234", "1,234", True),  # one number: no list at all
        ("7", "7", True),
        ("7", "7,8", False),
    ],
)
def test_lists_agree_element_by_element(answer: str, gold: str, right: bool) -> None:
    assert element_by_element(lambda a, b: a.replace(" ", "") == b.replace(" ", ""))(answer, gold) is right


def test_nested_lists_reach_the_judge_whole() -> None:
    asked: list[tuple[str, str]] = []
    element_by_element(lambda a, b: not asked.append((a, b)))("(f(1,2), 3)", "(f(1,2), 4)")
    assert asked == [("f(1,2)", "f(1,2)"), ("3", "4")]
