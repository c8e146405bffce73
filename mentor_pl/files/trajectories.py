"""Trajectory files: what a student did, one attempt a line.

A row is `{"reference_id", "messages": [assistant and tool messages, OpenAI form], "finished":
bool}`, optionally with `sample_index`, `stop_reason`, `environment`, `submission`, `final_state`,
`environment_score` and `given_turns`. What the user says in between is a user message. Rows that we
write also keep, on an assistant message, `num_tokens`, `finish_reason` and `policy_version` of its
completion, and, on a tool message, the ledger's `status`, `duration_s`, `output_chars` and `final`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from mentor_pl.files.conversation import messages_from_rows
from mentor_pl.files.fields import MISSING, refusal, text_field, validated
from mentor_pl.files.jsonl import Row
from mentor_pl.files.tables import read_rows
from mentor_pl.messages import Message, ToolResult, ToolStatus
from mentor_pl.trajectory import Completion, StopReason, Trajectory, Turn


class _Outcome(BaseModel):
    """Fields of a row beside its messages."""

    model_config = ConfigDict(strict=True)

    sample_index: Annotated[int, Field(ge=0)] = 0
    finished: bool | None = None
    stop_reason: Annotated[StopReason | None, Field(strict=False)] = None
    environment: str = ""
    submission: dict[str, Any] | None = None
    final_state: Any = None
    environment_score: Annotated[float | None, Field(ge=0, le=1)] = None
    given_turns: Annotated[int, Field(ge=0)] = 0


class _Sampled(BaseModel):
    """Fields of an assistant message beside what was said."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    prompt_ids: list[int] = []
    token_ids: list[int] = []
    logprobs: list[float] = []
    forced: Annotated[tuple[int, int], Field(strict=False)] = (0, 0)
    finish_reason: str = "stop"
    policy_version: int = 0


class _Ledger(BaseModel):
    """Fields of a tool message beside the result."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    status: Annotated[ToolStatus, Field(strict=False)] = ToolStatus.OK
    duration_s: float = 0.0
    output_chars: int | None = None
    final: bool = False


def iter_trajectories(path: str | Path, *, max_bad_lines: int = 0) -> Iterator[Trajectory]:
    """Read trajectories one by one, in constant memory.

    Args:
        path: A trajectory file.
        max_bad_lines: Lines that may be unusable; each is logged with its number and left out.

    Raises:
        DataFileError: More lines are bad, or the file cannot be read.
    """
    return read_rows(path, trajectory_from_row, max_bad_lines=max_bad_lines)


def trajectory_to_row(trajectory: Trajectory, *, token_ids: bool = False, **extra: Any) -> Row:
    """Return the row of a trajectory.

    Args:
        trajectory: What the student did.
        token_ids: Also keep every token id and log-probability, so that the row reads back to an
            equal trajectory.
        extra: Further fields, for example `reward=1.1`.
    """
    messages: list[Row] = []
    for turn in trajectory.turns:
        messages += _turn_to_rows(turn, token_ids)
    return {
        "reference_id": trajectory.reference_id,
        "sample_index": trajectory.sample_index,
        "finished": trajectory.finished,
        "stop_reason": trajectory.stop_reason.value,
        **_further_fields(trajectory),
        **extra,
        "messages": messages,
    }


def _further_fields(trajectory: Trajectory) -> Row:
    fields = {
        "environment": trajectory.environment or None,
        "submission": None if trajectory.submission is None else dict(trajectory.submission),
        "final_state": trajectory.final_state,
        "environment_score": trajectory.environment_score,
        "given_turns": trajectory.given_turns or None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _turn_to_rows(turn: Turn, token_ids: bool) -> list[Row]:
    completion = turn.completion
    assistant: Row = {
        **turn.message.to_openai(),
        "num_tokens": len(completion.token_ids),
        "finish_reason": completion.finish_reason,
        "policy_version": completion.policy_version,
    }
    if token_ids:
        assistant["prompt_ids"] = list(turn.prompt_ids)
        assistant["token_ids"] = list(completion.token_ids)
        assistant["logprobs"] = list(completion.logprobs)
        if completion.forced[1]:
            assistant["forced"] = list(completion.forced)
    names = {call.call_id: call.name for call in turn.message.tool_calls}
    rows = [assistant]
    for result in turn.tool_results:
        message = Message(
            role="tool", content=result.content, tool_call_id=result.call_id, name=names.get(result.call_id)
        )
        rows.append(
            {
                **message.to_openai(),
                "status": result.status.value,
                "duration_s": result.duration_s,
                "output_chars": result.output_chars,
                **({"final": True} if result.final else {}),
            }
        )
    if turn.follow_up is not None:
        rows.append(Message(role="user", content=turn.follow_up).to_openai())
    return rows


def trajectory_from_row(row: Row, where: str) -> Trajectory:
    """Read a trajectory from its row; what the student got wrong in it, such as malformed arguments, is kept as data.

    Messages before the first assistant message (the prompt) are left out.

    Args:
        row: See the head of this module.
        where: `path:line`, for errors.

    Raises:
        DataFileError: A field is missing or malformed.
    """
    rows = row.get("messages", MISSING)
    messages = messages_from_rows(rows, where, strict=False)
    # A budget may run out just when the user has spoken; who finished spoke last.
    cut_off = (row.get("stop_reason") or "answered") not in (StopReason.ANSWERED, StopReason.CALLED)
    turns: list[Turn] = []
    for index, (message, item) in enumerate(zip(messages, rows, strict=True)):
        field = f"messages[{index}]"
        if message.role == "assistant":
            turns.append(_turn(message, validated(_Sampled, item, where, field=field)))
        elif message.role == "tool" and turns:
            turns[-1] = _with_result(turns[-1], message, item, where, field)
        elif message.role == "user" and _answered(turns) and (cut_off or index < len(messages) - 1):
            turns[-1] = replace(turns[-1], follow_up=message.content)
        elif turns or message.role == "tool":
            raise refusal(
                where,
                f"{field}.role",
                expected="assistant, or tool after one, or user between two that call nothing",
                found=message.role,
                remedy="a trajectory is one attempt: what the student said, and what its tools and the user answered",
            )
    if not turns:
        raise refusal(
            where,
            "messages",
            expected="at least one assistant message",
            found=rows,
            remedy="leave out attempts without any turn",
        )
    outcome = validated(_Outcome, row, where)
    if outcome.given_turns > len(turns):
        raise refusal(
            where,
            "given_turns",
            expected=f"at most {len(turns)}, the number of turns",
            found=outcome.given_turns,
            remedy="it counts the leading turns that the student was given",
        )
    return Trajectory(
        reference_id=text_field(row, "reference_id", where, remedy="name the reference of its prompt"),
        sample_index=outcome.sample_index,
        turns=tuple(turns),
        stop_reason=_stop_reason(outcome, where),
        submission=outcome.submission,
        final_state=outcome.final_state,
        environment_score=outcome.environment_score,
        given_turns=outcome.given_turns,
        environment=outcome.environment,
    )


def _answered(turns: list[Turn]) -> bool:
    return bool(turns) and turns[-1].follow_up is None and not turns[-1].message.tool_calls


def _turn(message: Message, sampled: _Sampled) -> Turn:
    completion = Completion(
        token_ids=tuple(sampled.token_ids),
        logprobs=tuple(sampled.logprobs),
        finish_reason="length" if sampled.finish_reason == "length" else "stop",
        policy_version=sampled.policy_version,
        forced=sampled.forced,
    )
    return Turn(prompt_ids=tuple(sampled.prompt_ids), completion=completion, message=message)


def _with_result(turn: Turn, message: Message, item: Row, where: str, field: str) -> Turn:
    calls, results = turn.message.tool_calls, turn.tool_results
    if len(results) == len(calls):
        raise refusal(
            where,
            field,
            expected=f"at most {len(calls)} tool messages after an assistant message with so many calls",
            found=item,
            remedy="a tool message answers one call",
        )
    ledger = validated(_Ledger, item, where, field=field)
    result = ToolResult(
        call_id=message.tool_call_id or calls[len(results)].call_id,
        content=message.content,
        status=ledger.status,
        duration_s=ledger.duration_s,
        output_chars=len(message.content) if ledger.output_chars is None else ledger.output_chars,
        final=ledger.final,
    )
    order = {call.call_id: place for place, call in enumerate(calls)}
    both = sorted((*results, result), key=lambda r: order.get(r.call_id, len(order)))
    return replace(turn, tool_results=tuple(both))


def _stop_reason(outcome: _Outcome, where: str) -> StopReason:
    finished, stated = outcome.finished, outcome.stop_reason
    if stated is None:
        if finished is None:
            raise refusal(
                where,
                "finished",
                expected="true or false",
                found=MISSING,
                remedy="say whether the student ended by itself",
            )
        return StopReason.ANSWERED if finished else StopReason.MAX_COMPLETION_TOKENS
    if finished is not None and finished is not (stated in (StopReason.ANSWERED, StopReason.CALLED)):
        raise refusal(
            where,
            "stop_reason",
            expected=f"one that fits finished={finished}",
            found=stated.value,
            remedy="correct one of the two",
        )
    return stated
