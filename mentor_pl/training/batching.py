"""Samples into batches. The only next-token shift of the program is here."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mentor_pl.rewards.program import ScoredGroup
from mentor_pl.training.samples import Sample, Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Where a packed row keeps the samples of one prompt: their common prompt once, then each sample's own tokens.

    Attributes:
        prefix: Half-open range of the common prompt.
        suffixes: Half-open range of each sample's own tokens, in order, directly behind one
            another.
    """

    prefix: tuple[int, int]
    suffixes: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyBatch:
    """One micro-batch. B rows of T positions hold the tokens; N of them are trained on.

    Attributes:
        input_ids: [B, T].
        position_ids: Position of each token in its own sequence, [B, T].
        attention_mask: True at real tokens, [B, T].
        segments: For a packed batch (B = 1) who may see whom; None for a padded one, where each row
            is one sample.
        target_positions: Index into the flattened [B * T] of the position that predicts each
            trained token, [N].
        target_ids: The trained tokens, [N].
        sampling_logprobs: [N].
        advantages: [N].
        source: Whose each trained token is, a value of `Source`, [N].
        trajectory_index: Which trajectory of the micro-batch each trained token belongs to, from 0
            on, [N].
        num_loss_tokens: Trained tokens in the whole optimiser step: all ranks, all micro-batches.
        num_imitated_tokens: Tokens of `Source.IMITATED` in the whole step, which `num_loss_tokens`
            and the following leave out.
        num_trajectories: Trajectories with trained tokens in the whole step.
        mean_sampling_logprob: Of the step's trained tokens.
        mean_advantage: Of the step's trained tokens.
        temperature: The one that the trained tokens were sampled at.
        old_logprobs: Of the trained policy at the start of the round, [N]; None where its own
            forward pass can tell, because the round is one step, and where nobody asks.
        scored_groups: Every group of the rollout, for callbacks; only in its first micro-batch,
            else empty.
        rollout_metrics: What the rollout measured of itself (seconds, counts); where
            `scored_groups` are.
        rollout_sums: What was measured of its groups: a sum and the number of values, by name.
    """

    input_ids: Tensor
    position_ids: Tensor
    attention_mask: Tensor
    segments: tuple[Segment, ...] | None
    target_positions: Tensor
    target_ids: Tensor
    sampling_logprobs: Tensor
    advantages: Tensor
    source: Tensor
    trajectory_index: Tensor
    num_loss_tokens: float
    num_imitated_tokens: float = 1.0
    num_trajectories: float = 1.0
    mean_sampling_logprob: float = 0.0
    mean_advantage: float = 0.0
    temperature: float = 1.0
    old_logprobs: Tensor | None = None
    scored_groups: tuple[ScoredGroup, ...] = ()
    rollout_metrics: dict[str, float] = field(default_factory=dict)
    rollout_sums: dict[str, tuple[float, float]] = field(default_factory=dict)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PolicyBatch:
        """Move every tensor; Lightning asks for this."""
        moved = {
            f.name: value.to(device, non_blocking=non_blocking)
            for f in dataclasses.fields(self)
            if isinstance(value := getattr(self, f.name), Tensor)
        }
        return dataclasses.replace(self, **moved)


def batch_to_state(batch: PolicyBatch) -> dict[str, Any]:
    """Return a batch as plain containers and tensors on the CPU, for a checkpoint; without its groups."""
    plain = dataclasses.replace(batch.to("cpu"), scored_groups=(), rollout_metrics={}, rollout_sums={})
    state = {field.name: getattr(plain, field.name) for field in dataclasses.fields(plain)}
    if plain.segments is not None:
        state["segments"] = [(segment.prefix, segment.suffixes) for segment in plain.segments]
    return state


def batch_from_state(state: dict[str, Any]) -> PolicyBatch:
    """Make the batch of `batch_to_state` again."""
    segments = state["segments"]
    if segments is not None:
        segments = tuple(Segment(prefix=prefix, suffixes=suffixes) for prefix, suffixes in segments)
    return PolicyBatch(**{**state, "segments": segments})


def _targets(sample: Sample, offset_of: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return for each trained token of a sample its index t and the flattened position of token t - 1."""
    index = sample.loss_mask.nonzero()[:, 0]
    return index, torch.as_tensor(offset_of)[index - 1]


def padded_batch(samples: Sequence[Sample], *, pad_token_id: int, num_loss_tokens: float) -> PolicyBatch:
    """Lay each sample in a row of its own, padded on the right. Works for every architecture."""
    length = max((len(sample.token_ids) for sample in samples), default=1)
    rows = max(1, len(samples))
    input_ids = torch.full((rows, length), pad_token_id)
    attention_mask = torch.zeros(rows, length, dtype=torch.bool)
    attention_mask[:, 0] = True  # a row that sees nothing gives NaN
    positions: list[Tensor] = []
    for row, sample in enumerate(samples):
        input_ids[row, : len(sample.token_ids)] = sample.token_ids
        attention_mask[row, : len(sample.token_ids)] = True
        positions.append(_targets(sample, range(row * length, row * length + len(sample.token_ids)))[1])
    return PolicyBatch(
        input_ids=input_ids,
        position_ids=torch.arange(length).expand(rows, length),
        attention_mask=attention_mask,
        segments=None,
        target_positions=_cat(positions, torch.int64),
        **_flat_fields(samples),
        num_loss_tokens=num_loss_tokens,
    )


def packed_batch(samples: Sequence[Sample], *, pad_token_id: int, num_loss_tokens: float) -> PolicyBatch:
    """Lay all samples in one row without padding; neighbours with the same prompt share its tokens.

    Args:
        samples: Those of one prompt next to each other.
        pad_token_id: Fills the one position of an empty batch.
        num_loss_tokens: See `PolicyBatch`.
    """
    ids: list[Tensor] = []
    position_ids: list[Tensor] = []
    positions: list[Tensor] = []
    segments: list[Segment] = []
    end = 0
    for group in _by_prompt(samples):
        length = group[0].prompt_length
        prefix = (end, end + length)
        ids.append(group[0].token_ids[:length])
        position_ids.append(torch.arange(length))
        end += length
        suffixes: list[tuple[int, int]] = []
        for sample in group:
            own = len(sample.token_ids) - length
            ids.append(sample.token_ids[length:])
            position_ids.append(torch.arange(length, length + own))
            positions.append(_targets(sample, [*range(*prefix), *range(end, end + own)])[1])
            suffixes.append((end, end + own))
            end += own
        segments.append(Segment(prefix=prefix, suffixes=tuple(suffixes)))
    if not samples:
        ids, position_ids = [torch.tensor([pad_token_id])], [torch.zeros(1, dtype=torch.int64)]
        segments = [Segment(prefix=(0, 1), suffixes=())]
    input_ids = torch.cat(ids)[None]
    return PolicyBatch(
        input_ids=input_ids,
        position_ids=torch.cat(position_ids)[None],
        attention_mask=torch.ones_like(input_ids, dtype=torch.bool),
        segments=tuple(segments),
        target_positions=_cat(positions, torch.int64),
        **_flat_fields(samples),
        num_loss_tokens=num_loss_tokens,
    )


def step_sums(samples: Sequence[Sample]) -> list[float]:
    """Return the sums that `step_statistics` takes, of one rank's samples."""
    compared = [s for s in samples if s.source is not Source.IMITATED]
    student = [s for s in samples if s.source is Source.STUDENT]
    return [
        float(sum(s.num_loss_tokens for s in compared)),
        float(sum(s.num_loss_tokens for s in samples) - sum(s.num_loss_tokens for s in compared)),
        float(sum(1 for s in compared if s.num_loss_tokens)),
        float(sum(s.num_loss_tokens for s in student)),
        math.fsum(float(s.sampling_logprobs[s.loss_mask].double().sum()) for s in student),
        math.fsum(float(s.advantages[s.loss_mask].double().sum()) for s in student),
    ]


def step_statistics(
    tokens: float, imitated: float, trajectories: float, sampled: float, logprobs: float, advantages: float
) -> dict[str, float]:
    """Return the fields of a `PolicyBatch` that describe its whole step.

    Args:
        tokens: Trained tokens of students' and teachers' trajectories that are compared, over all
            ranks.
        imitated: Tokens that are imitated.
        trajectories: Trajectories that are compared and have trained tokens.
        sampled: Trained tokens that the student sampled.
        logprobs: Sum of their log-probabilities.
        advantages: Sum of their advantages.
    """
    return {
        "num_loss_tokens": max(1.0, tokens),
        "num_imitated_tokens": max(1.0, imitated),
        "num_trajectories": max(1.0, trajectories),
        "mean_sampling_logprob": logprobs / max(1.0, sampled),
        "mean_advantage": advantages / max(1.0, sampled),
    }


def split_evenly(samples: Sequence[Sample], parts: int) -> list[list[Sample]]:
    """Cut a sequence of samples into contiguous parts of about equal token counts; some may be empty."""
    total = sum(len(sample.token_ids) for sample in samples)
    out: list[list[Sample]] = [[] for _ in range(parts)]
    seen = 0
    for sample in samples:
        middle = seen + len(sample.token_ids) / 2
        out[min(parts - 1, int(middle * parts / max(total, 1)))].append(sample)
        seen += len(sample.token_ids)
    return out


def _by_prompt(samples: Sequence[Sample]) -> list[list[Sample]]:
    groups: list[list[Sample]] = []
    for sample in samples:
        if groups:
            first = groups[-1][0]
            length = first.prompt_length
            if sample.prompt_length == length and torch.equal(sample.token_ids[:length], first.token_ids[:length]):
                groups[-1].append(sample)
                continue
        groups.append([sample])
    return groups


def _flat_fields(samples: Sequence[Sample]) -> dict[str, Any]:
    trained = [s for s in samples if s.num_loss_tokens]
    repeats = torch.tensor([s.num_loss_tokens for s in trained], dtype=torch.int64)
    return {
        "target_ids": _cat([s.token_ids[s.loss_mask] for s in samples], torch.int64),
        "sampling_logprobs": _cat([s.sampling_logprobs[s.loss_mask] for s in samples], torch.float32),
        "advantages": _cat([s.advantages[s.loss_mask] * s.weight for s in samples], torch.float32),
        "source": torch.tensor([int(s.source) for s in trained], dtype=torch.int64).repeat_interleave(repeats),
        "trajectory_index": torch.arange(len(trained)).repeat_interleave(repeats),
    }


def _cat(parts: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    return torch.cat(list(parts)) if parts else torch.zeros(0, dtype=dtype)
