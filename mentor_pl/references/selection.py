"""Which attempts are good enough to learn from, and which of several to keep (rejection sampling)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from mentor_pl.files.conversation import called
from mentor_pl.reference import Reference
from mentor_pl.references.replies import without_extra
from mentor_pl.rewards.base import RewardComponent
from mentor_pl.trajectory import Trajectory

Preference = Literal["first", "shortest", "diverse"]
"""Which of several verified attempts are kept: in the order sampled; with the fewest calls, then the fewest characters; or with sets of
tools as different as can be, shortest first."""


def rejection_reason(
    trajectory: Trajectory, reference: Reference, judges: Sequence[RewardComponent], *, max_failed_calls: int = 0
) -> str | None:
    """Say why an attempt may not become a reference.

    Args:
        trajectory: The attempt.
        reference: Its prompt, answer and tools.
        judges: Each must score 1.0.
        max_failed_calls: Calls that may have ended in an error.

    Returns:
        The cause in few words, the same for the same cause; None for an attempt that is verified.
    """
    if trajectory.failed_infrastructure:
        return "a tool was unavailable"
    if not trajectory.finished:
        return f"not finished ({trajectory.stop_reason.value})"
    offered = {tool.name for tool in reference.tools}
    if any(call.parse_error is not None for call in trajectory.tool_calls):
        return "a malformed call"
    if any(call.name not in offered for call in trajectory.tool_calls):
        return "a call of a tool that is not offered"
    if sum(not result.ok for result in trajectory.tool_results) > max_failed_calls:
        return "a call failed"
    for judge in judges:
        if judge.score(trajectory, [reference]) < 1.0:
            return f"{type(judge).__name__} does not hold"
    return None


def size(trajectory: Trajectory) -> tuple[int, int]:
    """Return number of calls and number of characters written, by which attempts are compared."""
    written = sum(
        len(message.content) + sum(len(str(dict(call.arguments))) for call in message.tool_calls)
        for message in trajectory.messages()
        if message.role == "assistant"
    )
    return len(trajectory.tool_calls), written


def choose(verified: Sequence[Trajectory], *, keep: int, prefer: Preference) -> list[Trajectory]:
    """Return at most `keep` of the verified attempts at one prompt.

    Args:
        verified: In the order sampled.
        keep: At least 1.
        prefer: See `Preference`.
    """
    if prefer == "first":
        return list(verified[:keep])
    pool = sorted(verified, key=size)
    if prefer == "shortest":
        return pool[:keep]
    kept: list[Trajectory] = []
    while pool and len(kept) < keep:
        kept.append(
            max(pool, key=lambda one: _distance(one, kept))
        )  # max() takes the first, so the shortest, of equals
        pool.remove(kept[-1])
    return kept


def _distance(one: Trajectory, others: Sequence[Trajectory]) -> float:
    """Return the smallest Jaccard distance of its set of tools to those of others; 1 where there are none."""
    tools = {call.name for call in one.tool_calls}
    distances: list[float] = []
    for other in others:
        its = {call.name for call in other.tool_calls}
        distances.append(1 - len(tools & its) / len(tools | its) if tools | its else 0.0)
    return min(distances, default=1.0)


def reference_of(trajectory: Trajectory, prompt: Reference, *, reference_id: str, teacher: str) -> Reference:
    """Make a verified attempt a reference of its prompt.

    Args:
        trajectory: The attempt.
        prompt: Gives everything else: prompt, answers, tools, domain, further fields.
        reference_id: The new reference's id.
        teacher: Who solved it.
    """
    messages = tuple(without_extra(message) for message in trajectory.messages())
    return replace(
        prompt,
        reference_id=reference_id,
        tool_calls=called(messages),
        messages=messages,
        # A simulated user's words are the reference's own from now on.
        follow_ups=tuple(message.content for message in messages if message.role == "user"),
        teacher=teacher,
        expected_state=prompt.expected_state if prompt.expected_state is not None else trajectory.final_state,
    )
