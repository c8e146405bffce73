"""A round's samples, judged by a model: equal to that model's own log-probabilities, however they are laid out."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from mentor_pl.guidance import Distillation, ModelTeacher
from mentor_pl.training.distiller import Distiller, TokenScoring
from mentor_pl.training.policy import Policy
from mentor_pl.training.rounds import Round
from mentor_pl.training.samples import Sample, Source
from tests.unit.engines.models import tiny_model
from tests.unit.training.samples import two_groups
from tests.unit.training.test_policy import plain_logprobs

STUDENT, TEACHER = "llama3-rope", "qwen2"


class Loader:
    def __init__(self, model: Any) -> None:
        self.model = model

    def load_model(self) -> Any:
        return self.model


def distiller(teacher: Any, *, parts: int = 1, packing: bool = True, **settings: Any) -> Distiller:
    scoring = TokenScoring(
        Policy(tiny_model(STUDENT), packing=packing),
        SimpleNamespace(max_context=100),  # type: ignore[arg-type]
        temperature=0.7,
        device=torch.device("cpu"),
        parts=parts,
        pad_token_id=0,
        forward_context=contextlib.nullcontext,
    )
    return Distiller(Distillation(teacher=ModelTeacher(Loader(teacher)), **settings), scoring)  # type: ignore[arg-type]


def drawn(samples: list[Sample]) -> Round:
    scored: Any = SimpleNamespace(group=SimpleNamespace(references=()))
    return Round(samples=[samples[:3], samples[3:]], scored_groups=(scored, scored))


@pytest.mark.parametrize("parts", [1, 2, 9])
def test_advantages_are_the_gaps_to_the_teachers_own_logprobs(parts: int) -> None:
    samples, teacher = two_groups(), tiny_model(TEACHER)
    found = distiller(teacher, parts=parts, weight=0.5)(drawn(samples), 0)
    expected = plain_logprobs(teacher, samples, temperature=0.7)[0].detach()
    sizes = [sample.num_loss_tokens for sample in samples]
    for before, after, logprobs in zip(samples, sum(found.samples, []), expected.split(sizes), strict=True):
        mask = before.loss_mask
        gaps = before.sampling_logprobs[mask] - logprobs
        assert_close(after.advantages[mask], before.advantages[mask] - 0.5 * gaps, rtol=0, atol=1e-4)
        assert not after.advantages[~mask].any()
    means = [float((-1.0 - logprobs).mean()) for logprobs in expected.split(sizes)]  # each was sampled at -1
    assert found.sums["distillation/reverse_kl"] == (pytest.approx(sum(means), abs=5e-4), 5)
    assert found.sums["distillation/left_out"] == (0, 5)


def test_the_teachers_own_tokens_keep_their_advantage() -> None:
    samples = two_groups()
    samples[1] = replace(samples[1], source=Source.TEACHER)
    found = distiller(tiny_model(TEACHER), reward_weight=0.0)(drawn(samples), 0)
    assert torch.equal(found.samples[0][1].advantages, samples[1].advantages)


def test_a_weight_that_is_gone_asks_nobody() -> None:
    found = distiller(None, decay_rounds=3, reward_weight=0.5)(drawn(two_groups()), 3)
    assert_close(found.samples[1][0].advantages.max().item(), 1.0)  # half of 2
    assert "distillation/reverse_kl" not in found.sums


def test_a_sequence_longer_than_the_teachers_context_is_left_out() -> None:
    teacher = tiny_model(TEACHER)
    teacher.config.max_position_embeddings = 12
    samples = two_groups()
    found = distiller(teacher)(drawn(samples), 0)
    assert torch.equal(found.samples[0][1].advantages, samples[1].advantages)  # 15 tokens
    assert found.sums["distillation/left_out"] == (2, 5)
