import pytest
from mentor_pl_brevity import Brevity

from mentor_pl.errors import ConfigError
from mentor_pl.testing import check_reward_component, trajectory


def test_it_keeps_the_contract() -> None:
    check_reward_component(Brevity(target_tokens=10, zero_at_tokens=110))


@pytest.mark.parametrize(
    ("num_tokens", "score"),
    [(1, 1.0), (10, 1.0), (60, 0.5), (85, 0.25), (110, 0.0), (5000, 0.0)],
)
def test_it_falls_in_a_straight_line(num_tokens: int, score: float) -> None:
    component = Brevity(target_tokens=10, zero_at_tokens=110)
    assert component.score(trajectory("\\boxed{3}", num_tokens=num_tokens), []) == score


def test_words_stand_in_for_tokens_of_a_trajectory_from_a_file() -> None:
    component = Brevity(target_tokens=0, zero_at_tokens=4)
    assert component.score(trajectory("three little words", num_tokens=0), []) == 0.25


def test_lengths_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ConfigError, match="target_tokens is 20 and zero_at_tokens 10"):
        Brevity(target_tokens=20, zero_at_tokens=10)
