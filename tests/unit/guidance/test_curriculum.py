"""Which prompts are open, and how a round is divided among pools."""

from __future__ import annotations

import pytest

from mentor_pl.errors import ConfigError
from mentor_pl.guidance import Curriculum, DifficultyPools
from mentor_pl.guidance.difficulty_pools import UNSEEN
from mentor_pl.messages import Message, ToolCall
from mentor_pl.reference import Reference


def reference(num_calls: int = 0, **fields: object) -> Reference:
    calls = tuple(ToolCall(call_id=str(i), name="add") for i in range(num_calls))
    prompt = (Message(role="user", content="?"),)
    return Reference(reference_id="r", prompt=prompt, answer="1", tools=(), tool_calls=calls, fields=fields)


def test_prompts_open_linearly() -> None:
    curriculum = Curriculum(rounds=4, first_share=0.5)
    assert [curriculum.num_open(10, i) for i in (0, 1, 2, 4, 9)] == [5, 7, 8, 10, 10]  # 5, 6.25, 7.5 rounded up


def test_the_easiest_solution_counts() -> None:
    assert Curriculum().difficulty([reference(3), reference(2)]) == 2.0
    assert Curriculum(field="level").difficulty([reference(3, level=1.5)]) == 1.5


def test_a_field_that_is_no_number_is_refused() -> None:
    with pytest.raises(ConfigError, match="field is 'level', which is 'hard' in reference 'r'"):
        Curriculum(field="level").difficulty([reference(1, level="hard")])


def test_a_round_is_divided_among_the_pools() -> None:
    pools = DifficultyPools(failed=0.25, solved=0.25)
    #        0    1    2    3    4       5    6    7
    rates = [0.0, 0.0, 1.0, 1.0, UNSEEN, 0.5, 0.1, 0.9]  # 0.1 and 0.9 are in between
    assert pools.chosen(rates, [7, 6, 5, 4, 3, 2, 1, 0], num_places=4) == [1, 3, 7, 6]
    # With two in between, failed and solved take the places that are left, in this order.
    assert pools.chosen(rates, [0, 1, 2, 3, 4, 5], num_places=5) == [0, 2, 4, 5, 1]


def test_a_rate_follows_the_newest_group() -> None:
    pools = DifficultyPools(smoothing=0.25)
    assert pools.updated(UNSEEN, 0.5) == 0.5
    assert pools.updated(0.5, 1.0) == 0.625


@pytest.mark.parametrize(
    "wrong", [{"failed": 0.8, "solved": 0.3}, {"failed_below": 0.9, "solved_above": 0.1}, {"smoothing": 0.0}]
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="guidance.difficulty_pools"):
        DifficultyPools(**wrong)
