import pytest

from mentor_pl.messages import Message
from mentor_pl.reference import Reference
from mentor_pl.rewards.program import ScoredGroup
from mentor_pl.training.round_advantages import standardized_over_round
from mentor_pl.training.rounds import Round
from mentor_pl.trajectory import TrajectoryGroup
from tests.unit.training.samples import GIVEN, SAMPLED, sample

LONG = sample([7], (SAMPLED, [1, 2]), (GIVEN, [3]), (SAMPLED, [4]), advantage=1.0)
SHORT = sample([7], (SAMPLED, [1]), advantage=-2.0)


def standardized(samples, elsewhere=None, environments=None, names=("",)):
    """Return the advantages of every sample; elsewhere: the sums of other ranks."""
    groups = tuple(_group(name) for name in environments or [""] * len(samples))
    over_ranks = list if elsewhere is None else lambda mine: [a + b for a, b in zip(mine, elsewhere, strict=True)]
    done = standardized_over_round(Round(samples=samples, scored_groups=groups), names, over_ranks)
    return [[s.advantages.tolist() for s in group] for group in done]


def _group(environment):
    prompt = (Message(role="user", content="?"),)
    reference = Reference(reference_id="r", prompt=prompt, answer="", tools=(), environment=environment)
    group = TrajectoryGroup(references=(reference,), trajectories=())
    return ScoredGroup(group=group, rewards=(), scores={}, exits=())


def test_each_trajectory_counts_once():
    # 1, -2, -2: mean -1, sample variance (4 + 1 + 1) / 2 = 3
    good, bad = pytest.approx(2 / 3**0.5), pytest.approx(-1 / 3**0.5)
    assert standardized([[LONG, SHORT], [], [SHORT]]) == [[[0, good, good, 0, good], [0, bad]], [], [[0, bad]]]


def test_the_round_is_that_of_all_ranks():
    # Another rank has 1, 1, 1: mean 0, sample variance 12 / 5
    assert standardized([[LONG, SHORT], [SHORT]], [3, 3, 3])[1] == [[0, pytest.approx(-2 / 2.4**0.5)]]


def test_equal_rewards_teach_nothing():
    assert standardized([[SHORT, SHORT]]) == [[[0, 0], [0, 0]]]
    assert standardized([[]]) == [[]]


def test_environments_are_not_compared_with_each_other():
    """The first has 1 and -2 here, mean -0.5 and variance 4.5; the second -2 here and 0 on another rank."""
    done = standardized([[LONG], [SHORT], [SHORT]], [0, 0, 0, 1, 0, 0], ["a", "b", "a"], ("a", "b"))
    good = pytest.approx(1.5 / 4.5**0.5)
    bad = pytest.approx(-1.5 / 4.5**0.5)
    assert done == [[[0, good, good, 0, good]], [[0, pytest.approx(-1 / 2**0.5)]], [[0, bad]]]
