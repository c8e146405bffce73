import math

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from mentor_pl.losses import DrGRPOLoss, GRPOLoss
from mentor_pl.losses.guided import guided
from tests.unit.losses.given import inputs


def split(loss, given, teacher, imitated, num_imitated_tokens=2.0):
    return guided(
        loss,
        given,
        of_teacher=tensor(teacher),
        imitated=tensor(imitated),
        num_imitated_tokens=num_imitated_tokens,
        shaping=0.1,
    )


def test_each_token_has_the_loss_of_its_source():
    logprobs = [0.0, math.log(0.1), math.log(0.4), math.log(0.5)]
    # Advantages: of the student's token 1, of the teacher's 2 and -1, the imitated one's weight 0.3.
    given = inputs(logprobs, [1.0, 2.0, -1.0, 0.3], num_loss_tokens=3.0)
    out = split(GRPOLoss(kl_weight=0.0), given, [False, True, True, False], [False, False, False, True])
    out.loss.backward()
    # f(0.1) = 1/2, f(0.4) = 4/5
    expected = (-1.0 - 2 * 0.5 + 0.8) / 3 - 0.3 * math.log(0.5) / 2
    assert_close(out.loss.item(), expected)
    # df/dlogp = p gamma / (p + gamma)^2: 1/4 and 0.04/0.25
    assert_close(given.logprobs.grad, tensor([-1 / 3, -2 * 0.25 / 3, 0.16 / 3, -0.3 / 2]))
    assert out.means["entropy"].item() == 0.5  # the student's token alone is logged


def test_the_teachers_tokens_are_put_together_like_the_students():
    given = inputs([0.0, 0.0], [1.0, 1.1], trajectories=[0, 1], num_loss_tokens=2.0, num_trajectories=2.0)
    out = split(DrGRPOLoss(max_tokens=5), given, [False, True], [False, False])
    assert_close(out.loss.item(), -(1.0 + 1.1 / 1.1) / 10)


@pytest.mark.parametrize("loss", [GRPOLoss(), GRPOLoss(aggregation="sequence_mean")])
def test_without_guidance_nothing_changes(loss):
    given = inputs(
        [0.3, -0.2, 0.1], [1.0, -1.0, 0.5], reference=[0.1] * 3, trajectories=[0, 0, 1], num_trajectories=2.0
    )
    nobody = [False] * 3
    out, alone = split(loss, given, nobody, nobody), loss(given)
    assert torch.equal(out.loss, alone.loss)
    assert out.means == alone.means
