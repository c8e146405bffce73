"""What a rollout looked like, in numbers for a log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import fsum, isnan
from statistics import fmean

from mentor_pl.engines.base import EngineStatistics
from mentor_pl.rewards.program import RewardProgram, ScoredGroup
from mentor_pl.trajectory import StopReason, TrajectoryGroup


def group_metrics(groups: Sequence[ScoredGroup], *, with_terms: bool = True) -> dict[str, float]:
    """Describe the groups of one rollout.

    Args:
        groups: At least one. Trajectories that started behind a hint do not count.
        with_terms: Whether they have the same terms; of several environments they may not.

    Returns:
        `reward`; `score/<term>`: mean of each term; `tool_calls`, `turns`, `completion_tokens`: per
        trajectory; `tool_ok`: share of executed calls that succeeded; `uniform_groups`: share of
        groups whose rewards are all equal, which teach nothing; `stop/<reason>`: share of
        trajectories that ended so.
    """
    groups = [_without_hints(group) for group in groups]
    trajectories = [t for group in groups for t in group.group.trajectories]
    results = [result for t in trajectories for result in t.tool_results]
    out = {
        "reward": _mean(reward for group in groups for reward in group.rewards),
        "tool_calls": fmean(len(t.tool_calls) for t in trajectories),
        "turns": fmean(len(t.turns) for t in trajectories),
        "completion_tokens": fmean(t.num_sampled_tokens for t in trajectories),
        "tool_ok": fmean(result.ok for result in results) if results else 0.0,
        "uniform_groups": fmean(_spread(group.rewards) < 1e-6 for group in groups),
    }
    for term in groups[0].scores if with_terms else ():
        out[f"score/{term}"] = _mean(score for group in groups for score in group.scores[term])
    for reason in StopReason:
        out[f"stop/{reason.value}"] = fmean(t.stop_reason is reason for t in trajectories)
    return out


def environment_sums(
    groups: Sequence[ScoredGroup], rewards: Mapping[str, RewardProgram]
) -> dict[str, tuple[float, float]]:
    """Describe the groups of each environment, as sums that can be added over ranks.

    Args:
        groups: Of a rollout; an environment may have none. Trajectories that started behind a hint
            do not count.
        rewards: The reward program of every environment.

    Returns:
        Sum and number of values, by `<environment>/<name>`: `reward`, `score/<term>`, `tool_calls`,
        `completion_tokens`, `finished` of trajectories, `uniform_groups` of groups.
    """
    out: dict[str, tuple[float, float]] = {}
    for environment, program in rewards.items():
        own = [_without_hints(one) for one in groups if one.group.references[0].environment == environment]
        trajectories = [t for one in own for t in one.group.trajectories]
        values: dict[str, list[float]] = {
            "reward": [reward for one in own for reward in one.rewards],
            **{f"score/{t.name}": [s for one in own for s in one.scores[t.name]] for t in program.terms},
            "tool_calls": [float(len(t.tool_calls)) for t in trajectories],
            "completion_tokens": [float(t.num_sampled_tokens) for t in trajectories],
            "finished": [float(t.finished) for t in trajectories],
            "uniform_groups": [float(_spread(one.rewards) < 1e-6) for one in own],
        }
        for name, row in values.items():
            told = [value for value in row if not isnan(value)]
            out[f"{environment}/{name}"] = fsum(told), float(len(told))
    return out


def _mean(values: Iterable[float]) -> float:
    """Return the mean of what could be told; 0 where nothing could."""
    told = [value for value in values if not isnan(value)]
    return fmean(told) if told else 0.0


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
