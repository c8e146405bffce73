import math

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from mentor_pl.errors import ConfigError
from mentor_pl.losses import GRPOLoss, SFTLoss
from mentor_pl.losses.kl import k3
from tests.unit.losses.given import inputs

E = math.e


@pytest.mark.parametrize(
    ("log_ratio", "advantage", "loss", "gradient"),
    [
        (0.0, 1.0, -1.0, -1.0),  # on policy: d(-ratio * A) = -ratio * A
        (1.0, 1.0, -1.2, 0.0),  # ratio e, clipped at 1.2: likely enough
        (-1.0, 1.0, -1 / E, -1 / E),  # good and unlikely: pushed up, no clip
        (1.0, -1.0, E, E),  # bad and likely: pushed down, no clip
        (-1.0, -1.0, 0.8, 0.0),  # bad and unlikely: clipped at 0.8
        (math.log(1.1), 2.0, -2.2, -2.2),  # within the clip
        (0.5, 0.0, 0.0, 0.0),
    ],
)
def test_clipped_surrogate_of_one_token(log_ratio, advantage, loss, gradient):
    given = inputs([log_ratio], [advantage])
    out = GRPOLoss(kl_weight=0.0)(given)
    out.loss.backward()
    assert_close(out.loss.item(), loss, rtol=1e-6, atol=1e-7)
    assert_close(given.logprobs.grad, tensor([gradient]), rtol=1e-6, atol=1e-7)


def test_clips_may_differ():
    given = inputs([1.0, -1.0], [1.0, -1.0])
    assert_close(
        GRPOLoss(clip_low=0.5, clip_high=0.28, kl_weight=0.0)(given).loss.item(),
        -1.28 + 0.5,
        rtol=1e-6,
        atol=0.0,
    )


def test_the_mean_is_over_all_tokens_of_the_step():
    given = inputs([0.0, 1.0, -1.0], [1.0, 1.0, -1.0], num_loss_tokens=10.0)
    assert_close(GRPOLoss(kl_weight=0.0)(given).loss.item(), (-1.0 - 1.2 + 0.8) / 10, rtol=1e-6, atol=0.0)


def test_the_ratio_is_taken_to_the_old_policy_and_each_token_has_its_weight():
    given = inputs([1.0, 1.0], [1.0, -1.0], old=[1.0, 2.0], weights=[0.5, 2.0], reference=[1.0, 1.0 + math.log(2)])
    out = GRPOLoss(kl_weight=0.1)(given)
    out.loss.backward()
    # ratio 1; ratio 1/e, which is clipped at 0.8, and a penalty of 0.1 (1 - log 2)
    assert_close(out.loss.item(), 0.5 * -1.0 + 2.0 * (0.8 + 0.1 * (1 - math.log(2))), rtol=1e-6, atol=0.0)
    assert_close(given.logprobs.grad, tensor([-0.5, 2.0 * 0.1 * (1 - 2)]))
    # how far the sampler is does not depend on the old policy
    assert_close(out.means["sampling_kl"].item(), 2 * (E - 2), rtol=1e-6, atol=0.0)
    assert out.maxima["logprob_difference"].item() == 1.0


def test_what_the_clipped_surrogate_logs():
    out = GRPOLoss(kl_weight=0.0)(inputs([0.0, 1.0, -1.0, -0.5], [1.0, 1.0, -1.0, 1.0]))
    assert out.means["clip_fraction"].item() == 2.0
    assert out.means["entropy"].item() == 2.0
    # ratio - 1 - log ratio of each
    assert_close(out.means["sampling_kl"].item(), 0 + (E - 2) + 1 / E + (math.exp(-0.5) - 0.5), rtol=1e-6, atol=0.0)
    assert out.maxima["logprob_difference"].item() == 1.0
    assert "kl" not in out.means


def test_k3():
    # log(reference / policy) = log 2: 2 - 1 - log 2
    assert_close(k3(tensor([0.0, 0.0, -1.0]), tensor([math.log(2), 0.0, -2.0])), tensor([1 - math.log(2), 0.0, 1 / E]))
    assert torch.isfinite(k3(tensor([-1e4, 0.0]), tensor([0.0, -1e4]))).all()


def test_k3_is_the_kl_divergence_on_average():
    p, q = tensor([0.5, 0.3, 0.2], dtype=torch.float64), tensor([0.2, 0.2, 0.6], dtype=torch.float64)
    assert_close((p * k3(p.log(), q.log())).sum(), (p * (p / q).log()).sum())


def test_the_kl_penalty_pulls_towards_the_ref_policy():
    given = inputs([0.0], [0.0], reference=[math.log(2)], num_loss_tokens=4.0)
    out = GRPOLoss(kl_weight=0.1)(given)
    out.loss.backward()
    assert_close(out.loss.item(), 0.1 * (1 - math.log(2)) / 4, rtol=1e-6, atol=0.0)
    assert_close(given.logprobs.grad, tensor([0.1 * (1 - 2) / 4]))  # d k3 / d logprob = 1 - reference / policy
    assert_close(out.means["kl"].item(), 1 - math.log(2), rtol=1e-6, atol=0.0)


def test_a_group_of_equal_rewards_has_exactly_no_gradient():
    loss = GRPOLoss(kl_weight=0.0)
    given = inputs([0.3, -0.7, 5.0], [0.0, 0.0, 0.0])
    loss(given).loss.backward()
    assert torch.equal(given.logprobs.grad, torch.zeros(3))
    assert (loss.needs_ref_policy, loss.needs_all_tokens) == (False, False)
    assert (GRPOLoss().needs_ref_policy, GRPOLoss().needs_all_tokens) == (True, True)


def test_wild_disagreement_with_the_sampler_stays_finite():
    given = inputs([500.0, -500.0], [-1.0, 1.0], reference=[-500.0, 500.0])
    out = GRPOLoss()(given)
    out.loss.backward()
    assert torch.isfinite(out.loss) and torch.isfinite(given.logprobs.grad).all()


def test_supervised_likelihood_is_the_mean_over_all_tokens_of_the_step():
    given = inputs([-1.0, -3.0], [7.0, -7.0], num_loss_tokens=8.0)
    out = SFTLoss()(given)
    out.loss.backward()
    assert_close(out.loss.item(), 0.5)
    assert_close(given.logprobs.grad, tensor([-0.125, -0.125]))


@pytest.mark.parametrize("loss", [GRPOLoss(), GRPOLoss(kl_weight=0.0), SFTLoss()])
def test_an_empty_micro_batch_has_loss_0_and_logs_the_same_names(loss):
    """Ranks that log different names wait for each other forever."""
    reference = [] if loss.needs_ref_policy else None
    empty = loss(inputs([], [], reference=reference))
    empty.loss.backward()
    full = loss(inputs([0.5], [1.0], reference=None if reference is None else [0.0]))
    assert empty.loss.item() == 0.0
    assert (empty.means.keys(), empty.maxima.keys()) == (full.means.keys(), full.maxima.keys())
    assert all(value.item() == 0.0 for value in (empty.means | empty.maxima).values())


@pytest.mark.parametrize("settings", [{"clip_low": 0.0}, {"clip_low": 1.0}, {"clip_high": 0.0}, {"kl_weight": -0.1}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError, match=f"{next(iter(settings))} {next(iter(settings.values()))}"):
        GRPOLoss(**settings)
