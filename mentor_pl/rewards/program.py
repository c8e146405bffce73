"""A reward as a program of exits and weighted, gated terms: all of it configuration."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mentor_pl.errors import ConfigError, RewardError
from mentor_pl.reference import Reference
from mentor_pl.rewards.base import NoScore, RewardComponent
from mentor_pl.trajectory import StopReason, TrajectoryGroup

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardExit:
    """Ends scoring at once, before any term counts, where its component scores 0.

    Attributes:
        unless: The component that decides.
        reward: The whole reward of a trajectory that leaves here.
    """

    unless: RewardComponent
    reward: float

    def __post_init__(self) -> None:
        _check_component(f"the exit with reward {self.reward}", "unless", self.unless)
        if not math.isfinite(self.reward):
            raise ConfigError(f"reward exit {self.name!r}: reward is {self.reward}; it must be a finite number")

    @property
    def name(self) -> str:
        """How logs and score files name this exit, for example "unless Finished"."""
        return f"unless {type(self.unless).__name__}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardTerm:
    """Adds `weight * score`, or with a gate `weight * score * (gate_floor + (1 - gate_floor) * gate's score)`.

    Attributes:
        name: How other terms, logs and score files name this term; unique in its program.
        component: What gives the score, in [0, 1].
        weight: What a score of 1 is worth; negative for a penalty.
        gate: Name of another term whose (unweighted) score scales this term; none where left out.
        gate_floor: Share that is paid even where the gate's score is 0, in [0, 1].
        success: Whether this term's score says if a trajectory succeeded, for evaluation. At most
            one term of a program does.
    """

    name: str
    component: RewardComponent
    weight: float
    gate: str | None = None
    gate_floor: float = 0.0
    success: bool = False

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise ConfigError(f"a reward term with {type(self.component).__name__} has an empty name; give it one")
        _check_component(f"reward term {self.name!r}", "component", self.component)
        if not math.isfinite(self.weight):
            raise ConfigError(f"reward term {self.name!r}: weight is {self.weight}; it must be a finite number")
        if not 0.0 <= self.gate_floor <= 1.0:
            raise ConfigError(f"reward term {self.name!r}: gate_floor is {self.gate_floor}; it must lie in [0, 1]")
        if self.gate is None and self.gate_floor:
            raise ConfigError(
                f"reward term {self.name!r}: gate_floor is {self.gate_floor} but there is no gate; name one or drop gate_floor"
            )

    def contribution(self, score: float, gate_score: float | None) -> float:
        """Return what this term adds to the reward, given its own score and its gate's (None where it has none)."""
        if gate_score is None:
            return self.weight * score
        return self.weight * score * (self.gate_floor + (1.0 - self.gate_floor) * gate_score)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredGroup:
    """A group with the reward of each trajectory.

    Attributes:
        group: What was scored, with G trajectories. One whose reward could not be told, because a
            judge did not answer, stands here with the stop reason `INFRASTRUCTURE`.
        rewards: Of each trajectory, [G]; nan where it could not be told.
        scores: Of each term by name, in the program's order: its component's score for each
            trajectory, [G], in [0, 1] or nan. Also of trajectories that left by an exit, whose
            reward does not depend on them.
        exits: Name of the exit that each trajectory took, [G]; None where it took none.
        success_term: See `RewardProgram.success_term`.
    """

    group: TrajectoryGroup
    rewards: tuple[float, ...]
    scores: dict[str, tuple[float, ...]]
    exits: tuple[str | None, ...]
    success_term: str | None = None

    def select(self, indices: Sequence[int]) -> ScoredGroup:
        """Return the same group with some of its trajectories only."""
        if len(indices) == len(self.rewards):
            return self
        return replace(
            self,
            group=replace(self.group, trajectories=tuple(self.group.trajectories[i] for i in indices)),
            rewards=tuple(self.rewards[i] for i in indices),
            scores={name: tuple(row[i] for i in indices) for name, row in self.scores.items()},
            exits=tuple(self.exits[i] for i in indices),
        )

    def to_row(self, index: int) -> dict[str, Any]:
        """Return `reward` and `scores` of one trajectory as JSON has them: null for what could not be told."""
        scores = {name: _or_none(row[index]) for name, row in self.scores.items()}
        return {"reward": _or_none(self.rewards[index]), "scores": scores}


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardProgram:
    """An ordered list of exits and a list of terms. The first exit taken decides; without one, the terms' contributions add up.

    Attributes:
        terms: The terms, at least one.
        exits: The exits, asked in order.
        need_teacher: Names of terms that compare with a teacher's solution. For a prompt that has
            none they drop out, and the weights of the others grow by one factor, so that the
            positive ones add up to what they do elsewhere. Unless named, a term counts for every
            prompt.
    """

    terms: Sequence[RewardTerm]
    exits: Sequence[RewardExit] = ()
    need_teacher: Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "terms", tuple(self.terms))
        object.__setattr__(self, "exits", tuple(self.exits))
        object.__setattr__(self, "need_teacher", tuple(self.need_teacher))
        if not self.terms:
            raise ConfigError("the reward program has no terms; give it at least one")
        for name, count in Counter(term.name for term in self.terms).items():
            if count > 1:
                raise ConfigError(f"{count} reward terms are named {name!r}; give every term its own name")
        gates = {term.name: term.gate for term in self.terms}
        for term in self.terms:
            if term.gate is not None and term.gate not in gates:
                raise ConfigError(
                    f"reward term {term.name!r}: its gate {term.gate!r} is not a term; the terms are {', '.join(gates)}"
                )
        for term in self.terms:
            _check_cycle(term.name, gates)
        successes = [term.name for term in self.terms if term.success]
        if len(successes) > 1:
            raise ConfigError(
                f"success is true for the reward terms {', '.join(successes)}; say it of one of them at most"
            )
        self._check_need_teacher(gates)

    @property
    def success_term(self) -> str | None:
        """Name of the term whose score says if a trajectory succeeded: the one with `success`, else "correct"; None without either."""
        named = next((term.name for term in self.terms if term.success), None)
        return named or next((term.name for term in self.terms if term.name == "correct"), None)

    def _check_need_teacher(self, gates: dict[str, str | None]) -> None:
        for name in self.need_teacher:
            if name not in gates:
                raise ConfigError(f"need_teacher names {name!r}, which is not a term; the terms are {', '.join(gates)}")
        for name, gate in gates.items():
            if gate in self.need_teacher and name not in self.need_teacher:
                raise ConfigError(
                    f"reward term {name!r}: its gate {gate!r} drops out where there is no teacher; add {name!r} to need_teacher"
                )
        if self.need_teacher and not self._positive_weight(without=self.need_teacher):
            raise ConfigError(
                f"need_teacher is {', '.join(self.need_teacher)}: no term with a positive weight is left for prompts without a teacher"
            )

    def _positive_weight(self, without: Sequence[str] = ()) -> float:
        return math.fsum(term.weight for term in self.terms if term.weight > 0 and term.name not in without)

    def score_group(self, group: TrajectoryGroup) -> ScoredGroup:
        """Score all attempts at one prompt.

        Raises:
            RewardError: A component raised, or returned something that is not a score in [0, 1] for
                each trajectory.
        """
        leaving = [_scores(exit_.name, exit_.unless, group) for exit_ in self.exits]
        scores = {term.name: _scores(f"reward term {term.name!r}", term.component, group) for term in self.terms}
        guided = has_teacher(group.references)
        rewards: list[float] = []
        exits: list[str | None] = []
        for index in range(len(group.trajectories)):
            taken = next((e for e, column in zip(self.exits, leaving, strict=True) if column[index] == 0.0), None)
            exits.append(taken.name if taken else None)
            rewards.append(taken.reward if taken else self._sum({n: row[index] for n, row in scores.items()}, guided))
        judged = (
            replace(t, stop_reason=StopReason.INFRASTRUCTURE) if math.isnan(reward) else t
            for t, reward in zip(group.trajectories, rewards, strict=True)
        )
        return ScoredGroup(
            group=replace(group, trajectories=tuple(judged)),
            rewards=tuple(rewards),
            scores=scores,
            exits=tuple(exits),
            success_term=self.success_term,
        )

    def contributions(self, scores: dict[str, float], *, guided: bool = True) -> dict[str, float]:
        """Return what each term adds to the reward of a trajectory that takes no exit.

        Args:
            scores: Of every term, by name.
            guided: Whether the prompt has a teacher's solution; see `has_teacher`.
        """
        dropped = () if guided else self.need_teacher
        factor = self._positive_weight() / self._positive_weight(without=dropped) if dropped else 1.0
        return {
            t.name: 0.0
            if t.name in dropped or not t.weight  # a score that is not there adds nothing to nothing
            else factor * t.contribution(scores[t.name], scores[t.gate] if t.gate else None)
            for t in self.terms
        }

    def _sum(self, scores: dict[str, float], guided: bool) -> float:
        return round(
            math.fsum(self.contributions(scores, guided=guided).values()), 12
        )  # 0.7 + 0.3 + 0.1 is 1.1, not 1.0999...


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def has_teacher(references: Sequence[Reference]) -> bool:
    """Say whether some reference of a prompt holds a solution: its messages, or at least its calls."""
    return any(reference.messages or reference.tool_calls for reference in references)


def _check_component(where: str, field: str, value: Any) -> None:
    if not isinstance(value, RewardComponent):
        raise ConfigError(f"{where}: {field} is {value!r}; it must be a RewardComponent")


def _check_cycle(name: str, gates: dict[str, str | None]) -> None:
    path = [name]
    while (gate := gates[path[-1]]) is not None:
        if gate in path:
            raise ConfigError(
                f"reward term {name!r}: its gates go round in a circle, {' -> '.join([*path, gate])}; drop one"
            )
        path.append(gate)


def _scores(where: str, component: RewardComponent, group: TrajectoryGroup) -> tuple[float, ...]:
    culprit = f"{where} ({type(component).__name__})"
    prompt = group.references[0].reference_id
    try:
        scores = list(component.score_group(group))
    except RewardError:
        raise
    except Exception as failure:
        raise RewardError(
            f"{culprit} raised {type(failure).__name__} for reference {prompt!r}: {failure}; "
            "a component must score whatever a student wrote"
        ) from failure
    if len(scores) != len(group.trajectories):
        raise RewardError(
            f"{culprit} returned {len(scores)} scores for the {len(group.trajectories)} trajectories of reference {prompt!r}; "
            "score_group must return one for each"
        )
    for index, score in enumerate(scores):
        if not isinstance(score, NoScore) and not _is_score(score):
            raise RewardError(
                f"{culprit} returned {score!r} for reference {prompt!r}, sample {index}; scores must be numbers in [0, 1]"
            )
    for score in scores:
        if isinstance(score, NoScore):
            _log.warning("%s gave no score for reference %r: %s", culprit, prompt, score.reason)
    return tuple(math.nan if isinstance(score, NoScore) else float(score) for score in scores)


def _is_score(value: Any) -> bool:
    try:
        return 0.0 <= float(value) <= 1.0  # False for nan
    except (TypeError, ValueError):
        return False
