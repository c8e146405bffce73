"""What an advantage estimator sees and gives."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mentor_pl.errors import ConfigError, PluginError
from mentor_pl.plugins import keeping_contract
from mentor_pl.reference import Reference
from mentor_pl.rewards.program import RewardProgram, ScoredGroup, has_teacher
from mentor_pl.trajectory import Trajectory

EXIT = "exit"
"""Name of the column of `GroupRewards.scores` that holds the rewards of exits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRewards:
    """The G trajectories of one prompt that count, with their rewards; those that the infrastructure broke are not among them.

    `rewards` is `scores @ weights`, up to rounding.

    Attributes:
        rewards: [G] with G >= 1.
        scores: What each term of the reward program gave, its gate counted in, [G, K]. The last
            column is the reward of a trajectory that left by an exit, whose other scores are 0.
        weights: Of each term, [K]; the last is 1.
        terms: Name of each term, K of them; the last is `EXIT`.
        trajectories: G of them.
        references: Of the prompt.
    """

    rewards: Tensor
    scores: Tensor
    weights: Tensor
    terms: tuple[str, ...] = ()
    trajectories: tuple[Trajectory, ...] = ()
    references: tuple[Reference, ...] = ()


class AdvantageEstimator(ABC):
    """Compares the trajectories of one prompt with each other."""

    standardizes_round: bool = False
    """True where the advantages of all trajectories of a round are afterwards brought to mean 0 and standard deviation 1."""

    @abstractmethod
    def __call__(self, group: GroupRewards) -> Tensor:
        """Return one advantage per trajectory, [G]."""

    def per_turn(self, group: GroupRewards) -> list[list[float]]:
        """Return the advantage of every turn of every trajectory; by default its trajectory's."""
        return [
            [value] * len(trajectory.turns)
            for value, trajectory in zip(self(group).tolist(), group.trajectories, strict=True)
        ]


def turn_advantages(estimator: AdvantageEstimator, group: GroupRewards) -> list[list[float]]:
    """Return the advantage of every turn of every trajectory; see `AdvantageEstimator.per_turn`.

    Raises:
        PluginError: The estimator raised, or gave something else than a finite number for each.
    """
    with keeping_contract(estimator):
        found: Any = estimator.per_turn(group)
        rows = [[float(value) for value in row] for row in found]
    lengths = [len(trajectory.turns) for trajectory in group.trajectories]
    if [len(row) for row in rows] != lengths or not all(math.isfinite(value) for row in rows for value in row):
        raise PluginError(
            f"{type(estimator).__name__} gave the advantages {str(rows):.100} to {len(lengths)} trajectories of "
            f"{str(lengths):.60} turns with the rewards {group.rewards.tolist()!s:.100}; each turn needs a finite number"
        )
    return rows


def group_rewards(program: RewardProgram, scored: ScoredGroup, kept: Sequence[int]) -> GroupRewards:
    """Lay out what a program gave to some trajectories of a group.

    Args:
        program: The one that scored it.
        scored: The group.
        kept: Positions of the trajectories that count.
    """
    guided = has_teacher(scored.group.references)
    full = program.contributions({term.name: 1.0 for term in program.terms}, guided=guided)
    weights = [*full.values(), 1.0]
    rows: list[list[float]] = []
    for index in kept:
        if scored.exits[index] is not None:
            rows.append([0.0] * len(full) + [scored.rewards[index]])
            continue
        given = program.contributions({name: row[index] for name, row in scored.scores.items()}, guided=guided)
        rows.append([value / full[name] if full[name] else 0.0 for name, value in given.items()] + [0.0])
    return GroupRewards(
        rewards=torch.tensor([scored.rewards[index] for index in kept]),
        scores=torch.tensor(rows),
        weights=torch.tensor(weights),
        terms=(*full, EXIT),
        trajectories=tuple(scored.group.trajectories[index] for index in kept),
        references=scored.group.references,
    )


def centered(values: Tensor) -> Tensor:
    """Subtract the mean over the group (dimension 0); exactly 0 where all are equal: rounding of the mean must not look like a signal."""
    difference = values - values.mean(dim=0)
    return torch.where(difference.abs().amax(dim=0) < 1e-6, torch.zeros_like(difference), difference)


def checked_min_std(owner: str, min_std: float) -> float:
    """Return a floor of a standard deviation.

    Raises:
        ConfigError: It is negative or not finite.
    """
    if not 0 <= min_std < math.inf:
        raise ConfigError(f"{owner}: min_std is {min_std}; it must be a finite number, 0 or more")
    return min_std
