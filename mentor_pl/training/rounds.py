"""Rounds: what is trained on between two syncs of the weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from mentor_pl.rewards.program import ScoredGroup
from mentor_pl.training.batching import PolicyBatch
from mentor_pl.training.samples import Sample


@dataclass(frozen=True, kw_only=True)  # no slots: jsonargparse reads the fields of a default from its __dict__
class RoundPlan:
    """How a round is trained on: all that is tried between two syncs of the weights.

    Attributes:
        prompts_per_round: Prompts tried between two syncs of the weights, over all ranks.
        group_size: Trajectories per prompt (G).
        steps: Optimiser steps that a round's prompts are divided among.
        passes: Passes over a round's trajectories.
        ahead: 1 samples the next round while the present one is trained on, with weights that are
            one round old; needs an engine with weights of its own (a server) and
            `model.correction`. 0 samples with the present weights.
        mask_truncated: Whether trajectories that a budget cut off are left out of the loss (DAPO's
            overlong filtering); they still count in their group's statistics.
    """

    prompts_per_round: int = 16
    group_size: int = 8
    steps: int = 1
    passes: int = 1
    ahead: Literal[0, 1] = 0
    mask_truncated: bool = False

    @property
    def updates(self) -> int:
        """Optimiser steps between two syncs of the weights."""
        return self.steps * self.passes


@dataclass(frozen=True, kw_only=True)
class StreamPlan(RoundPlan):
    """What a stream serves.

    Attributes:
        prompts_per_round: See `RoundPlan`.
        group_size: See `RoundPlan`.
        steps: See `RoundPlan`.
        passes: See `RoundPlan`.
        ahead: See `RoundPlan`.
        mask_truncated: See `RoundPlan`.
        seed: Decides the order of prompts and, at rollouts, every sampled token.
    """

    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What a rank has to train on between two syncs of the weights.

    Attributes:
        samples: Of each prompt.
        scored_groups: Where the samples come from; empty where a teacher made them.
        metrics: What was measured on the way.
        sums: What was measured of the groups: a sum and the number of values, by name. The names
            are the same on every rank, in the same order.
    """

    samples: list[list[Sample]]
    scored_groups: tuple[ScoredGroup, ...] = ()
    metrics: dict[str, float] = field(default_factory=dict)
    sums: dict[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPosition:
    """Where a stream goes on.

    Attributes:
        rounds_done: Rounds of which every optimiser step is made.
        steps_left: The micro-batches of each step that the next round still holds, where some of
            its steps are made; empty where it is to be drawn.
        order: What `PromptOrder.state` gave.
    """

    rounds_done: int
    steps_left: list[list[PolicyBatch]] = field(default_factory=list)
    order: dict[str, list[Any]] = field(default_factory=dict)
