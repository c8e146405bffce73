"""The same tensors, scored by TRL's trainers: losses and gradients are equal."""

from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close

from mentor_pl.losses import (
    CISPOLoss,
    DAPOLoss,
    DrGRPOLoss,
    EntropyBonus,
    GRPOLoss,
    GSPOLoss,
    LossInputs,
    RLOOLoss,
)

pytest.importorskip("trl", minversion="1.16", reason="pip install mentor-pl[bench]")
pytest.importorskip("datasets", reason="pip install mentor-pl[bench]")

LENGTHS = [5, 2, 7, 1]
LONGEST = 9


def batch():
    torch.manual_seed(0)
    shape = (len(LENGTHS), max(LENGTHS))
    mask = (torch.arange(shape[1])[None] < torch.tensor(LENGTHS)[:, None]).float()
    return SimpleNamespace(
        mask=mask,
        logprobs=(-torch.rand(shape) * 2).requires_grad_(),
        old=-torch.rand(shape) * 2,
        reference=-torch.rand(shape) * 2,
        entropies=torch.rand(shape),
        advantages=torch.tensor([1.0, -0.5, 0.7, -1.2]),
    )


def ours(loss, given):
    mask = given.mask.bool()
    index = torch.arange(len(LENGTHS))[:, None].expand_as(mask)[mask]
    return loss(
        LossInputs(
            logprobs=given.logprobs[mask],
            sampling_logprobs=given.old[mask],
            old_logprobs=given.old[mask],
            weights=torch.ones(int(mask.sum())),
            advantages=given.advantages[index],
            ref_policy_logprobs=given.reference[mask] if loss.needs_ref_policy else None,
            entropies=given.entropies[mask],
            trajectory_index=index,
            num_loss_tokens=float(sum(LENGTHS)),
            num_trajectories=float(len(LENGTHS)),
        )
    ).loss


def trainer_state(given, **settings):
    """What the losses of TRL's trainers read of their trainer."""
    accelerator = SimpleNamespace(
        num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x, sync_gradients=True
    )
    state = {
        "_get_per_token_logps_and_entropies": lambda *_, **__: (given.logprobs, given.entropies, None),
        "aux_loss_enabled": False,
        "top_entropy_quantile": 1.0,
        "off_policy_mask_threshold": None,
        "importance_sampling_level": "token",
        "beta": 0.0,
        "epsilon_low": 0.2,
        "epsilon_high": 0.2,
        "args": SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1),
        "use_vllm": False,
        "model": SimpleNamespace(training=True),
        "current_gradient_accumulation_steps": 1,
        "max_completion_length": LONGEST,
        "accelerator": accelerator,
        "_entropy_bonus_enabled": False,
        "use_adaptive_entropy": False,
        "_metrics": {"train": defaultdict(list)},
    }
    return SimpleNamespace(**state | settings)


def theirs(trainer, given, **settings):
    state = trainer_state(given, **settings)
    ids = torch.zeros(given.mask.shape, dtype=torch.int64)
    return trainer._compute_loss(
        state,
        None,
        {
            "prompt_ids": ids[:, :1],
            "prompt_mask": ids[:, :1] + 1,
            "completion_ids": ids,
            "completion_mask": given.mask,
            "advantages": given.advantages,
            "old_per_token_logps": given.old,
            "old_logps": (given.old * given.mask).sum(1),
            "ref_per_token_logps": given.reference,
            "num_items_in_batch": given.mask.sum(),
        },
    )


def check_equal(loss, trainer, **settings):
    given = batch()
    ours_value, theirs_value = ours(loss, given), theirs(trainer, given, **settings)
    assert_close(ours_value, theirs_value)
    (ours_gradient,) = torch.autograd.grad(ours_value, given.logprobs)
    (theirs_gradient,) = torch.autograd.grad(theirs_value, given.logprobs)
    assert ours_gradient.abs().max() > 0.01
    assert_close(ours_gradient, theirs_gradient)


@pytest.mark.parametrize(
    ("loss", "settings"),
    [
        (GRPOLoss(kl_weight=0.1, aggregation="sequence_mean"), {"loss_type": "grpo", "beta": 0.1}),
        (GRPOLoss(kl_weight=0.1), {"loss_type": "bnpo", "beta": 0.1}),
        (DrGRPOLoss(max_tokens=LONGEST), {"loss_type": "dr_grpo"}),
        (DAPOLoss(), {"loss_type": "dapo", "epsilon_high": 0.28}),
        (
            GSPOLoss(clip_low=0.1, clip_high=0.3),
            {
                "loss_type": "grpo",
                "importance_sampling_level": "sequence",
                "epsilon_low": 0.1,
                "epsilon_high": 0.3,
            },
        ),
        (CISPOLoss(max_ratio=1.5), {"loss_type": "cispo", "epsilon_high": 1.5}),
        (
            DAPOLoss(entropy=EntropyBonus(weight=0.2)),
            {"loss_type": "dapo", "epsilon_high": 0.28, "_entropy_bonus_enabled": True, "entropy_coef": 0.2},
        ),
    ],
    ids=["grpo", "token mean", "dr_grpo", "dapo", "gspo", "cispo", "entropy"],
)
def test_losses_are_those_of_trls_grpo_trainer(loss, settings):
    from trl import GRPOTrainer

    check_equal(loss, GRPOTrainer, **settings)


def test_rloo_is_that_of_trls_rloo_trainer():
    from trl import RLOOTrainer

    check_equal(RLOOLoss(clip_low=0.9, clip_high=2.0), RLOOTrainer, epsilon_low=0.9, epsilon_high=2.0)
