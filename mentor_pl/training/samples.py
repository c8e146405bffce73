"""Trainable sequences, made from a student's trajectory or from a teacher's reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

import torch
from torch import Tensor

from mentor_pl.chat.protocol import ChatProtocol
from mentor_pl.errors import ConfigError
from mentor_pl.messages import ToolCall, ToolResult, ToolSpec
from mentor_pl.reference import Reference
from mentor_pl.trajectory import Trajectory


class Source(IntEnum):
    """Whose tokens a sample trains on."""

    STUDENT = 0
    """Its own, by the policy loss."""

    TEACHER = 1
    """The teacher's, as an off-policy member of the group."""

    IMITATED = 2
    """The teacher's, by their likelihood."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One sequence to train on. Nothing is shifted here: entry t of each field speaks of token t.

    For example, a prompt of 2 tokens, 2 sampled ones, a tool result of 1, and 1 sampled one:
    `token_ids [7 8 | 20 2 | 9 | 2]`, `loss_mask [F F | T T | F | T]`.

    Attributes:
        token_ids: [L], int64.
        loss_mask: True where the student sampled the token itself, stop tokens included, [L].
        sampling_logprobs: [L]; 0 where not sampled.
        advantages: [L]; 0 where not sampled.
        prompt_length: Leading tokens that the samples of a group have in common.
        source: Whose tokens are trained on, and so by which loss.
        weight: What the sample weighs in the loss.
    """

    token_ids: Tensor
    loss_mask: Tensor
    sampling_logprobs: Tensor
    advantages: Tensor
    prompt_length: int
    source: Source = Source.STUDENT
    weight: float = 1.0

    @property
    def num_loss_tokens(self) -> int:
        """Number of trained tokens."""
        return int(self.loss_mask.sum())


class _Builder:
    def __init__(self) -> None:
        self.ids: list[int] = []
        self.mask: list[bool] = []
        self.logprobs: list[float] = []
        self.advantages: list[float] = []

    def given(self, ids: tuple[int, ...]) -> None:
        self._add(ids, False, (0.0,) * len(ids), 0.0)

    def sampled(self, ids: tuple[int, ...], advantage: float, logprobs: tuple[float, ...] | None = None) -> None:
        self._add(ids, True, (0.0,) * len(ids) if logprobs is None else logprobs, advantage)

    def _add(self, ids: tuple[int, ...], sampled: bool, logprobs: tuple[float, ...], advantage: float) -> None:
        self.ids += ids
        self.mask += [sampled] * len(ids)
        self.logprobs += logprobs
        self.advantages += [advantage] * len(ids)

    def build(self, prompt_length: int) -> Sample:
        mask = torch.tensor(self.mask, dtype=torch.bool)
        return Sample(
            token_ids=torch.tensor(self.ids, dtype=torch.int64),
            loss_mask=mask,
            sampling_logprobs=torch.tensor(self.logprobs, dtype=torch.float32),
            advantages=torch.tensor(self.advantages, dtype=torch.float32),
            prompt_length=prompt_length,
        )


def sample_from_trajectory(trajectory: Trajectory, advantages: Sequence[float]) -> Sample:
    """Lay a trajectory out as one sequence. Turns that were given to the student are not trained on.

    Args:
        trajectory: What the student did.
        advantages: Of each turn; all its sampled tokens have it.
    """
    builder = _Builder()
    for number, (turn, advantage) in enumerate(zip(trajectory.turns, advantages, strict=True)):
        builder.given(turn.prompt_ids)
        if number < trajectory.given_turns:
            builder.given(turn.completion.token_ids)
        else:
            ids, logprobs, (start, end) = turn.completion.token_ids, turn.completion.logprobs, turn.completion.forced
            builder.sampled(ids[:start], advantage, logprobs[:start])
            builder.given(ids[start:end])
            builder.sampled(ids[end:], advantage, logprobs[end:])
    return builder.build(prompt_length=len(trajectory.turns[0].prompt_ids))


def sample_from_reference(
    reference: Reference, protocol: ChatProtocol, tools: list[ToolSpec], *, imitate_reasoning: bool = False
) -> Sample:
    """Lay a teacher's solution out as if the student had sampled it; messages of weight 0 are context.

    Args:
        reference: With `messages`.
        protocol: The student's.
        tools: As they are offered at rollouts.
        imitate_reasoning: Let the student say the teacher's reasoning, too, where the reference
            keeps it.

    Raises:
        ConfigError: The reference holds no solution to imitate, or a tool message answers no call.
    """
    if not any(message.role == "assistant" and message.trained for message in reference.messages):
        raise ConfigError(
            f"reference {reference.reference_id!r} has no assistant messages to imitate; supervised training needs the teacher's "
            "whole solution in `messages`, not only `tool_calls`"
        )
    builder = _Builder()
    prompt_ids = protocol.prompt_ids(reference.prompt, tools)
    builder.given(prompt_ids)
    calls: tuple[ToolCall, ...] = ()
    num_calls = sum(len(message.tool_calls) for message in reference.prompt)  # those of `calls` not counted
    results: dict[str, ToolResult] = {}
    last_role = reference.prompt[-1].role if reference.prompt else ""
    for message in protocol.turns(reference.messages):
        if message.role == "assistant":
            if calls:
                builder.given(_result_ids(reference, protocol, calls, results, num_calls))
                num_calls += len(calls)
            said = message if imitate_reasoning else replace(message, reasoning="")
            ids = protocol.assistant_ids(said, first_index=num_calls, after_results=last_role == "tool")
            builder.sampled(ids, 1.0) if message.trained else builder.given(ids)
            calls, results = protocol.calls_as_written(message.tool_calls, ids), {}
        elif message.role == "user":
            builder.given(protocol.user_message_ids(message.content))
        elif message.role == "tool":
            # Files without ids answer in order.
            call_id = message.tool_call_id or (calls[len(results)].call_id if len(results) < len(calls) else "")
            results[call_id] = ToolResult(call_id=call_id, content=message.content)
        last_role = message.role
    return builder.build(prompt_length=len(prompt_ids))


def share_beginning(samples: Sequence[Sample]) -> list[Sample]:
    """Let every sample's prompt be what all of them begin with: the description of the tools, as a rule most of a prompt.

    A packed batch then holds that part once for all of them.
    """
    shared = min(sample.prompt_length for sample in samples)
    for sample in samples[1:]:
        differs = (sample.token_ids[:shared] != samples[0].token_ids[:shared]).nonzero()
        shared = int(differs[0]) if len(differs) else shared
    # Nothing in common: attention needs a first token to look at, so each keeps its own prompt.
    return [replace(sample, prompt_length=shared) for sample in samples] if shared else list(samples)


def _result_ids(
    reference: Reference,
    protocol: ChatProtocol,
    calls: tuple[ToolCall, ...],
    results: dict[str, ToolResult],
    first_index: int,
) -> tuple[int, ...]:
    missing = [call.call_id for call in calls if call.call_id not in results]
    if missing:
        raise ConfigError(
            f"reference {reference.reference_id!r}: the call {missing[0]!r} has no tool message that answers it; "
            f"the answered ids are {sorted(results)}"
        )
    return protocol.tool_result_ids(calls, [results[call.call_id] for call in calls], first_index=first_index)
