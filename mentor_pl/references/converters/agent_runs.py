"""What agents and trainers leave behind: runs of τ-bench and its like, and verl's parquet files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mentor_pl.files.fields import is_absent, refusal
from mentor_pl.files.jsonl import Row
from mentor_pl.files.references import reference_from_row
from mentor_pl.reference import Reference
from mentor_pl.references.converters.chat import convert_chat
from mentor_pl.references.converters.foreign_tools import json_values, tool_rows
from mentor_pl.references.converters.outcome import Rejected, convert_rows, row_id

_FULL_REWARD = 1.0 - 1e-6


def tau(path: Path) -> Iterator[Reference | Rejected]:
    """Convert runs of τ-bench: `traj` (or `messages`), `reward`, `info.task`; `tools` where the file has them.

    Runs of τ²-bench are read too: one object with all `simulations`, or one of these a row. Only
    runs with the full reward become references, one for each of the user's turns. What the task
    says (`instruction`, `actions`, `outputs`) goes through as the field `task`.
    """

    def convert(row: Row, where: str) -> Iterable[Reference | Rejected]:
        for number, run in enumerate(_simulations(row)):
            yield from convert_run(run, where if run is row else f"{where}, simulation {number}")

    def convert_run(row: Row, where: str) -> Iterable[Reference | Rejected]:
        reward = _reward(row)
        if reward is None:
            return [Rejected(where=where, reason="the run states no reward")]
        if reward < _FULL_REWARD:
            return [Rejected(where=where, reason="the run did not get the full reward")]
        info = row.get("info") if isinstance(row.get("info"), dict) else {}
        traj = next((row[key] for key in ("traj", "messages", "trajectory") if not is_absent(row.get(key))), None)
        tools = next((source["tools"] for source in (row, info or {}) if not is_absent(source.get("tools"))), None)
        new = {
            "messages": _seen_by_the_agent(traj),
            "tools": None if tools is None else tool_rows(tools, where),
            "teacher": row.get("model") if isinstance(row.get("model"), str) else "tau-bench",
            "task": (info or {}).get("task", row.get("task")),
            "answer": "",
        }
        own = row.get("task_id", row.get("id"))
        trial = row.get("trial")
        own_id = row_id({"id": own}, where, path)
        return convert_chat(new, where, own_id if is_absent(trial) else f"{own_id}-{trial}")

    return convert_rows(path, convert)


def _simulations(row: Row) -> list[Row]:
    """Return the runs of a file of τ²-bench, each with what the file says of its task, model and policy."""
    runs = row.get("simulations")
    if not isinstance(runs, list):
        return [row]
    listed = row.get("tasks")
    tasks = {str(t.get("id")): t for t in listed if isinstance(t, dict)} if isinstance(listed, list) else {}
    info = _object(row.get("info"))
    model, policy = _object(info.get("agent_info")).get("llm"), _object(info.get("environment_info")).get("policy")
    out: list[Row] = []
    for run in runs:
        run = run if isinstance(run, dict) else {}
        messages = run.get("messages")
        if isinstance(policy, str) and isinstance(messages, list):
            messages = [{"role": "system", "content": policy}, *messages]
        out.append({"model": model, "task": tasks.get(str(run.get("task_id"))), **run, "messages": messages})
    return out


def _reward(row: Row) -> float | None:
    """Return a run's reward, wherever it is stated."""
    for value in (row.get("reward"), row.get("reward_info"), _object(row.get("info")).get("reward_info")):
        value = value.get("reward") if isinstance(value, dict) else value
        if isinstance(value, (int, float)):
            return float(value)
    return None


def _seen_by_the_agent(messages: Any) -> Any:
    """Leave out the calls that τ²-bench's user makes, and their results: the agent sees neither."""
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        return messages
    of_users = [m for m in messages if m.get("role") == "user" and m.get("tool_calls")]
    kept = [m for m in messages if m.get("requestor") != "user" and (m not in of_users or m.get("content"))]
    return [{k: v for k, v in m.items() if k != "tool_calls"} if m in of_users else m for m in kept]


def verl(path: Path) -> Iterator[Reference | Rejected]:
    """Convert verl's files: `prompt`, `reward_model.ground_truth`, tools of the row, or `messages` and `tools`.

    The tools stand in `tools`, or in `extra_info` as `tools`, `tool_schemas`, `func_schemas` or, by
    name only, `tools_kwargs`. `extra_info` goes through as a field.
    """

    def convert(row: Row, where: str) -> Iterable[Reference | Rejected]:
        extra = _object(row.get("extra_info"))
        tools = _tools(row, extra, where)
        if not is_absent(row.get("messages")):
            return convert_chat({**row, "tools": tools}, where, row_id(row, where, path))
        answer = _object(row.get("reward_model")).get("ground_truth")
        if isinstance(answer, dict):
            answer = answer.get("target", answer.get("answer"))
        if is_absent(answer):
            raise refusal(where, "reward_model.ground_truth", expected="an answer", found=answer, remedy="write it")
        stated = extra.get("index")
        new = {
            "id": row_id({"id": stated}, where, path),
            "prompt": row.get("prompt", row.get("question")),
            "answer": answer,
            "tools": tools,
            "domain": row.get("data_source"),
            "extra_info": extra,
        }
        return [reference_from_row(new, where)]

    return convert_rows(path, convert)


def _object(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        value = next(iter(json_values(value)), None)
    return value if isinstance(value, dict) else {}


def _tools(row: Row, extra: dict[str, Any], where: str) -> list[Any]:
    for source in (row, extra):
        for name in ("tools", "tool_schemas", "func_schemas"):
            if not is_absent(source.get(name)):
                return tool_rows(source[name], where, name)
    named = extra.get("tools_kwargs")
    if isinstance(named, dict) and named:
        return list(named)
    raise refusal(where, "tools", expected="tools of the row", found=row.get("tools"), remedy="see --from verl")
