"""Conversations for templates that write one call a turn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from mentor_pl.messages import Message


def one_call_a_turn(messages: Sequence[Message]) -> list[Message]:
    """Return a conversation in which a turn with several calls is several turns, each followed by its result.

    Llama 3 refuses several calls in a turn, and gpt-oss leaves out all but the first. What the turn
    says and thinks stays with its first call.

    Args:
        messages: In order. Results without an id answer in order.
    """
    out: list[Message] = []
    position = 0
    while position < len(messages):
        message = messages[position]
        position += 1
        results: list[Message] = []
        while message.role == "assistant" and position < len(messages) and messages[position].role == "tool":
            results.append(messages[position])
            position += 1
        out += _apart(message, results) if len(message.tool_calls) > 1 else [message, *results]
    return out


def _apart(message: Message, results: list[Message]) -> Iterator[Message]:
    left = list(results)
    for number, call in enumerate(message.tool_calls):
        turn = replace(message, tool_calls=(call,))
        yield turn if number == 0 else replace(turn, content="", reasoning="")
        answers = [result for result in left if result.tool_call_id in (call.call_id, None)][:1]
        for answer in answers:
            left.remove(answer)
        yield from answers
    yield from left
