from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import pytest

from mentor_pl.errors import PluginError, RewardError
from mentor_pl.reference import Reference
from mentor_pl.rewards.base import RewardComponent
from mentor_pl.testing import check_reward_component
from mentor_pl.trajectory import Trajectory, TrajectoryGroup


class Constant(RewardComponent):
    def score(self, trajectory: Trajectory, references: Sequence[Reference]) -> float:
        return 0.5


class OutOfRange(RewardComponent):
    def score(self, trajectory: Trajectory, references: Sequence[Reference]) -> float:
        return len(trajectory.tool_calls) / 100


class Raises(RewardComponent):
    def score(self, trajectory: Trajectory, references: Sequence[Reference]) -> float:
        return float(trajectory.final_text.index("boxed") > 0)


class Rolls(RewardComponent):
    def score(self, trajectory: Trajectory, references: Sequence[Reference]) -> float:
        return random.random()


class Counts(RewardComponent):
    """Pure at first sight: remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: dict[str, int] = {}

    def score(self, trajectory: Trajectory, references: Sequence[Reference]) -> float:
        self.asked[trajectory.final_text] = self.asked.get(trajectory.final_text, 0) + 1
        return float(self.asked[trajectory.final_text] > 50)


class ReadsToolOutput(RewardComponent):
    def score(self, trajectory: Trajectory, references: Sequence[Reference]) -> float:
        return float(any("boxed{3}" in result.content for result in trajectory.tool_results))


class ReadsPrompt(RewardComponent):
    def score(self, trajectory: Trajectory, references: Sequence[Reference]) -> float:
        return float("1 + 2" in references[0].prompt[-1].content)


class GroupDisagrees(Constant):
    def score_group(self, group: TrajectoryGroup) -> list[float]:
        return [0.5] + [0.25] * (len(group.trajectories) - 1)


class GroupOfOneDisagrees(Constant):
    def score_group(self, group: TrajectoryGroup) -> list[float]:
        return [1.0 / len(group.trajectories)] * len(group.trajectories)


def test_a_component_that_keeps_the_contract_passes() -> None:
    check_reward_component(Constant())


@pytest.mark.parametrize(
    ("component", "message"),
    [
        (OutOfRange(), r"returned 2.0[0-9]* for reference 'r', sample 0; scores must be numbers in \[0, 1\]"),
        (Raises(), "raised ValueError for reference 'r': substring not found"),
    ],
)
def test_no_score_is_an_error_of_the_component(component: RewardComponent, message: str) -> None:
    with pytest.raises(RewardError, match=message):
        check_reward_component(component)


@pytest.mark.parametrize(
    ("component", "message"),
    [
        (Rolls(), "Rolls: score gives .*a group of one must score as its trajectory does"),
        (Counts(), "Counts: .*pure"),
        (ReadsToolOutput(), "once the prompt and the tools' output were changed.*only what the student itself sampled"),
        (ReadsPrompt(), "once the prompt and the tools' output were changed.*only what the student itself sampled"),
        (GroupDisagrees(), "score_group must return one score for each trajectory, in order, as score does"),
        (GroupOfOneDisagrees(), "a group of one must score as its trajectory does"),
    ],
)
def test_a_broken_clause_is_named(component: RewardComponent, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        check_reward_component(component)


def test_ones_own_cases_are_checked_too() -> None:
    class OnlyShort(Constant):
        def score(self, trajectory: Trajectory, references: Sequence[Reference]) -> float:
            return 2.0 if "own case" in trajectory.final_text else 0.5

    from mentor_pl.testing import awkward_trajectories, trajectory

    (_, references), *_ = itertools.islice(awkward_trajectories(), 1)
    check_reward_component(OnlyShort())
    with pytest.raises(RewardError, match=r"returned 2.0 for reference 'r', sample 0"):
        check_reward_component(OnlyShort(), cases=[(trajectory("my own case"), references)])
