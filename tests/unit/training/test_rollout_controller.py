from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from lightning.pytorch.strategies import SingleDeviceStrategy

from mentor_pl.engines.hf_generate import HFGenerateEngine
from mentor_pl.errors import EngineError
from mentor_pl.training.rollout_controller import RolloutController, StopRequest
from mentor_pl.training.samples import Sample


def controller(**options: Any) -> RolloutController:
    trainer = SimpleNamespace(strategy=SingleDeviceStrategy("cpu"), accumulate_grad_batches=1)
    settings: dict[str, Any] = {
        "trainer": trainer,
        "policy": SimpleNamespace(packing=False),
        "engine": HFGenerateEngine(),
        "stop": StopRequest(),
        "pad_token_id": 0,
        "needs_all_tokens": False,
        "corrects_sampler": False,
    }
    return RolloutController(**cast(Any, settings | options))


def sample(logprob: float, advantage: float = 1.0) -> Sample:
    mask = torch.tensor([False, True, True])
    return Sample(
        token_ids=torch.tensor([7, 8, 9]),
        loss_mask=mask,
        sampling_logprobs=torch.tensor([0.0, -0.5, logprob]),
        advantages=mask * advantage,
        prompt_length=1,
    )


def test_samples_that_teach_nothing_count_but_are_left_out() -> None:
    samples = [sample(-0.25), sample(-0.25, advantage=0.0)]
    (batch,) = controller().micro_batches(samples, temperature=1.0, updates_per_round=1)
    assert batch.num_loss_tokens == 4.0
    assert batch.target_ids.tolist() == [8, 9]


@pytest.mark.parametrize("logprob", [math.nan, -math.inf, 5.0])
def test_a_token_without_a_log_probability_is_the_engines_error(logprob: float) -> None:
    with pytest.raises(EngineError, match="HFGenerateEngine gave a sampled token the log-probability"):
        controller().micro_batches([sample(logprob)], temperature=1.0, updates_per_round=1)
