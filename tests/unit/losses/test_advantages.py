import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from mentor_pl.losses.advantages import GroupCentered, GroupStandardized, LeaveOneOut


def test_group_standardized():
    # Mean 0.5; deviations 0.5, -0.5, 0.5, -0.5; sample variance 1 / 3, so their quotient with its root is sqrt(3) / 2.
    assert_close(GroupStandardized()(tensor([1.0, 0.0, 1.0, 0.0])), tensor([1.0, -1.0, 1.0, -1.0]) * 3**0.5 / 2)


def test_group_standardized_blows_small_differences_up_unless_the_divisor_has_a_floor():
    rewards = tensor([1.1, 1.1, 1.1, 0.7])  # mean 1.0; deviations 0.1, 0.1, 0.1, -0.3; variance 0.12 / 3 = 0.2 ** 2
    assert_close(GroupStandardized()(rewards), tensor([0.5, 0.5, 0.5, -1.5]))
    assert_close(GroupStandardized(min_std=0.4)(rewards), tensor([0.25, 0.25, 0.25, -0.75]))
    assert_close(GroupStandardized(min_std=0.1)(rewards), GroupStandardized()(rewards))


def test_group_centered():
    assert_close(GroupCentered()(tensor([1.0, 0.0, 0.5, 0.5])), tensor([0.5, -0.5, 0.0, 0.0]))


def test_leave_one_out():
    # 1.0 against the mean 1/3 of the others; 0.0 against 2/3; 0.5 against 0.5
    assert_close(LeaveOneOut()(tensor([1.0, 0.0, 0.5, 0.5])), tensor([2 / 3, -2 / 3, 0.0, 0.0]))


@pytest.mark.parametrize(
    "estimator", [GroupStandardized(), GroupStandardized(min_std=0.2), GroupCentered(), LeaveOneOut()]
)
@pytest.mark.parametrize("rewards", [[1.1, 1.1, 1.1], [0.1] * 7, [0.0, 0.0], [0.8]])
def test_equal_rewards_teach_exactly_nothing(estimator, rewards):
    assert torch.equal(estimator(tensor(rewards)), torch.zeros(len(rewards)))
