import pytest

from mentor_pl.training.round_advantages import standardized_over_round
from tests.unit.training.samples import GIVEN, SAMPLED, sample

LONG = sample([7], (SAMPLED, [1, 2]), (GIVEN, [3]), (SAMPLED, [4]), advantage=1.0)
SHORT = sample([7], (SAMPLED, [1]), advantage=-2.0)


def advantages(groups):
    return [[s.advantages.tolist() for s in group] for group in groups]


def test_each_trajectory_counts_once():
    # 1, -2, -2: mean -1, sample variance (4 + 1 + 1) / 2 = 3
    done = advantages(standardized_over_round([[LONG, SHORT], [], [SHORT]], list))
    good, bad = pytest.approx(2 / 3**0.5), pytest.approx(-1 / 3**0.5)
    assert done == [[[0, good, good, 0, good], [0, bad]], [], [[0, bad]]]


def test_the_round_is_that_of_all_ranks():
    # Another rank has 1, 1, 1: mean 0, sample variance 12 / 5
    done = standardized_over_round(
        [[LONG, SHORT], [SHORT]], lambda sums: [a + b for a, b in zip(sums, [3, 3, 3], strict=True)]
    )
    assert advantages(done)[1] == [[0, pytest.approx(-2 / 2.4**0.5)]]


def test_equal_rewards_teach_nothing():
    assert advantages(standardized_over_round([[SHORT, SHORT]], list)) == [[[0, 0], [0, 0]]]
    assert standardized_over_round([[]], list) == [[]]
