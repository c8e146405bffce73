"""Each loss by its equation, worked out by hand; and that a step is one sum, however it is split."""

import math
from dataclasses import replace

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from mentor_pl.errors import ConfigError
from mentor_pl.losses import (
    CISPOLoss,
    CovarianceClip,
    DAPOLoss,
    DrGRPOLoss,
    EntropyBonus,
    GRPOLoss,
    GSPOLoss,
    ReinforcePlusPlusLoss,
    RLOOLoss,
)
from mentor_pl.losses.kl import k1, k2
from mentor_pl.losses.trajectory_sums import sum_to_go, trajectory_mean, trajectory_sum
from tests.unit.losses.given import inputs

E = math.e
TWO = {"trajectories": [0, 0, 0, 1], "num_loss_tokens": 4.0, "num_trajectories": 2.0}
"""A trajectory of three tokens and one of one."""


def value_and_gradient(loss, given):
    out = loss(given)
    out.loss.backward()
    return out.loss.item(), given.logprobs.grad.tolist()


def test_k1_and_k2():
    assert_close(k1(tensor([-1.0, -3.0]), tensor([-2.0, -1.0])), tensor([1.0, -2.0]))
    assert_close(k2(tensor([-1.0, -3.0]), tensor([-2.0, -1.0])), tensor([0.5, 2.0]))


def test_sums_over_trajectories():
    values, index = tensor([1.0, 2.0, 3.0, 10.0]), tensor([0, 0, 0, 1])
    assert trajectory_sum(values, index).tolist() == [6.0, 6.0, 6.0, 10.0]
    assert trajectory_mean(values, index).tolist() == [2.0, 2.0, 2.0, 10.0]
    assert sum_to_go(values, index).tolist() == [6.0, 5.0, 3.0, 10.0]
    nothing = torch.zeros(0)
    assert all(f(nothing, nothing.long()).tolist() == [] for f in (trajectory_sum, trajectory_mean, sum_to_go))


def test_aggregations():
    given = inputs([0.0] * 4, [1.0, 2.0, 3.0, 10.0], **TWO)
    assert_close(GRPOLoss(kl_weight=0.0)(given).loss.item(), -16 / 4)
    # (1 + 2 + 3) / 3 and 10 / 1, by two trajectories
    assert_close(GRPOLoss(kl_weight=0.0, aggregation="sequence_mean")(given).loss.item(), -(2 + 10) / 2)
    assert_close(GRPOLoss(kl_weight=0.0, aggregation="constant", max_tokens=8)(given).loss.item(), -16 / (2 * 8))


def test_dr_grpo_divides_by_a_constant():
    loss, gradient = value_and_gradient(DrGRPOLoss(max_tokens=5), inputs([0.0] * 4, [1.0, 1.0, 1.0, -1.0], **TWO))
    assert_close(loss, -2 / 10)
    assert_close(gradient, [-0.1, -0.1, -0.1, 0.1])
    assert not DrGRPOLoss(max_tokens=5).needs_ref_policy


def test_dapo_clips_higher():
    loss, gradient = value_and_gradient(DAPOLoss(), inputs([1.0, -1.0], [1.0, -1.0], num_loss_tokens=2.0))
    assert_close(loss, (-1.28 + 0.8) / 2)
    assert gradient == [0.0, 0.0]


def test_gspo_clips_sequences_by_their_mean_ratio():
    # Means log 1.5 / 3 * 3 tokens' worth: (0.3 + 0 + 0) / 3 = 0.1; and -0.2.
    given = inputs([0.3, 0.0, 0.0, -0.2], [1.0, 1.0, 1.0, 1.0], **TWO)
    loss, gradient = value_and_gradient(GSPOLoss(clip_low=0.2, clip_high=0.2), given)
    assert_close(loss, -(math.exp(0.1) + math.exp(-0.2)) / 2)
    # d exp(mean) / d logprob = exp(mean) / length
    assert_close(gradient, [-math.exp(0.1) / 6] * 3 + [-math.exp(-0.2) / 2])
    loss, gradient = value_and_gradient(
        GSPOLoss(clip_low=0.1, clip_high=0.05), inputs([0.3, 0.0, 0.0, -0.2], [1.0, 1.0, 1.0, -1.0], **TWO)
    )
    assert_close(loss, -(1.05 - 0.9) / 2)
    assert gradient == [0.0] * 4


def test_cispo_keeps_the_gradient_of_clipped_tokens():
    given = inputs([2.0, -1.0], [1.0, -3.0], num_loss_tokens=2.0)
    loss, gradient = value_and_gradient(CISPOLoss(max_ratio=4.0), given)
    # e^2 is cut to 4; the log-probabilities are the log-ratios here
    assert_close(loss, (-4 * 2 + -(1 / E) * -3 * -1) / 2)
    assert_close(gradient, [-4 / 2, 3 / E / 2])


def test_rloo_takes_whole_sequences_as_actions():
    on_policy = inputs([-1.0, -2.0, -3.0, -4.0], [2.0, 2.0, 2.0, -1.0], old=[-1.0, -2.0, -3.0, -4.0], **TWO)
    loss, gradient = value_and_gradient(RLOOLoss(), on_policy)
    assert_close(loss, -(2 - 1) / 2)
    assert_close(gradient, [-1.0, -1.0, -1.0, 0.5])  # -A grad log p / 2
    off = inputs([0.1, 0.1, 0.1, -0.1], [1.0] * 4, **TWO)
    loss, gradient = value_and_gradient(RLOOLoss(), off)
    assert_close(loss, -(1.2 + math.exp(-0.1)) / 2)  # exp(0.3) is clipped
    assert_close(gradient, [0.0, 0.0, 0.0, -math.exp(-0.1) / 2])


def test_a_kl_penalty_in_the_reward_is_taken_from_the_advantages_to_go():
    reference = [-1.0, -0.5, 0.0, -2.0]  # k1 of the old policy, whose log-probabilities are 0: 1, 0.5, 0, 2
    given = inputs([0.0] * 4, [1.0, 1.0, 1.0, -1.0], reference=reference, **TWO)
    loss = ReinforcePlusPlusLoss(kl_weight=0.1)
    value, gradient = value_and_gradient(loss, given)
    expected = [1 - 0.15, 1 - 0.05, 1.0, -1 - 0.2]
    assert_close(value, -sum(expected) / 4)
    assert_close(gradient, [-a / 4 for a in expected])
    assert loss.needs_ref_policy and loss.needs_all_tokens
    assert_close(loss(given).means["kl"].item(), 3.5)


@pytest.mark.parametrize(
    ("estimator", "gradient"), [("k1", 0.1), ("k2", 0.1 * 0.5), ("k3", 0.1 * (1 - math.exp(-0.5)))]
)
def test_the_gradients_of_the_kl_estimators_in_the_loss(estimator, gradient):
    given = inputs([0.0], [0.0], reference=[-0.5])
    assert_close(value_and_gradient(GRPOLoss(kl_weight=0.1, kl_estimator=estimator), given)[1], [gradient])


def test_an_entropy_bonus_is_a_mean_over_tokens_whatever_the_aggregation():
    entropies = tensor([0.1, 0.2, 0.3, 0.4], requires_grad=True)
    given = inputs([0.0] * 4, [0.0] * 4, entropies=entropies, **TWO)
    loss = GSPOLoss(entropy=EntropyBonus(weight=0.5))
    out = loss(given)
    out.loss.backward()
    assert_close(out.loss.item(), -0.5 * 1.0 / 4)
    assert_close(entropies.grad, torch.full((4,), -0.125))
    assert loss.needs_entropy_gradient and loss.needs_all_tokens and not GSPOLoss().needs_entropy_gradient
    assert out.maxima["entropy_weight"].item() == 0.5


def test_the_weight_of_the_entropy_follows_its_target():
    loss = GRPOLoss(kl_weight=0.0, entropy=EntropyBonus(weight=0.01, target=0.3, change=0.005, max_weight=0.02))
    applied = []
    for entropy in (0.5, 0.2, 0.3, 0.1, 0.31, 0.4):
        applied.append(loss.entropy_weight.applied)
        loss.end_step({"entropy": entropy})
    # Weights before each step: .01 (entropy unknown: not applied), .005 (.5 was above), .01, .015, .02, .015 (.31 was above)
    assert applied == pytest.approx([0.0, 0.0, 0.01, 0.015, 0.02, 0.0])
    resumed = GRPOLoss(kl_weight=0.0, entropy=EntropyBonus(weight=0.01, target=0.3))
    resumed.load_state_dict(loss.state_dict())
    assert (resumed.entropy_weight.weight, resumed.entropy_weight.latest_entropy) == pytest.approx((0.01, 0.4))


def test_the_covariance_clip_takes_the_gradient_of_what_lowers_the_entropy_most():
    given = inputs([0.0] * 3, [3.0, 1.0, -3.0], num_loss_tokens=3.0, mean_sampling_logprob=-0.5, mean_advantage=0.0)
    # covariances: 0.5 * 3, 0.5 * 1, 0.5 * -3
    loss = GRPOLoss(kl_weight=0.0, covariance_clip=CovarianceClip(low=1.0, high=5.0))
    out = loss(given)
    out.loss.backward()
    assert_close(out.loss.item(), -1 / 3)
    assert_close(given.logprobs.grad, tensor([0.0, -1 / 3, 1.0]))
    assert out.means["clip_fraction"].item() == 1.0


LOSSES = [
    GRPOLoss(),
    GRPOLoss(aggregation="sequence_mean", kl_estimator="k2", covariance_clip=CovarianceClip(low=0.1)),
    DrGRPOLoss(max_tokens=9, entropy=EntropyBonus(weight=0.1)),
    DAPOLoss(kl_weight=0.1, kl_in="reward"),
    GSPOLoss(),
    CISPOLoss(),
    RLOOLoss(kl_weight=0.1),
    ReinforcePlusPlusLoss(),
]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_micro_batches_add_up_to_the_step(loss):
    torch.manual_seed(0)
    index = tensor([0, 0, 0, 1, 1, 2, 2, 2, 2])
    whole = inputs(
        (torch.randn(9) * 0.3).tolist(),
        torch.randn(3)[index].tolist(),
        reference=torch.randn(9).mul(0.3).tolist() if loss.needs_ref_policy else None,
        old=(torch.randn(9) * 0.3).tolist(),
        weights=torch.rand(9).tolist(),
        entropies=torch.rand(9),
        trajectories=index.tolist(),
        num_loss_tokens=9.0,
        num_trajectories=3.0,
        mean_sampling_logprob=-0.3,
        mean_advantage=0.1,
    )
    parts = []
    for chosen in (index == 0, index > 0, torch.zeros(9, dtype=torch.bool)):
        tokens = {
            name: getattr(whole, name)[chosen]
            for name in ("logprobs", "sampling_logprobs", "old_logprobs", "weights", "advantages", "entropies")
        }
        reference = None if whole.ref_policy_logprobs is None else whole.ref_policy_logprobs[chosen]
        first = int(index[chosen].min()) if chosen.any() else 0
        parts.append(replace(whole, **tokens, ref_policy_logprobs=reference, trajectory_index=index[chosen] - first))
    outs = [loss(part) for part in parts]
    expected = loss(whole)
    assert_close(sum(out.loss for out in outs), expected.loss)
    assert outs[2].loss.item() == 0.0
    for name, value in expected.means.items():
        assert_close(sum(out.means[name] for out in outs), value)
    assert all(out.means.keys() == expected.means.keys() for out in outs)
    assert all(out.maxima.keys() == expected.maxima.keys() for out in outs)
    (gradient,) = torch.autograd.grad(expected.loss, whole.logprobs, retain_graph=True)
    (summed,) = torch.autograd.grad(sum(out.loss for out in outs), whole.logprobs)
    assert_close(summed, gradient)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GRPOLoss(aggregation="constant"), "max_tokens is None; set it to data.limits.max_completion_tokens"),
        (lambda: CISPOLoss(max_ratio=1.0), "max_ratio 1.0 must be above 1"),
        (lambda: GSPOLoss(clip_low=0.0), "GSPOLoss: clip_low 0.0 must lie in"),
        (lambda: RLOOLoss(kl_weight=-1.0), "RLOOLoss: kl_weight -1.0"),
        (lambda: EntropyBonus(weight=-0.1), "weight is -0.1"),
        (lambda: EntropyBonus(target=0.0), "target 0.0"),
        (lambda: CovarianceClip(low=5.0, high=1.0), "low 5.0 must lie above 0 and below high 1.0"),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
