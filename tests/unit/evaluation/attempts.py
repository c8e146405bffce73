"""Attempts at prompts, written by hand."""

from mentor_pl.messages import Message, ToolCall, ToolResult, ToolSpec, ToolStatus
from mentor_pl.reference import Reference
from mentor_pl.trajectory import Completion, StopReason, Trajectory, TrajectoryGroup, Turn


def tool_calls(names: str) -> tuple[ToolCall, ...]:
    """`"add sqrt"` calls add, then sqrt."""
    return tuple(ToolCall(call_id=f"call_{i}", name=name) for i, name in enumerate(names.split()))


def reference(names: str, answer: str = "5") -> Reference:
    return Reference(
        reference_id="p",
        prompt=(Message(role="user", content="?"),),
        answer=answer,
        tools=(ToolSpec(name="add"), ToolSpec(name="sqrt")),
        tool_calls=tool_calls(names),
    )


def trajectory(
    names: str,
    text: str,
    *,
    num_tokens: int = 1,
    stop_reason: StopReason = StopReason.ANSWERED,
    failed: tuple[int, ...] = (),
    call_s: float = 0.0,
) -> Trajectory:
    """One turn that calls `names`, where there are any, then one that says `text`; the calls at places `failed` fail."""
    turns: tuple[Turn, ...] = (
        Turn(
            completion=Completion(token_ids=(7,) * num_tokens, logprobs=(-1.0,) * num_tokens),
            message=Message(role="assistant", content=text),
        ),
    )
    if calls := tool_calls(names):
        results = tuple(
            ToolResult(
                call_id=call.call_id,
                content="5",
                status=ToolStatus.ERROR if place in failed else ToolStatus.OK,
                duration_s=call_s,
            )
            for place, call in enumerate(calls)
        )
        called = Message(role="assistant", tool_calls=calls)
        turns = (
            Turn(completion=Completion(token_ids=(8,), logprobs=(-1.0,)), message=called, tool_results=results),
            *turns,
        )
    return Trajectory(reference_id="p", turns=turns, stop_reason=stop_reason)


def group(*trajectories: Trajectory, teacher: str = "add") -> TrajectoryGroup:
    return TrajectoryGroup(references=(reference(teacher),), trajectories=trajectories)
