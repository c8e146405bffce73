"""Two teachers that are always right, and differ in what a small student can copy.

`stepwise` issues one call at a time and reads its result: a student that copies it exactly
succeeds. `parallel` works out the intermediate results in its head, as a strong model can, and
issues all calls in one message: a small student that copies the form has to guess the numbers.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from mentor_pl.embedded.toolmath.operations import Step
from mentor_pl.embedded.toolmath.problems import Problem
from mentor_pl.messages import Message, ToolCall, ToolSpec
from mentor_pl.reference import Reference
from mentor_pl.tools import arithmetic

OFFERED_TOOLS = tuple(ToolSpec(name=name) for name in arithmetic.__all__)
"""By name only: the tool backend knows their descriptions and parameters."""


def answer_message(answer: float) -> Message:
    """Return the message that ends a solution."""
    return Message(role="assistant", content=f"\\boxed{{{json.dumps(answer)}}}")


def tool_message(call: ToolCall, content: str) -> Message:
    """Return the message that answers a call."""
    return Message(role="tool", content=content, tool_call_id=call.call_id, name=call.name)


def _calls(problem: Problem) -> list[tuple[ToolCall, Step]]:
    return [
        (ToolCall(call_id=f"call_{number}", name=step.tool, arguments=step.arguments), step)
        for number, step in enumerate(problem.steps)
    ]


def _reference(problem: Problem, reference_id: str, domain: str, teacher: str, messages: list[Message]) -> Reference:
    return Reference(
        reference_id=reference_id,
        prompt=(Message(role="user", content=problem.question),),
        answer=str(problem.answer),
        tools=OFFERED_TOOLS,
        tool_calls=tuple(call for message in messages for call in message.tool_calls),
        messages=tuple(messages),
        teacher=f"oracle-{teacher}",
        domain=domain,
    )


def stepwise_reference(problem: Problem, reference_id: str, domain: str) -> Reference:
    """Solve a problem with one call a message, each after the result of the one before."""
    messages: list[Message] = []
    for call, step in _calls(problem):
        messages.append(Message(role="assistant", tool_calls=(call,)))
        messages.append(tool_message(call, json.dumps(step.result)))
    messages.append(answer_message(problem.answer))
    return _reference(problem, reference_id, domain, "stepwise", messages)


def parallel_reference(problem: Problem, reference_id: str, domain: str) -> Reference:
    """Solve a problem with all calls in one message, intermediate results worked out beforehand."""
    calls = _calls(problem)
    messages = [Message(role="assistant", tool_calls=tuple(call for call, _ in calls))]
    messages += [tool_message(call, json.dumps(step.result)) for call, step in calls]
    messages.append(answer_message(problem.answer))
    return _reference(problem, reference_id, domain, "parallel", messages)


TEACHERS: dict[str, Callable[[Problem, str, str], Reference]] = {
    "stepwise": stepwise_reference,
    "parallel": parallel_reference,
}
