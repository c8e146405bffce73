import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from mentor_pl.advantages import (
    GDPO,
    BatchStandardized,
    GroupCentered,
    GroupRewards,
    GroupStandardized,
    LeaveOneOut,
    MaxRL,
)


def group(rewards, scores=None, weights=None):
    """A group of these rewards; by one term of weight 1, or by several."""
    return GroupRewards(
        rewards=tensor(rewards),
        scores=tensor([[r] for r in rewards] if scores is None else scores),
        weights=tensor([1.0] if weights is None else weights),
    )


def test_group_standardized():
    # Mean 0.5; deviations 0.5, -0.5, 0.5, -0.5; sample variance 1 / 3, so their quotient with its root is sqrt(3) / 2.
    assert_close(GroupStandardized()(group([1.0, 0.0, 1.0, 0.0])), tensor([1.0, -1.0, 1.0, -1.0]) * 3**0.5 / 2)


def test_group_standardized_blows_small_differences_up_unless_the_divisor_has_a_floor():
    rewards = group([1.1, 1.1, 1.1, 0.7])  # mean 1.0; deviations 0.1, 0.1, 0.1, -0.3; variance 0.12 / 3 = 0.2 ** 2
    assert_close(GroupStandardized()(rewards), tensor([0.5, 0.5, 0.5, -1.5]))
    assert_close(GroupStandardized(min_std=0.4)(rewards), tensor([0.25, 0.25, 0.25, -0.75]))
    assert_close(GroupStandardized(min_std=0.1)(rewards), GroupStandardized()(rewards))


def test_group_centered():
    assert_close(GroupCentered()(group([1.0, 0.0, 0.5, 0.5])), tensor([0.5, -0.5, 0.0, 0.0]))


def test_leave_one_out():
    # 1.0 against the mean 1/3 of the others; 0.0 against 2/3; 0.5 against 0.5
    assert_close(LeaveOneOut()(group([1.0, 0.0, 0.5, 0.5])), tensor([2 / 3, -2 / 3, 0.0, 0.0]))


@pytest.mark.parametrize(
    "estimator",
    [
        GroupStandardized(),
        GroupStandardized(min_std=0.2),
        GroupCentered(),
        LeaveOneOut(),
        GDPO(),
        MaxRL(),
        BatchStandardized("group"),
    ],
)
@pytest.mark.parametrize("rewards", [[1.1, 1.1, 1.1], [0.1] * 7, [0.0, 0.0], [0.8]])
def test_equal_rewards_teach_exactly_nothing(estimator, rewards):
    assert torch.equal(estimator(group(rewards)), torch.zeros(len(rewards)))


def test_batch_standardized_leaves_the_division_to_the_round():
    given = group([1.0, 0.0, 0.5, 0.5])
    assert_close(BatchStandardized()(given), given.rewards)
    assert_close(BatchStandardized("group")(given), tensor([0.5, -0.5, 0.0, 0.0]))
    assert BatchStandardized().standardizes_round and not GroupStandardized().standardizes_round


def test_gdpo_keeps_apart_what_sums_would_make_equal():
    # Two terms of weight 1: (1, 0), (0, 1), (0, 0), (0, 0) have the sums 1, 1, 0, 0; so have (1, 0), (1, 0), ... of one term alone.
    # Each column: mean 1/4, sample variance (9/16 + 3/16) / 3 = 1/4, so 1.5 and -0.5.
    apart = GDPO()(group([1.0, 1.0, 0.0, 0.0], [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]], [1.0, 1.0]))
    assert_close(apart, tensor([1.0, 1.0, -1.0, -1.0]))
    weighted = GDPO()(group([1.0, 0.5, 0.0, 0.0], [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]], [1.0, 0.5]))
    assert_close(weighted, tensor([1.5 - 0.25, -0.5 + 0.75, -0.75, -0.75]))


def test_a_term_that_all_earn_says_nothing_in_gdpo():
    given = group([1.1, 0.1], [[1.0, 1.0], [0.0, 1.0]], [1.0, 0.1])  # (1 - 0.5) / sqrt(0.5) = sqrt(0.5)
    assert_close(GDPO()(given), tensor([1.0, -1.0]) * 0.5**0.5)
    assert_close(GDPO(min_std=1.0)(given), tensor([0.5, -0.5]))


def test_maxrl_divides_by_the_mean():
    assert_close(MaxRL()(group([1.0, 0.0, 0.0, 0.0])), tensor([3.0, -1.0, -1.0, -1.0]))
    assert_close(MaxRL()(group([1.0, 1.0, 1.0, 0.0])), tensor([1 / 3, 1 / 3, 1 / 3, -1.0]))
