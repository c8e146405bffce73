import pytest

from mentor_pl.errors import ConfigError
from mentor_pl.messages import Message
from mentor_pl.reference import Reference
from mentor_pl.rewards.correct import Correct
from mentor_pl.testing import check_reward_component, trajectory
from mentor_pl.trajectory import StopReason


def reference(answer: str) -> Reference:
    return Reference(reference_id="r", prompt=(Message(role="user", content="?"),), answer=answer, tools=())


def score(component: Correct, text: str, *answers: str) -> float:
    return component.score(trajectory(text), [reference(answer) for answer in answers])


@pytest.mark.parametrize(
    "component", [Correct(), Correct("exact", place="text"), Correct("numeric", strict_lists=True)]
)
def test_it_keeps_the_contract(component: Correct) -> None:
    check_reward_component(component)


def test_math_judges_objects_exact_texts_numeric_numbers() -> None:
    assert score(Correct("math"), "\\boxed{\\frac{2}{4}}", "0.5") == 1.0
    assert score(Correct("exact"), "\\boxed{\\frac{2}{4}}", "0.5") == 0.0
    assert score(Correct("numeric"), "\\boxed{\\frac{2}{4}}", "0.5") == 1.0
    assert score(Correct("exact"), "\\boxed{new  YORK}", "New York") == 1.0
    assert score(Correct("numeric", tolerance=0.01), "\\boxed{3.14}", "3.1416") == 1.0


def test_strict_lists_keep_their_order() -> None:
    assert score(Correct(), "\\boxed{\\{2,1\\}}", "\\{1,2\\}") == 1.0
    assert score(Correct(strict_lists=True), "\\boxed{\\{2,1\\}}", "\\{1,2\\}") == 0.0
    assert score(Correct(strict_lists=True), "\\boxed{\\{\\frac{2}{2},2.0\\}}", "\\{1,2\\}") == 1.0


def test_any_reference_makes_it_right_and_none_wrong() -> None:
    assert score(Correct(), "\\boxed{7}", "8", "\\boxed{7}") == 1.0
    assert score(Correct(), "\\boxed{7}", "", " ") == 0.0
    assert score(Correct("exact"), "\\boxed{7}", "") == 0.0


def test_who_did_not_finish_is_not_right() -> None:
    cut = trajectory("The answer is \\boxed{7} and", stop_reason=StopReason.MAX_TURNS)
    assert Correct().score(cut, [reference("7")]) == 0.0


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="tolerance is 0; it must be greater than 0"):
        Correct(tolerance=0)
    with pytest.raises(ConfigError, match="timeout_s is -1; it must be greater than 0"):
        Correct(timeout_s=-1)
    with pytest.raises(ConfigError, match="judge is 'maths'; it must be one of math, exact, numeric"):
        Correct("maths")  # pyright: ignore[reportArgumentType]
