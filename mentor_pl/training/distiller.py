"""A round's samples, judged token by token by a teacher."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from math import fsum
from typing import Any, cast

import torch
from torch import Tensor, nn

from mentor_pl.causal_model import max_context
from mentor_pl.errors import PluginError
from mentor_pl.guidance.distillation import Distillation
from mentor_pl.guidance.token_teachers import AskedSequence
from mentor_pl.messages import Message
from mentor_pl.plugins import keeping_contract
from mentor_pl.reference import Reference
from mentor_pl.rollout.runner import RolloutRunner
from mentor_pl.training.batching import packed_batch, padded_batch, split_evenly
from mentor_pl.training.policy import Policy
from mentor_pl.training.rounds import Round
from mentor_pl.training.samples import Sample, Source


class TokenScoring:
    """Scores sequences under the student or another model, in as many forward passes as training makes; see `guidance.Scoring`.

    Args:
        policy: The student.
        runner: Renders prompts.
        temperature: Of the rollout.
        device: Where models run.
        parts: Forward passes, the same on every rank, empty ones included: under sharded weights
            all take part in each.
        pad_token_id: Fills padded positions.
        forward_context: The trainer's precision.
    """

    def __init__(
        self,
        policy: Policy,
        runner: RolloutRunner,
        *,
        temperature: float,
        device: torch.device,
        parts: int,
        pad_token_id: int,
        forward_context: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        self._student = policy
        self._runner = runner
        self._temperature = temperature
        self._device = device
        self._parts = parts
        self._pad_token_id = pad_token_id
        self._forward_context = forward_context
        self._others: dict[int, Policy] = {}

    def logprobs(self, sequences: Sequence[AskedSequence], model: nn.Module | None = None) -> list[Tensor]:
        """See `Scoring.logprobs`."""
        policy = self._policy(model)
        make = packed_batch if policy.packing else padded_batch
        found: list[Tensor] = []
        for part in split_evenly([_unscored(sequence) for sequence in sequences], self._parts):
            batch = replace(
                make(part, pad_token_id=self._pad_token_id, num_loss_tokens=1.0), temperature=self._temperature
            )
            with self._forward_context():
                scores = policy.score_no_grad(batch.to(self._device))
            found += scores.float().cpu().split([sample.num_loss_tokens for sample in part])
        return found

    def prompt_ids(self, prompt: Sequence[Message], reference: Reference) -> tuple[int, ...]:
        """See `Scoring.prompt_ids`."""
        return self._runner.protocol.prompt_ids(prompt, self._runner.offered(reference))

    def context_of(self, model: nn.Module | None = None) -> int:
        """See `Scoring.context_of`."""
        return self._runner.max_context if model is None else max_context(cast(Any, model))

    def _policy(self, model: nn.Module | None) -> Policy:
        if model is None:
            return self._student
        if id(model) not in self._others:
            self._others[id(model)] = Policy(model.to(self._device), packing=None)
        return self._others[id(model)]


class Distiller:
    """Gives the student's tokens the advantages that `Distillation` describes.

    Args:
        settings: Who judges, and what it weighs.
        scoring: What the teacher may use.
    """

    def __init__(self, settings: Distillation, scoring: TokenScoring) -> None:
        self.settings = settings
        self._scoring = scoring

    def __call__(self, drawn: Round, round_index: int) -> Round:
        """Return the round with new advantages, and `distillation/reverse_kl`: nats per token, mean over trajectories.

        All ranks call this together, before the round's first update.
        """
        if not self.settings.weight_at(round_index):
            return replace(drawn, samples=[[self._judged(s, None, round_index) for s in row] for row in drawn.samples])
        asked = [
            (sample, scored.group.references)
            for row, scored in zip(drawn.samples, drawn.scored_groups, strict=True)
            for sample in row
            if sample.source is Source.STUDENT and sample.num_loss_tokens
        ]
        answers = self._answers([_asked(*pair) for pair in asked])
        gaps = {
            id(sample): sample.sampling_logprobs[sample.loss_mask] - answer
            for (sample, _), answer in zip(asked, answers, strict=True)
            if answer is not None
        }
        told = [float(gap.mean()) for gap in gaps.values()]
        return replace(
            drawn,
            samples=[[self._judged(s, gaps.get(id(s)), round_index) for s in row] for row in drawn.samples],
            sums=drawn.sums
            | {
                "distillation/reverse_kl": (fsum(told), float(len(told))),
                "distillation/left_out": (float(len(asked) - len(told)), float(len(asked))),
            },
        )

    def _answers(self, sequences: Sequence[AskedSequence]) -> list[Tensor | None]:
        """Ask the teacher.

        Raises:
            PluginError: It raised, or gave something else than a finite log-probability of each token.
        """
        teacher = self.settings.teacher
        with keeping_contract(teacher, ".logprobs"):
            answers: list[Any] = list(teacher.logprobs(sequences, self._scoring))
        if len(answers) != len(sequences):
            raise PluginError(
                f"{type(teacher).__name__}.logprobs gave {len(answers)} answers for {len(sequences)} sequences; it gives one for each"
            )
        for sequence, answer in zip(sequences, answers, strict=True):
            if answer is not None and not _is_answer(answer, int(sequence.asked.sum())):
                raise PluginError(
                    f"{type(teacher).__name__}.logprobs gave {answer!r:.100} for {int(sequence.asked.sum())} tokens; it gives a "
                    "tensor with a log-probability of each, or None"
                )
        return answers

    def _judged(self, sample: Sample, gaps: Tensor | None, round_index: int) -> Sample:
        if sample.source is not Source.STUDENT:
            return sample
        advantages = sample.advantages.clone()
        mask = sample.loss_mask
        advantages[mask] = self.settings.advantages(advantages[mask], gaps, round_index)
        return replace(sample, advantages=advantages)


def _is_answer(answer: Any, num_tokens: int) -> bool:
    return isinstance(answer, Tensor) and answer.shape == (num_tokens,) and not bool(answer.isnan().any())


def _asked(sample: Sample, references: tuple[Reference, ...]) -> AskedSequence:
    return AskedSequence(
        token_ids=sample.token_ids,
        asked=sample.loss_mask,
        prompt_length=sample.prompt_length,
        references=references,
    )


def _unscored(sequence: AskedSequence) -> Sample:
    zeros = torch.zeros(len(sequence.token_ids))
    return Sample(
        token_ids=sequence.token_ids,
        loss_mask=sequence.asked,
        sampling_logprobs=zeros,
        advantages=zeros,
        prompt_length=sequence.prompt_length,
    )
