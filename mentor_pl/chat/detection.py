"""Finds out by trying what a template writes around turns, and in which format it writes calls."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from transformers import PreTrainedTokenizerBase

from mentor_pl.chat.call_ids import CallIds, find_out
from mentor_pl.chat.formats.base import ToolCallFormat
from mentor_pl.chat.formats.response_template import ResponseTemplateFormat
from mentor_pl.chat.template import MARK, ConversationTemplate
from mentor_pl.chat.tokens import PieceEncoder
from mentor_pl.chat.turns import TurnShape
from mentor_pl.errors import ChatFormatError
from mentor_pl.messages import Message, ToolCall, ToolSpec
from mentor_pl.plugins import load_plugins

PROBE_TOOL = ToolSpec(
    name="probe_tool",
    description="Probes.",
    parameters={
        "type": "object",
        "properties": {
            "value": {"type": "number", "description": "A number."},
            "text": {"type": "string", "description": "A text."},
            "flag": {"type": "boolean", "description": "A switch."},
            "items": {"type": "array", "items": {"type": "object"}, "description": "A list."},
        },
        "required": ["value"],
    },
)
"""What is offered and called where a template is tried."""


def _call(index: int, **arguments: object) -> ToolCall:
    return ToolCall(call_id=f"call_{index}", name=PROBE_TOOL.name, arguments=arguments)


_PLAIN = (_call(0, value=12, text="a"),)
_SEVERAL = (_call(0, value=1), _call(1, text="two"), _call(2, value=-3))
PROBES: tuple[tuple[ToolCall, ...], ...] = (
    _PLAIN,
    (_call(0, text='12 "É"\n😀', flag=True, items=[{"a": {"b": [1, 2.5]}}]),),
    (_call(0),),
    _SEVERAL,
)
"""Calls that are written and read back: plain, with nested, boolean and unicode arguments, with none, and several."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Detected:
    """How a student's conversations are written and read.

    Attributes:
        template: As it is rendered.
        shape: What it writes around turns.
        form: Reads its calls.
        call_end: Token that ends a turn with calls.
        student_turns: Turns as a student may write them, without their ends.
        unread: Calls that it writes and that do not read back.
        several_calls: True where a turn may hold more than one call.
        call_ids: Who chooses the ids that stand in its calls.
    """

    template: ConversationTemplate
    shape: TurnShape
    form: ToolCallFormat
    call_end: str
    student_turns: tuple[str, ...]
    unread: tuple[str, ...]
    several_calls: bool = True
    call_ids: CallIds = CallIds.NONE


def detect(tokenizer: PreTrainedTokenizerBase, encoder: PieceEncoder, source: str | None = None) -> Detected:
    """Find shape and format for a chat template.

    Args:
        tokenizer: The student's.
        encoder: Of that tokenizer.
        source: Jinja source in place of the tokenizer's own template.

    Raises:
        ChatFormatError: It leaves out tools, calls or results, or writes calls in no format that is
            installed.
    """
    template = ConversationTemplate(tokenizer, encoder, source)
    shape = TurnShape(template, encoder, cast("str | None", tokenizer.eos_token))
    ask = [Message(role="user", content="probe_user")]
    text = template.render(ask, (PROBE_TOOL,), add_generation_prompt=True).text
    if PROBE_TOOL.name not in text:
        raise ChatFormatError(f"{template.whose} does not show the tools it is given")
    call_end = shape.call_end(_call(0, text=MARK))
    writer = functools.partial(_write, template, shape, call_end)
    tools = {PROBE_TOOL.name: PROBE_TOOL}
    best: tuple[int, ToolCallFormat, tuple[str, ...]] | None = None
    for form in _formats(writer):
        unread = tuple(str(probe) for probe in PROBES if not _reads_back(form, writer, probe, tools))
        if str(_PLAIN) not in unread and (best is None or len(unread) < best[0]):
            best = len(unread), form, unread
        if not unread:
            break
    if getattr(tokenizer, "response_template", None):
        theirs = ResponseTemplateFormat(tokenizer, best[1] if best else None)
        if all(_reads_back(theirs, writer, probe, tools) for probe in PROBES):
            best = 0, theirs, ()
    if best is None:
        names = ", ".join(sorted(_format_classes()))
        raise ChatFormatError(f"{template.whose} writes tool calls in no format we read ({names})")
    _, form, unread = best
    after_calls = shape.after_calls(_PLAIN, call_end)
    if not any(not isinstance(piece, str) for piece in after_calls):
        raise ChatFormatError(f"{template.whose} does not show the results of tools")
    student = [*_turns(shape, call_end)]
    marks = shape.environment_marks(student=student, pieces=[*after_calls, *shape.after_words(shape.spoken_end)])
    form.forged = tuple(sorted({*form.forged, *marks - {call_end}}))

    def written(before: Sequence[Message]) -> str | None:
        _, calls = form.parse(_write(template, shape, call_end, _PLAIN, before))
        return calls[0].written_id if calls else None

    return Detected(
        template=template,
        shape=shape,
        form=form,
        call_end=call_end,
        student_turns=tuple(student),
        unread=tuple(probe for probe in unread if probe != str(_SEVERAL)),
        several_calls=_reads_back(form, writer, _SEVERAL, tools, refusal_counts=True),
        call_ids=find_out(written),
    )


def _turns(shape: TurnShape, call_end: str) -> Iterator[str]:
    """Yield turns as a student may write them."""
    says = Message(role="assistant", content="x", reasoning="x")
    for message, end in (
        (says, shape.spoken_end),
        *((Message(role="assistant", tool_calls=c), call_end) for c in PROBES),
    ):
        with contextlib.suppress(ChatFormatError):
            yield shape.turn(message, end=end).text


def _write(
    template: ConversationTemplate,
    shape: TurnShape,
    call_end: str,
    calls: tuple[ToolCall, ...],
    before: Sequence[Message] = (),
) -> str:
    rendered = shape.turn(Message(role="assistant", tool_calls=tuple(calls)), end=call_end, before=before)
    text = "".join(piece.text for piece in rendered.pieces())
    text = shape.words(text.rpartition(shape.thought.close)[2])
    if shape.spoken_end in text:
        raise ChatFormatError(
            f"{template.whose} writes {shape.spoken_end!r}, which ends a turn, within a turn that calls tools"
        )
    return text


@functools.cache
def _format_classes() -> Mapping[str, type[ToolCallFormat]]:
    found = cast("dict[str, type[ToolCallFormat]]", load_plugins("mentor_pl.chat_formats"))
    return dict(sorted(found.items(), key=lambda item: (item[1].priority, item[0])))


def _formats(writer: functools.partial[str]) -> list[ToolCallFormat]:
    learned: list[ToolCallFormat] = []
    for kind in _format_classes().values():
        try:
            form = kind.learn(writer)
        except ChatFormatError:
            form = None
        if form is not None:
            learned.append(form)
    return learned


def _reads_back(
    form: ToolCallFormat,
    writer: functools.partial[str],
    calls: tuple[ToolCall, ...],
    tools: Mapping[str, ToolSpec],
    *,
    refusal_counts: bool = False,
) -> bool:
    try:
        text = writer(calls)
    except ChatFormatError:  # one call a turn
        return len(calls) > 1 and not refusal_counts
    split = form.split_reasoning(text)
    content, read = form.parse(split[1] if split else text, tools=tools)
    return not content and read == calls
