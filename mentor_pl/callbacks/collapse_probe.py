"""What a guard against collapse measures itself, beside what a run logs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer

from mentor_pl.losses.kl import k3
from mentor_pl.rewards.program import ScoredGroup
from mentor_pl.training.batching import PolicyBatch, Segment
from mentor_pl.training.samples import Source

AGREEMENT, STEP_KL = "reward_agreement", "step_kl"
_ALWAYS_UNTIL, _EVERY, _SHARE = 10, 5, 8


class CollapseProbe:
    """Measures whether the reward follows success within groups, and how far one update moved the policy. The same on every rank.

    `reward_agreement` is the correlation, over all attempts of a round, of reward and success, each
    less its group's mean: the policy gradient moves success in proportion to their covariance, so a
    reward that pays for something else is seen before success falls.

    `step_kl` is the KL of the policy before an update to the one after it, in nats per token (k3),
    on an eighth of the update's own last micro-batch: a forward pass, after each of the first 10
    updates and then after every fifth.

    Args:
        success: Name of the reward term that says what a success is; None for each environment's
            own.
    """

    def __init__(self, success: str | None) -> None:
        self._success = success
        self._groups: tuple[ScoredGroup, ...] = ()

    def note(self, batch: Any) -> None:
        """Note the groups of a round, which its first micro-batch holds."""
        if isinstance(batch, PolicyBatch) and batch.scored_groups:
            self._groups = batch.scored_groups

    def measured(self, trainer: Trainer, pl_module: LightningModule, batch: Any) -> dict[str, float]:
        """Return what can be told after an update. All ranks call this together."""
        sums = torch.tensor([*covariances(self._groups, self._success), *_step_kl(trainer, pl_module, batch)])
        self._groups = ()
        covariance, of_reward, of_success, kl, tokens = trainer.strategy.reduce(
            sums.double().to(trainer.strategy.root_device), reduce_op="sum"
        ).tolist()
        out: dict[str, float] = {}
        if of_reward > 0 and of_success > 0:
            out[AGREEMENT] = covariance / math.sqrt(of_reward * of_success)
        if tokens:
            out[STEP_KL] = kl / tokens
        return out


def covariances(groups: Sequence[ScoredGroup], success: str | None) -> tuple[float, float, float]:
    """Return the sums of r s, r r and s s over all attempts: reward r and success s, each less its group's mean."""
    totals = [0.0, 0.0, 0.0]
    for scored in groups:
        term = success or scored.success_term
        pairs = [
            (float(reward), float(score))
            for reward, score in zip(scored.rewards, () if term is None else scored.scores.get(term, ()), strict=False)
            if not (math.isnan(reward) or math.isnan(score))
        ]
        if not pairs:
            continue
        mean_r, mean_s = (math.fsum(column) / len(pairs) for column in zip(*pairs, strict=True))
        for reward, score in pairs:
            r, s = reward - mean_r, score - mean_s
            totals = [totals[0] + r * s, totals[1] + r * r, totals[2] + s * s]
    return totals[0], totals[1], totals[2]


def beginning(batch: PolicyBatch) -> PolicyBatch:
    """Return the first eighth of a micro-batch's samples, at least one."""
    if batch.segments is None:
        number = rows = max(1, len(batch.input_ids) // _SHARE)
        segments, width = None, batch.input_ids.shape[1]
    else:
        number = left = max(1, sum(len(segment.suffixes) for segment in batch.segments) // _SHARE)
        chosen: list[Segment] = []
        for segment in batch.segments:
            if left > 0:
                chosen.append(replace(segment, suffixes=segment.suffixes[:left]))
                left -= len(segment.suffixes)
        segments, last = tuple(chosen), chosen[-1]
        rows, width = 1, last.suffixes[-1][1] if last.suffixes else last.prefix[1]
    # Samples without trained tokens are not counted there, so that a later sample's number may be less.
    kept = (batch.trajectory_index < number) & (batch.target_positions < rows * width)
    return replace(
        batch,
        input_ids=batch.input_ids[:rows, :width],
        position_ids=batch.position_ids[:rows, :width],
        attention_mask=batch.attention_mask[:rows, :width],
        segments=segments,
        target_positions=batch.target_positions[kept],
        target_ids=batch.target_ids[kept],
        sampling_logprobs=batch.sampling_logprobs[kept],
        advantages=batch.advantages[kept],
        source=batch.source[kept],
        trajectory_index=batch.trajectory_index[kept],
        old_logprobs=None if batch.old_logprobs is None else batch.old_logprobs[kept],
    )


def _step_kl(trainer: Trainer, pl_module: LightningModule, batch: Any) -> tuple[float, float]:
    policy: Any = getattr(pl_module, "policy", None)
    due = trainer.global_step <= _ALWAYS_UNTIL or trainer.global_step % _EVERY == 0
    if policy is None or not isinstance(batch, PolicyBatch) or getattr(pl_module.loss, "imitates", False) or not due:
        return 0.0, 0.0
    batch = beginning(batch)
    with trainer.precision_plugin.forward_context():
        now = policy.score_no_grad(batch)
    own = batch.source == Source.STUDENT
    return float(k3(batch.sampling_logprobs, now)[own].sum()), float(own.sum())
