"""What a rollout looked like, in numbers for a log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import fsum, isnan

from mentor_pl.engines.base import EngineStatistics
from mentor_pl.rewards.program import RewardProgram, ScoredGroup
from mentor_pl.trajectory import StopReason, TrajectoryGroup

Sums = dict[str, tuple[float, float]]
"""A sum and the number of values, by name: what can be added up over ranks."""


def rollout_sums(groups: Sequence[ScoredGroup], rewards: RewardProgram | Mapping[str, RewardProgram]) -> Sums:
    """Describe the groups of a rollout, as sums that can be added over ranks.

    Args:
        groups: Trajectories that started behind a hint do not count.
        rewards: The program that scored them; where there are several environments, of each by its
            name, though it may have no group here.

    Returns:
        Sum and number of values of `reward`; `success`, where every environment's program tells it;
        `score/<term>`, of one environment; `tool_calls`, `turns`, `completion_tokens` per
        trajectory; `tool_ok`: share of executed calls that succeeded; `uniform_groups`: share of
        groups whose rewards are all equal, which teach nothing; `stop/<reason>`: share of
        trajectories that ended so. Where there are several environments, also of each, as
        `<environment>/<name>`: `reward`, `success`, `score/<term>`, `tool_calls`,
        `completion_tokens`, `finished` and `uniform_groups`.
    """
    groups = [_without_hints(group) for group in groups]
    trajectories = [t for group in groups for t in group.group.trajectories]
    values = _of_groups(groups) | {
        "turns": [float(len(t.turns)) for t in trajectories],
        "tool_ok": [float(result.ok) for t in trajectories for result in t.tool_results],
        **{f"stop/{reason.value}": [float(t.stop_reason is reason) for t in trajectories] for reason in StopReason},
    }
    if isinstance(rewards, RewardProgram):
        return _summed(values | _of_program(groups, rewards))
    successes: list[float] = []
    for environment, program in rewards.items():
        own = [one for one in groups if one.group.references[0].environment == environment]
        told = _of_program(own, program)
        successes += told.get("success", [])
        finished = [float(t.finished) for one in own for t in one.group.trajectories]
        of_environment = _of_groups(own) | told | {"finished": finished}
        values |= {f"{environment}/{name}": row for name, row in of_environment.items()}
    if all(program.success_term is not None for program in rewards.values()):
        values["success"] = successes
    return _summed(values)


def _of_groups(groups: Sequence[ScoredGroup]) -> dict[str, list[float]]:
    trajectories = [t for group in groups for t in group.group.trajectories]
    return {
        "reward": [reward for group in groups for reward in group.rewards],
        "tool_calls": [float(len(t.tool_calls)) for t in trajectories],
        "completion_tokens": [float(t.num_sampled_tokens) for t in trajectories],
        "uniform_groups": [float(_spread(group.rewards) < 1e-6) for group in groups],
    }


def _of_program(groups: Sequence[ScoredGroup], program: RewardProgram) -> dict[str, list[float]]:
    scores = {term.name: [score for group in groups for score in group.scores[term.name]] for term in program.terms}
    out = {f"score/{name}": row for name, row in scores.items()}
    return out if program.success_term is None else out | {"success": scores[program.success_term]}


def _summed(values: Mapping[str, Sequence[float]]) -> Sums:
    told = {name: [value for value in row if not isnan(value)] for name, row in values.items()}
    return {name: (fsum(row), float(len(row))) for name, row in told.items()}


def _spread(values: Sequence[float]) -> float:
    told = [value for value in values if not isnan(value)]
    return max(told, default=0.0) - min(told, default=0.0)


def _without_hints(scored: ScoredGroup) -> ScoredGroup:
    return scored.select([i for i, trajectory in enumerate(scored.group.trajectories) if not trajectory.given_turns])


def work_metrics(groups: Sequence[TrajectoryGroup], engine: EngineStatistics, rollout_s: float) -> dict[str, float]:
    """Describe what a rollout computed, and how fast.

    Args:
        groups: What it gave.
        engine: What its session counted.
        rollout_s: Seconds that it took.

    Returns:
        `time/tools_s`: seconds of all tool calls, which overlap each other and decoding;
        `engine/sampled_tokens`; `engine/prefill_tokens`: tokens computed that were given, not
        sampled; `engine/useful_share`: share of the rows of all decoding steps that gave a token
        which was wanted; `engine/tokens_per_s`: sampled tokens per second of the rollout.
    """
    results = [result for group in groups for trajectory in group.trajectories for result in trajectory.tool_results]
    return {
        "time/tools_s": fsum(result.duration_s for result in results),
        "engine/sampled_tokens": float(engine.sampled_tokens),
        "engine/prefill_tokens": float(engine.prefill_tokens),
        "engine/useful_share": engine.useful_share,
        "engine/tokens_per_s": engine.sampled_tokens / rollout_s,
    }
