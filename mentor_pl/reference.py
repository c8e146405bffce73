"""A teacher's solution of one prompt."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mentor_pl.messages import Message, ToolCall, ToolSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A prompt, its answer, the tools offered, and how the teacher used them.

    Several references may share one prompt: the same `prompt`, `tools`, `follow_ups` and
    `initial_state` with another solution each. They then train together, and reward components see
    all of them.

    Attributes:
        reference_id: Unique in its file.
        prompt: What both teacher and student are given, ending in a user message.
        answer: The answer that counts as right, as text; "" where there is none.
        tools: The tools offered to teacher and student alike. Name and schema belong to this
            prompt.
        tool_calls: The teacher's calls, in order, of all turns.
        messages: The teacher's solution after the prompt (assistant and tool messages, and the
            follow-ups as user messages); empty where only its calls are known.
        follow_ups: What the user says next, each time that the student has answered, in order.
        initial_state: What the environment starts from, as JSON; None where it starts as it always
            does.
        expected_state: What the environment should be in at the end, as JSON; None where that is
            not known.
        teacher: Who solved it, for example a model name.
        domain: A label by which results may be split, for example a topic.
        other_answers: Further answers that count as right.
        fields: Every further field of its row, as it stands there: what a task's own rewards, tools
            and metrics need.
        environment: Name of the training environment that it belongs to; "" where there is only
            one, or none.
    """

    reference_id: str
    prompt: tuple[Message, ...]
    answer: str
    tools: tuple[ToolSpec, ...]
    tool_calls: tuple[ToolCall, ...] = ()
    messages: tuple[Message, ...] = ()
    follow_ups: tuple[str, ...] = ()
    initial_state: Any = field(default=None, hash=False)
    expected_state: Any = field(default=None, hash=False)
    teacher: str | None = None
    domain: str | None = None
    other_answers: tuple[str, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict[str, Any], hash=False)
    environment: str = ""

    @property
    def answers(self) -> tuple[str, ...]:
        """Every answer that counts as right; none where there is no answer."""
        return tuple(answer for answer in (self.answer, *self.other_answers) if answer.strip())


def group_by_prompt(references: Iterable[Reference], *, fields: Collection[str] = ()) -> list[tuple[Reference, ...]]:
    """Put references of the same prompt, tools, follow-ups and first state together, in order of first appearance.

    Args:
        references: To be grouped.
        fields: Further fields that belong to the prompt and not to a solution, so that those of a
            group have the same.
    """
    groups: dict[object, list[Reference]] = {}
    schemas: dict[int, str] = {}
    for reference in references:
        # Most rows of a file share one tuple of tools: it is written out once.
        if id(reference.tools) not in schemas:
            schemas[id(reference.tools)] = json.dumps([tool.to_openai() for tool in reference.tools], sort_keys=True)
        key = (
            tuple((message.role, message.content) for message in reference.prompt),
            schemas[id(reference.tools)],
            reference.follow_ups,
            json.dumps([reference.initial_state, *map(reference.fields.get, fields)], sort_keys=True, default=str),
        )
        groups.setdefault(key, []).append(reference)
    return [tuple(group) for group in groups.values()]
