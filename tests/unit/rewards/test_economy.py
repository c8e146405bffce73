import math

import pytest

from mentor_pl.errors import ConfigError
from mentor_pl.messages import Message, ToolCall
from mentor_pl.reference import Reference
from mentor_pl.rewards.base import RewardComponent
from mentor_pl.rewards.economy import Economy
from mentor_pl.testing import check_reward_component, trajectory
from mentor_pl.trajectory import TrajectoryGroup

REFERENCE = Reference(reference_id="r", prompt=(Message(role="user", content="?"),), answer="right", tools=())


class Says(RewardComponent):
    def score(self, trajectory, references) -> float:
        return float(trajectory.final_text == references[0].answer)


def scores(component: Economy, *attempts: tuple[str, list[str]]) -> list[float]:
    trajectories = tuple(
        trajectory(text, *(ToolCall(call_id=str(i), name=name, arguments={}) for i, name in enumerate(names)))
        for text, names in attempts
    )
    return component.score_group(TrajectoryGroup(references=(REFERENCE,), trajectories=trajectories))


def test_it_keeps_the_contract() -> None:
    check_reward_component(Economy())


def test_the_cheapest_success_is_paid_in_full_and_failures_nothing() -> None:
    # n = 2: f = 2 n m / (m + n) is 2, 3 and 0; sin(3 pi / 4)
    given = scores(Economy(Says()), ("right", ["a"] * 2), ("right", ["a"] * 6), ("wrong", ["a"]), ("wrong", []))
    assert given == pytest.approx([1.0, math.sin(3 * math.pi / 4), 0.0, 0.0])


def test_where_no_call_is_needed_calls_cost() -> None:
    # cos(m pi / (2 m + 1)) for m = 0, 1, 2
    given = scores(Economy(Says()), ("right", []), ("right", ["a"]), ("right", ["a", "a"]))
    assert given == pytest.approx([1.0, 0.5, math.cos(2 * math.pi / 5)])


def test_dear_tools_count_more() -> None:
    component = Economy(Says(), costs={"dear": 3.0, "free": 0.0})
    # costs 1, 3: f = 2 * 1 * 3 / 4 = 1.5
    assert scores(component, ("right", ["a", "free"]), ("right", ["dear"])) == pytest.approx(
        [1.0, math.sin(1.5 * math.pi / 2)]
    )


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="the cost of 'a' is -1"):
        Economy(costs={"a": -1})
    with pytest.raises(ConfigError, match="decay is 0"):
        Economy(decay=0)
