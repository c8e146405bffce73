"""What a student's trajectories are worth, problem by problem."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

import torch
from scipy.stats import t as student_t

from mentor_pl.evaluation.metrics import jensen_shannon
from mentor_pl.files.trajectories import trajectory_from_row
from mentor_pl.reference import Reference
from mentor_pl.rewards.base import RewardComponent
from mentor_pl.rewards.tool_match import ToolMatch
from mentor_pl.trajectory import Trajectory

_NO_TOOL = "(no tool)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One problem.

    Attributes:
        success: What the judge says, in [0, 1].
        tool_match: 1 where exactly the teacher's set of tools was used, else 0.
        calls: Names of the tools called.
        wanted: Names of the tools that the teacher called.
    """

    success: float
    tool_match: float
    calls: tuple[str, ...]
    wanted: tuple[str, ...]


def read_outcomes(
    trajectories: Path, references: Mapping[str, Sequence[Reference]], judge: RewardComponent
) -> dict[str, dict[str, Outcome]]:
    """Judge a file of trajectories.

    Args:
        trajectories: Rows of `mentor-pl predict`, one for each problem.
        references: Of each split; no id is in two of them.
        judge: Says what a success is.

    Returns:
        Outcomes by split and id.
    """
    known = {one.reference_id: (split, one) for split, several in references.items() for one in several}
    out: dict[str, dict[str, Outcome]] = {split: {} for split in references}
    for number, line in enumerate(trajectories.read_text().splitlines(), start=1):
        row = json.loads(line)
        trajectory = trajectory_from_row(row, f"{trajectories}:{number}")
        split, reference = known[trajectory.reference_id]
        out[split][reference.reference_id] = _outcome(trajectory, reference, judge)
    return out


def _outcome(trajectory: Trajectory, reference: Reference, judge: RewardComponent) -> Outcome:
    return Outcome(
        success=float(judge.score(trajectory, [reference])),
        tool_match=ToolMatch(mode="exact").score(trajectory, [reference]),
        calls=tuple(call.name for call in trajectory.tool_calls),
        wanted=tuple(call.name for call in reference.tool_calls),
    )


def means(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Return the measures of several problems.

    Returns:
        `success`, `tool_match`: shares; `calls`: per problem; `refusals`: share of problems without a call; `similarity`: 1 less the
        Jensen-Shannon divergence (base 2) of the distributions over tools, with "no tool" as one of them.
    """
    called = Counter(name for one in outcomes for name in one.calls or (_NO_TOOL,))
    wanted = Counter(name for one in outcomes for name in one.wanted or (_NO_TOOL,))
    names = sorted({*called, *wanted})
    counts = [torch.tensor([float(side[name]) for name in names], dtype=torch.float64) for side in (called, wanted)]
    return {
        "success": fmean(one.success for one in outcomes),
        "tool_match": fmean(one.tool_match for one in outcomes),
        "similarity": 1.0 - float(jensen_shannon(*counts)),
        "calls": fmean(len(one.calls) for one in outcomes),
        "refusals": fmean(not one.calls for one in outcomes),
    }


def seed_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % interval of a mean over seeds, by Student's t; None for fewer than two."""
    if len(values) < 2:
        return None
    half = float(student_t.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return fmean(values) - half, fmean(values) + half


def bootstrap_interval(splits: Sequence[Sequence[float]], *, draws: int = 2000) -> tuple[float, float]:
    """Return the 95 % percentile interval of a mean of splits' means over problems; the draws are seeded.

    Efron 1979, doi:10.1214/aos/1176344552; problems are drawn anew within each split.

    Args:
        splits: The values of the problems of each split.
        draws: How often all problems are drawn.
    """
    drawn = random.Random(0)
    sampled = sorted(fmean(fmean(drawn.choices(values, k=len(values))) for values in splits) for _ in range(draws))
    return sampled[round(0.025 * draws)], sampled[round(0.975 * draws) - 1]
