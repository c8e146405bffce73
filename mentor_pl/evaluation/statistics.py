"""What a rollout looked like, in numbers for a log."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from mentor_pl.rewards.program import ScoredGroup
from mentor_pl.trajectory import StopReason


def group_statistics(groups: Sequence[ScoredGroup]) -> dict[str, float]:
    """Describe the groups of one rollout.

    Args:
        groups: At least one.

    Returns:
        `reward`; `score/<term>`: mean of each term; `tool_calls`, `turns`, `completion_tokens`: per trajectory; `tool_ok`: share of
        executed calls that succeeded; `uniform_groups`: share of groups whose rewards are all equal, which teach nothing;
        `stop/<reason>`: share of trajectories that ended so.
    """
    trajectories = [t for group in groups for t in group.group.trajectories]
    results = [result for t in trajectories for result in t.tool_results]
    out = {
        "reward": fmean(reward for group in groups for reward in group.rewards),
        "tool_calls": fmean(len(t.tool_calls) for t in trajectories),
        "turns": fmean(len(t.turns) for t in trajectories),
        "completion_tokens": fmean(t.num_sampled_tokens for t in trajectories),
        "tool_ok": fmean(result.ok for result in results) if results else 0.0,
        "uniform_groups": fmean(max(group.rewards) - min(group.rewards) < 1e-6 for group in groups),
    }
    for term in groups[0].scores:
        out[f"score/{term}"] = fmean(score for group in groups for score in group.scores[term])
    for reason in StopReason:
        out[f"stop/{reason.value}"] = fmean(t.stop_reason is reason for t in trajectories)
    return out
