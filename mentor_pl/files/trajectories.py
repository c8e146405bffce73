"""Trajectory files: what a student did, one attempt a line.

A row is `{"reference_id", "messages": [assistant and tool messages, OpenAI form], "finished": bool}`, optionally with `sample_index` and
`stop_reason`. Rows that we write also keep, on an assistant message, `num_tokens`, `finish_reason` and `policy_version` of its completion,
and, on a tool message, the ledger's `status`, `duration_s` and `output_chars`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mentor_pl.files.conversation import messages_from_rows
from mentor_pl.files.fields import MISSING, refusal, text_field
from mentor_pl.files.jsonl import Row, read_rows
from mentor_pl.messages import Message, ToolResult, ToolStatus
from mentor_pl.trajectory import Completion, StopReason, Trajectory, Turn


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
        token_ids: Also keep every token id and log-probability, so that the row reads back to an equal trajectory.
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
        **extra,
        "messages": messages,
    }


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
            }
        )
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
    turns: list[Turn] = []
    for index, (message, item) in enumerate(zip(messages, rows, strict=True)):
        if message.role == "assistant":
            turns.append(Turn(prompt_ids=_ids(item, "prompt_ids"), completion=_completion(item), message=message))
        elif message.role == "tool" and turns:
            turns[-1] = _with_result(turns[-1], message, item, where, index)
        elif turns or message.role == "tool":
            raise refusal(
                where,
                f"messages[{index}].role",
                expected="assistant, or tool after one",
                found=message.role,
                remedy="a trajectory is one attempt: what the student said and what its tools answered",
            )
    if not turns:
        raise refusal(
            where,
            "messages",
            expected="at least one assistant message",
            found=rows,
            remedy="leave out attempts without any turn",
        )
    sample_index = row.get("sample_index", 0)
    if not isinstance(sample_index, int):
        raise refusal(where, "sample_index", expected="a whole number", found=sample_index, remedy="or leave it out")
    return Trajectory(
        reference_id=text_field(row, "reference_id", where, remedy="name the reference of its prompt"),
        sample_index=sample_index,
        turns=tuple(turns),
        stop_reason=_stop_reason(row, where),
    )


def _ids(item: Row, field: str) -> tuple[int, ...]:
    return tuple(item.get(field) or ())


def _completion(item: Row) -> Completion:
    return Completion(
        token_ids=_ids(item, "token_ids"),
        logprobs=tuple(item.get("logprobs") or ()),
        finish_reason="length" if item.get("finish_reason") == "length" else "stop",
        policy_version=item.get("policy_version") or 0,
    )


def _with_result(turn: Turn, message: Message, item: Row, where: str, index: int) -> Turn:
    calls, results = turn.message.tool_calls, turn.tool_results
    if len(results) == len(calls):
        raise refusal(
            where,
            f"messages[{index}]",
            expected=f"at most {len(calls)} tool messages after an assistant message with so many calls",
            found=item,
            remedy="a tool message answers one call",
        )
    status = item.get("status", ToolStatus.OK.value)
    if status not in {s.value for s in ToolStatus}:
        raise refusal(
            where,
            f"messages[{index}].status",
            expected=f"one of {', '.join(s.value for s in ToolStatus)}",
            found=status,
            remedy="or leave it out",
        )
    result = ToolResult(
        call_id=message.tool_call_id or calls[len(results)].call_id,
        content=message.content,
        status=ToolStatus(status),
        duration_s=item.get("duration_s") or 0.0,
        output_chars=item.get("output_chars", len(message.content)),
    )
    order = {call.call_id: place for place, call in enumerate(calls)}
    both = sorted((*results, result), key=lambda r: order.get(r.call_id, len(order)))
    return Turn(prompt_ids=turn.prompt_ids, completion=turn.completion, message=turn.message, tool_results=tuple(both))


def _stop_reason(row: Row, where: str) -> StopReason:
    finished, stated = row.get("finished", MISSING), row.get("stop_reason")
    if stated is None:
        if not isinstance(finished, bool):
            raise refusal(
                where,
                "finished",
                expected="true or false",
                found=finished,
                remedy="say whether the student ended by itself",
            )
        return StopReason.ANSWERED if finished else StopReason.MAX_COMPLETION_TOKENS
    if stated not in {reason.value for reason in StopReason}:
        raise refusal(
            where,
            "stop_reason",
            expected=f"one of {', '.join(reason.value for reason in StopReason)}",
            found=stated,
            remedy="or leave it out and write 'finished'",
        )
    reason = StopReason(stated)
    if isinstance(finished, bool) and finished is not (reason is StopReason.ANSWERED):
        raise refusal(
            where,
            "stop_reason",
            expected=f"one that fits finished={finished}",
            found=stated,
            remedy="correct one of the two",
        )
    return reason
