"""Ids of calls, where a template writes them: who chooses them, and where they stand in what follows a turn."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum

from mentor_pl.chat.slots import Followed
from mentor_pl.errors import ChatFormatError
from mentor_pl.messages import Message, ToolCall

_RUN = re.compile(r"([\w.:-]+)", re.ASCII)


class CallIds(StrEnum):
    """Who chooses the ids that stand in calls.

    `GIVEN`: the conversation, as Mistral's templates have it; `COUNTED`: the template, which counts
    the calls of a conversation (Kimi K2, Command R7B); `OF_TURN`: the template, which counts those
    of a turn.
    """

    NONE = "none"
    GIVEN = "given"
    COUNTED = "counted"
    OF_TURN = "of turn"


def find_out(written: Callable[[Sequence[Message]], str | None]) -> CallIds:
    """Find out who chooses the ids.

    Args:
        written: Returns the id in a call that follows some messages, as the template writes it;
            None where there is none.
    """
    first = written(())
    if first is None:
        return CallIds.NONE
    if first == given_id(0):
        return CallIds.GIVEN
    try:
        later = written(earlier_calls(1))
    except ChatFormatError:
        later = first
    return CallIds.OF_TURN if later == first else CallIds.COUNTED


def given_id(number: int) -> str:
    """Return the id that we give call `number` of a conversation: nine letters and digits, since Mistral's templates refuse others."""
    return f"call{number:05d}"


def ids_of_calls(messages: Sequence[Message], *, as_written: bool) -> list[list[str]]:
    """Return an id for each call of each message, all of them different.

    Args:
        messages: A conversation.
        as_written: Take those that calls have of themselves.
    """
    taken: set[str] = set()
    ids: list[list[str]] = []
    for message in messages:
        ids.append([])
        for call in message.tool_calls:
            number = len(taken)
            chosen = call.written_id if as_written and call.written_id else given_id(number)
            while chosen in taken:
                chosen, number = given_id(number), number + 1
            taken.add(chosen)
            ids[-1].append(chosen)
    return ids


def earlier_calls(number: int) -> list[Message]:
    """Return messages that call a tool so many times, for templates that count calls."""
    messages: list[Message] = []
    for index in range(number):
        call = ToolCall(call_id=f"earlier_{index}", name="probe_earlier", arguments={"value": 1})
        messages += [
            Message(role="assistant", tool_calls=(call,)),
            Message(role="tool", content="x", tool_call_id=call.call_id, name=call.name),
        ]
    return messages


def with_id_slots(
    pieces: Sequence[Followed], others: Sequence[Followed], owners: Mapping[str, int], *, first_slot: int
) -> list[Followed]:
    """Put slots for ids into the text that follows a turn.

    Args:
        pieces: The text, with slots for what tools say.
        others: The same with other ids: only they tell the two apart.
        owners: Number of the call that has an id in `pieces`.
        first_slot: Number of the slot for the first call's id; those of the others follow.

    Returns:
        The pieces with slots for the ids; as they are where the two differ in more.
    """
    if [type(piece) for piece in pieces] != [type(other) for other in others]:
        return list(pieces)
    out: list[Followed] = []
    for piece, other in zip(pieces, others, strict=True):
        if not isinstance(piece, str) or not isinstance(other, str):
            out.append(piece)
            continue
        runs, other_runs = _RUN.split(piece), _RUN.split(other)
        if len(runs) != len(other_runs):
            return list(pieces)
        for run, other_run in zip(runs, other_runs, strict=True):
            if run != other_run and run in owners:
                out.append((first_slot + owners[run], 0))
            elif out and isinstance(last := out[-1], str):
                out[-1] = last + run
            else:
                out.append(run)
    return [piece for piece in out if piece]
