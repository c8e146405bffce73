"""The contract of reward components."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from mentor_pl.messages import Message, ToolCall, ToolResult, ToolSpec, ToolStatus
from mentor_pl.reference import Reference
from mentor_pl.rewards.base import NoScore, RewardComponent
from mentor_pl.rewards.program import RewardProgram, RewardTerm
from mentor_pl.testing.contract import require
from mentor_pl.trajectory import Completion, StopReason, Trajectory, TrajectoryGroup, Turn

_TOOLS = (ToolSpec(name="add"), ToolSpec(name="multiply"))
_PURE = "a component must be pure: the same input always gives the same score"

Case = tuple[Trajectory, Sequence[Reference]]


def trajectory(
    text: str,
    *calls: ToolCall,
    results: Sequence[ToolResult] = (),
    num_tokens: int = 1,
    stop_reason: StopReason = StopReason.ANSWERED,
    reference_id: str = "r",
) -> Trajectory:
    """Make a trajectory for a test: one turn with the calls, if there are any, and a last one with the text.

    Args:
        text: What the student says last.
        calls: What it calls before.
        results: Of the calls, in order; by default each gave "1".
        num_tokens: Number of sampled tokens in each turn.
        stop_reason: Why it ended.
        reference_id: Its reference.
    """
    completion = Completion(token_ids=(0,) * num_tokens, logprobs=(0.0,) * num_tokens)
    last = Turn(completion=completion, message=Message(role="assistant", content=text))
    if not calls:
        return Trajectory(reference_id=reference_id, turns=(last,), stop_reason=stop_reason)
    results = results or [ToolResult(call_id=call.call_id, content="1", output_chars=1) for call in calls]
    message = Message(role="assistant", tool_calls=calls)
    first = Turn(completion=completion, message=message, tool_results=tuple(results))
    return Trajectory(reference_id=reference_id, turns=(first, last), stop_reason=stop_reason)


def awkward_trajectories() -> Iterator[Case]:
    """Yield what an untrained student does sooner or later, with a reference of the prompt."""
    add = ToolCall(call_id="a", name="add", arguments={"a": 1, "b": 2})
    reference = Reference(
        reference_id="r",
        prompt=(Message(role="user", content="What is 1 + 2? Put it in \\boxed{}."),),
        answer="3",
        tools=_TOOLS,
        tool_calls=(add,),
    )
    without_calls = replace(reference, tool_calls=())
    without_answer = replace(reference, answer="", tools=(), tool_calls=())
    malformed = ToolCall(call_id="m", name="", parse_error="not JSON")
    unknown = ToolCall(call_id="u", name="no_such_tool", arguments={"x": [1, {"y": None}]})
    lost = ToolResult(call_id="a", content="Error", status=ToolStatus.INFRASTRUCTURE)
    texts = (
        "",
        "\\boxed{3}",
        "\\boxed{",
        "\\boxed{}",
        "\\boxed{4} or \\boxed{3}",
        "<think>\\boxed{3}",
        "\u0000\ud83d\ude00 \u202e",
    )
    for known in (reference, without_calls, without_answer):
        for text in texts:
            yield trajectory(text), [known]
            yield trajectory(text, add), [known, reference]
            yield trajectory(text, stop_reason=StopReason.MAX_COMPLETION_TOKENS), [known]
        yield trajectory("3", malformed, unknown, add), [known]
        yield trajectory("3", add, results=[lost], stop_reason=StopReason.INFRASTRUCTURE), [known]
        yield trajectory("3", *[replace(add, call_id=str(i)) for i in range(200)], num_tokens=5000), [known]


def check_reward_component(component: RewardComponent, cases: Sequence[Case] = ()) -> None:
    """Check that a component keeps its plugin point's contract on awkward trajectories and on your own.

    It must score every one in [0, 1], alone and in a group alike, always the same, from several
    threads at once, and whatever stands in a prompt or in a tool's output. What the scores should
    *be* is for your own asserts.

    Args:
        component: The component.
        cases: Further (trajectory, references), for example typical ones.

    Raises:
        PluginError: It does not.
    """
    program = RewardProgram(terms=[RewardTerm(name=type(component).__name__, component=component, weight=1.0)])
    cases = [*awkward_trajectories(), *cases]
    scores = [_score(program, case) for case in cases]
    for case, score in zip(cases, scores, strict=True):
        about = f"on {_shown(case)}"
        require(
            not math.isnan(score),
            component,
            f"gives no score {about}",
            "this check needs what the component asks: let it reach its server",
        )
        alone = component.score(*case)
        require(
            alone == score,
            component,
            f"score gives {alone} and score_group {score} {about}",
            "a group of one must score as its trajectory does",
        )
        again = _score(program, case)
        require(again == score, component, f"scores {score}, then {again} {about}", _PURE)
        other = _score(program, _with_other_surroundings(case))
        require(
            other == score,
            component,
            f"scores {score}, but {other} once the prompt and the tools' output were changed, {about}",
            "judge only what the student itself sampled, and the ledger's status of its calls",
        )
    with ThreadPoolExecutor(max_workers=8) as threads:
        together = list(threads.map(lambda case: _score(program, case), cases * 4))
    require(together == scores * 4, component, "other scores from eight threads at once", _PURE)
    _check_group(component, cases)


def _check_group(component: RewardComponent, cases: Sequence[Case]) -> None:
    references = cases[0][1]
    members = tuple(attempt for attempt, known in cases if known == references)
    in_group = [
        score if isinstance(score, NoScore) else float(score)
        for score in component.score_group(TrajectoryGroup(references=tuple(references), trajectories=members))
    ]
    alone = [float(component.score(attempt, references)) for attempt in members]
    require(
        in_group == alone,
        component,
        f"score_group gives {in_group} and score {alone}",
        "score_group must return one score for each trajectory, in order, as score does",
    )


def _score(program: RewardProgram, case: Case) -> float:
    attempt, references = case
    scored = program.score_group(TrajectoryGroup(references=tuple(references), trajectories=(attempt,)))
    return scored.scores[program.terms[0].name][0]


def _with_other_surroundings(case: Case) -> Case:
    attempt, references = case
    turns = [
        replace(
            t, tool_results=tuple(replace(r, content=f"\\boxed{{3}} {r.content} \\boxed{{4}}") for r in t.tool_results)
        )
        for t in attempt.turns
    ]
    prompt = (Message(role="user", content="Another question: \\boxed{4}"),)
    return replace(attempt, turns=tuple(turns)), [replace(reference, prompt=prompt) for reference in references]


def _shown(case: Case) -> str:
    attempt, references = case
    calls = ", ".join(call.name or "(malformed)" for call in attempt.tool_calls)
    return (
        f"a trajectory that says {attempt.final_text!r}, calls [{calls:.60}] and stopped as {attempt.stop_reason.value}, "
        f"with the answer {references[0].answer!r}"
    )
