"""Does a reference hold? Its calls are run again, and its final message is judged like a student's."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from mentor_pl.files.strict_json import strict_loads
from mentor_pl.files.trajectories import trajectory_from_row
from mentor_pl.reference import Reference
from mentor_pl.rewards.base import RewardComponent
from mentor_pl.rewards.correct import Correct
from mentor_pl.rewards.text_answer import TextAnswer
from mentor_pl.tools.toolbox import ToolBox
from mentor_pl.trajectory import StopReason, Trajectory


def as_trajectory(reference: Reference, final_tools: Collection[str] = ()) -> Trajectory | None:
    """Return the teacher's solution as if a student had sampled it; None where only its calls are known.

    Args:
        reference: With the solution.
        final_tools: Tools whose call ends a trajectory; their arguments are its answer.
    """
    if not any(message.role == "assistant" for message in reference.messages):
        return None
    row = {
        "reference_id": reference.reference_id,
        "messages": [message.to_openai() for message in reference.messages],
        "finished": True,
    }
    trajectory = trajectory_from_row(row, f"reference {reference.reference_id!r}")
    last = trajectory.turns[-1].message.tool_calls
    handed_in = [call.arguments for call in last if call.name in final_tools]
    if not handed_in:
        return trajectory
    return replace(trajectory, stop_reason=StopReason.CALLED, submission=handed_in[-1])


def find_fault(
    reference: Reference,
    *,
    judges: Sequence[RewardComponent] = (),
    toolbox: ToolBox | None = None,
    final_tools: Collection[str] = (),
) -> str | None:
    """Say why a reference does not hold.

    Args:
        reference: To be replayed.
        judges: Each must score 1.0; not asked where the reference has no solution to judge. Where it
            has no answer, only the tools' state can be judged, and not by those that judge answers.
        toolbox: Runs its calls again where given; each must succeed, and say what the solution says
            that it said. The state that they lead to is the solution's.
        final_tools: Tools whose call ends a solution; their arguments are its answer.

    Returns:
        The cause in few words, the same for the same cause; None for a reference that holds.
    """
    offered = {tool.name for tool in reference.tools}
    for call in reference.tool_calls:
        if call.parse_error is not None:
            return "a call is malformed"
        if call.name not in offered:
            return "a call names a tool that is not offered"
    trajectory = as_trajectory(reference, final_tools)
    if toolbox is not None:
        outcome = _rerun(reference, trajectory, toolbox)
        if isinstance(outcome, str):
            return outcome
        if trajectory is not None and toolbox.tells_state:
            trajectory = replace(trajectory, final_state=outcome[0], environment_score=outcome[1])
            reference = with_state(reference, outcome[0])
    if trajectory is None:
        return None
    if not reference.answer:
        judges = [judge for judge in judges if not isinstance(judge, (Correct, TextAnswer))]
        if trajectory.final_state is None and trajectory.environment_score is None:
            return None
    elif trajectory.turns[-1].message.tool_calls and trajectory.submission is None:
        return "the solution ends with a tool call; if it hands the answer in, name it in final_tools"
    for judge in judges:
        if judge.score(trajectory, [reference]) < 1.0:
            return f"{type(judge).__name__} does not hold"
    return None


def replayed_outcome(reference: Reference, toolbox: ToolBox) -> tuple[Any, float | None]:
    """Return the final state and the environment's score that the teacher's calls lead to when they are run again."""
    with toolbox.session(reference) as session:
        session.run(reference.tool_calls)
        return session.state(), session.score()


def with_expected_state(reference: Reference, toolbox: ToolBox) -> Reference:
    """Let the teacher's calls say what state is expected, where the reference does not and the tools tell one.

    A teacher that answered without a call leaves the first state as it was.
    """
    solved = reference.tool_calls or reference.messages
    if not toolbox.tells_state or reference.expected_state is not None or not solved:
        return reference
    return with_state(reference, replayed_outcome(reference, toolbox)[0])


def with_state(reference: Reference, state: Any) -> Reference:
    """Expect a state, where the reference does not say another."""
    return reference if reference.expected_state is not None else replace(reference, expected_state=state)


def _rerun(reference: Reference, trajectory: Trajectory | None, toolbox: ToolBox) -> str | tuple[Any, float | None]:
    """Run the calls again; say what is wrong, or give the state and the score that they lead to."""
    recorded: list[str | None] = []
    if trajectory is not None and trajectory.tool_calls == reference.tool_calls:
        recorded = _recorded(trajectory)
    with ExitStack() as stack:
        run = stack.enter_context(toolbox.session(reference))
        for place, call in enumerate(reference.tool_calls):
            result = run(call)
            if not result.ok:
                return f"{call.name} fails when run again"
            said = recorded[place] if place < len(recorded) else None
            if said is not None and not _same(said, result.content):
                return f"{call.name} gives another result when run again"
        return run.state(), run.score()


def _same(said: str, content: str) -> bool:
    """Compare two results; as JSON where both are: 18 is 18.0, and neither spaces nor the order of keys count."""
    if said == content:
        return True
    try:
        return bool(strict_loads(said) == strict_loads(content))
    except ValueError:
        return False


def _recorded(trajectory: Trajectory) -> list[str | None]:
    """Return what was said to each call, in order; None where nothing was.

    Ids are no keys beyond their turn: some models begin them anew with each.
    """
    out: list[str | None] = []
    for turn in trajectory.turns:
        said = {result.call_id: result.content for result in turn.tool_results}
        out += [said.get(call.call_id) for call in turn.message.tool_calls]
    return out
