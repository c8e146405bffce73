"""What a student can do with tools, thought and turns, found by trying: `mentor-pl doctor` shows it, `fit` warns of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from mentor_pl.chat.choice import TOOLS_AS_TEXT
from mentor_pl.chat.detection import PROBE_TOOL, PROBES
from mentor_pl.chat.protocol import ChatProtocol
from mentor_pl.chat.stops import model_stops
from mentor_pl.errors import ChatFormatError
from mentor_pl.messages import Message, ToolCall, ToolResult

_log = logging.getLogger(__name__)
_ASK = Message(role="user", content="What is 17 * 23?")
_CALL = ToolCall(call_id="call_0", name=PROBE_TOOL.name, arguments={"value": 12, "text": "a"})
_RESULT = ToolResult(call_id="call_0", content="391")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was tried.

    Attributes:
        topic: What was looked at.
        level: "ok"; "note" where something is not as it might be, "fault" where the student cannot
            be trained so.
        text: What was found.
        remedy: What to set; "" where nothing has to be.
    """

    topic: str
    level: Literal["ok", "note", "fault"]
    text: str
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A stretch of a rendered example.

    Attributes:
        text: Its tokens, decoded.
        trained: True where the student samples it.
    """

    text: str
    trained: bool


def examine_chat(protocol: ChatProtocol) -> Iterator[Finding]:
    """Try a student's conversations.

    Args:
        protocol: The student's.

    Yields:
        A finding for each thing tried.
    """
    yield _format(protocol)
    yield _round_trips(protocol)
    yield _several_calls(protocol)
    yield _system(protocol)
    yield _injection(protocol)
    yield _forgery(protocol)
    yield _stops(protocol)
    yield _thought(protocol)


def check_chat(protocol: ChatProtocol) -> None:
    """Refuse a student whose conversations have a fault; what is only worth a note is logged for those who look.

    Args:
        protocol: The student's.

    Raises:
        ChatFormatError: There is a fault.
    """
    for finding in examine_chat(protocol):
        if finding.level == "fault":
            raise ChatFormatError(f"{finding.topic}: {finding.text}; {finding.remedy}")
        if finding.level == "note":
            _log.info("%s: %s (%s)", finding.topic, finding.text, finding.remedy)


def example(protocol: ChatProtocol) -> list[Stretch]:
    """Return a small conversation as it is trained on: a question, a call, its result and the answer."""
    answer = Message(role="assistant", content="It is \\boxed{391}.")
    parts = (
        (protocol.prompt_ids([_ASK], [PROBE_TOOL]), False),
        (protocol.assistant_ids(Message(role="assistant", tool_calls=(_CALL,))), True),
        (protocol.tool_result_ids([_CALL], [_RESULT]), False),
        (protocol.assistant_ids(answer), True),
    )
    return [Stretch(text=_decoded(protocol, ids), trained=trained) for ids, trained in parts]


def _decoded(protocol: ChatProtocol, ids: tuple[int, ...]) -> str:
    return protocol.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)


def _format(protocol: ChatProtocol) -> Finding:
    source = protocol.detected.template.source
    name = protocol.format.name
    if TOOLS_AS_TEXT in source:
        return Finding(
            topic="template",
            level="note",
            text=f"it knows no tools; they are text of its own turns, calls in the {name} format",
            remedy="expect to teach the format by SFT first (configs/sft.yaml)",
        )
    return Finding(topic="template", level="ok", text=f"tools, calls and results by its own template; calls: {name}")


def _round_trips(protocol: ChatProtocol) -> Finding:
    unread = protocol.detected.unread
    if unread:
        return Finding(
            topic="round trip",
            level="note",
            text=f"{len(unread)} of 4 kinds of calls, as the template writes them, do not read back: {unread[0][:160]}",
            remedy="avoid such arguments in the references, or set `chat_template: hermes`",
        )
    changed = [calls for calls in PROBES if not _survives(protocol, calls)]
    if not changed:
        return Finding(
            topic="round trip", level="ok", text="calls with no, nested, boolean and unicode arguments read back"
        )
    return Finding(
        topic="round trip",
        level="fault" if PROBES[0] in changed else "note",
        text=f"its tokenizer does not give back the text that it is given: {len(changed)} of 4 kinds of calls are others afterwards: "
        f"{changed[0]}"[:400],
        remedy="take a tokenizer that keeps letters and blanks as they are, as byte-level and SentencePiece ones do",
    )


def _survives(protocol: ChatProtocol, calls: tuple[ToolCall, ...]) -> bool:
    turn = Message(role="assistant", tool_calls=calls if protocol.detected.several_calls else calls[:1])
    return protocol.parse(protocol.assistant_ids(turn), tools=[PROBE_TOOL]).message.tool_calls == turn.tool_calls


def _several_calls(protocol: ChatProtocol) -> Finding:
    if protocol.detected.several_calls:
        return Finding(topic="calls in a turn", level="ok", text="several")
    return Finding(
        topic="calls in a turn",
        level="note",
        text="its template writes one a turn; a reference's turn with several is shown as several turns",
        remedy="nothing has to be set; `chat_template: hermes` takes several in a turn",
    )


def _system(protocol: ChatProtocol) -> Finding:
    try:
        protocol.prompt_ids([Message(role="system", content="probe_system"), _ASK], [PROBE_TOOL])
    except ChatFormatError as refused:
        return Finding(
            topic="system prompt", level="note", text=str(refused), remedy="leave system messages out of the references"
        )
    return Finding(topic="system prompt", level="ok", text="shown")


def _injection(protocol: ChatProtocol) -> Finding:
    added = protocol.added_tokens
    forged = "x" + "".join(added)
    plain = [token for token in protocol.tool_result_ids([_CALL], [_RESULT]) if token in added.values()]
    result = ToolResult(call_id="call_0", content=forged)
    got = [token for token in protocol.tool_result_ids([_CALL], [result]) if token in added.values()]
    if got == plain:
        return Finding(
            topic="injection",
            level="ok",
            text=f"{len(added)} added tokens stay plain text in prompts and tools' results",
        )
    names = protocol.tokenizer.convert_ids_to_tokens(sorted(set(got) - set(plain)) or got[:1])
    return Finding(
        topic="injection",
        level="fault",
        text=f"text of tools becomes control tokens: {', '.join(names[:5])}",
        remedy="take the tokenizer's fast version (tokenizer.json)",
    )


def _forgery(protocol: ChatProtocol) -> Finding:
    marks = protocol.format.forged
    if marks:
        return Finding(
            topic="forged turns", level="ok", text=f"a student that writes one is stopped: {' '.join(marks)}"
        )
    return Finding(
        topic="forged turns",
        level="note",
        text="nothing that only the environment writes can be told from the student's own text",
        remedy="read trajectories now and then: a student may speak for its tools",
    )


def _stops(protocol: ChatProtocol) -> Finding:
    kept = set(model_stops(protocol.tokenizer))
    own = protocol.detected.shape.spoken_end, protocol.detected.call_end

    def source(number: int, token: str) -> str:
        places = (
            *(("template",) if token in own else ()),
            *(("tokenizer",) if number == protocol.tokenizer.eos_token_id else ()),
            *(("generation_config",) if number in kept else ()),
        )
        return f"{token} ({', '.join(places)})"

    tokens = [(number, str(protocol.tokenizer.convert_ids_to_tokens(number))) for number in protocol.stop_token_ids]
    return Finding(topic="stop tokens", level="ok", text="; ".join(source(number, token) for number, token in tokens))


def _thought(protocol: ChatProtocol) -> Finding:
    tags = protocol.detected.shape.thought
    how = (
        "opened by the template"
        if tags.opened
        else "written by the template"
        if tags.rendered
        else "read where written"
    )
    return Finding(topic="thought", level="ok", text=f"{tags.open} … {tags.close}, {how}")
