"""Rounds: what is trained on between two syncs of the weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mentor_pl.rewards.program import ScoredGroup
from mentor_pl.training.batching import PolicyBatch
from mentor_pl.training.samples import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPlan:
    """How many prompts make a round, and how many optimiser steps it is spent on.

    Attributes:
        prompts_per_round: Prompts drawn at once, over all ranks.
        steps_per_round: Optimiser steps that share them.
        epochs_per_round: Passes over them.
        seed: Decides the order of prompts and, at rollouts, every sampled token.
    """

    prompts_per_round: int
    steps_per_round: int = 1
    epochs_per_round: int = 1
    seed: int = 0

    @property
    def updates_per_round(self) -> int:
        """Optimiser steps between two syncs of the weights."""
        return self.steps_per_round * self.epochs_per_round


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What a rank has to train on between two syncs of the weights.

    Attributes:
        samples: Of each prompt.
        scored_groups: Where the samples come from; empty where a teacher made them.
        metrics: What was measured on the way.
    """

    samples: list[list[Sample]]
    scored_groups: tuple[ScoredGroup, ...] = ()
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPosition:
    """Where a stream goes on.

    Attributes:
        rounds_done: Rounds of which every optimiser step is made.
        steps_left: The micro-batches of each step that the next round still holds, where some of its
            steps are made; empty where it is to be drawn.
        order: What `PromptOrder.state` gave.
    """

    rounds_done: int
    steps_left: list[list[PolicyBatch]] = field(default_factory=list)
    order: dict[str, list[Any]] = field(default_factory=dict)
