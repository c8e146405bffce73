"""The page itself: what to chart, and how trajectories are shown beside their teacher's solutions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from mentor_pl.environments.settings import training_settings
from mentor_pl.evaluation.columns import columns, shown
from mentor_pl.files import trajectory_from_row
from mentor_pl.messages import Message
from mentor_pl.reference import Reference
from mentor_pl.reporting.charts import Chart, line_chart, smooth
from mentor_pl.reporting.run import Row, Run

_CHARTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Reward", ("train/reward",)),
    ("Reward terms", ("train/score/",)),
    ("Tool calls and turns per attempt", ("train/tool_calls", "train/turns")),
    ("Share of calls that succeed, groups that teach nothing", ("train/tool_ok", "train/uniform_groups")),
    ("Sampled tokens per attempt", ("train/completion_tokens",)),
    ("Entropy", ("train/entropy",)),
    ("KL to the start", ("train/kl",)),
    ("Loss", ("train/loss",)),
    ("How attempts end", ("train/stop/",)),
    ("Seconds per round", ("train/time/",)),
)
"""Charts of training by title; of each the metrics: a name, or a prefix ending in `/`."""

_NUM_REWARD_CHARTS = 2
"""After so many charts of training come those of the evaluation splits."""


def render_report(run: Run) -> str:
    """Return a run as one self-contained HTML page; all text in it is escaped."""
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((files("mentor_pl.reporting") / "report.html.jinja").read_text("utf-8"))
    return template.render(
        name=run.folder.name,
        facts=_facts(run),
        metrics=columns(run.summary.get("after", {}), success_terms=run.summary.get("success_terms")),
        cell=lambda who, split, metric: shown(run.summary.get(who, {}).get(split, {}), metric),
        splits=list(run.summary.get("after", {})),
        summary=run.summary,
        charts=_charts(run),
        data=Markup(_script_json({"groups": _groups(run)})),
        shown=len(run.trajectories),
    )


def _facts(run: Run) -> list[tuple[str, str]]:
    model, data = run.config.get("model", {}), run.config.get("data", {})
    student = model.get("student", {})
    loss = model.get("loss", {})
    environments = training_settings(data)
    terms = dict.fromkeys(term for one in environments for term in one.terms)
    return [
        ("student", f"{_class(student)}({student.get('init_args', {}).get('path', '')})"),
        ("loss", _class(loss)),
        ("reward terms", ", ".join(terms) or "none"),
        ("references", ", ".join(one.source for one in environments)),
        ("seed", str(run.config.get("seed_everything", ""))),
        ("folder", str(run.folder)),
    ]


def _class(setting: Any) -> str:
    return str(setting.get("class_path", "") if isinstance(setting, dict) else setting).rpartition(".")[2]


def _charts(run: Run) -> list[Chart]:
    charts: list[Chart | None] = []
    for title, patterns in _CHARTS:
        lines = {
            name.rpartition("/")[2]: smooth(points, max(1, len(points) // 20))
            for name, points in run.curves.items()
            if any(name.startswith(pattern) if pattern.endswith("/") else name == pattern for pattern in patterns)
        }
        if title == "How attempts end":
            lines = {name: points for name, points in lines.items() if any(value for _, value in points)}
        charts.append(line_chart(title, lines))
    charts[_NUM_REWARD_CHARTS:_NUM_REWARD_CHARTS] = _split_charts(run)
    return [chart for chart in charts if chart is not None]


def _split_charts(run: Run) -> list[Chart | None]:
    """Chart each metric of the evaluation splits that a table would show."""
    splits: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for name, points in run.curves.items():
        if name.startswith("val/"):
            _, split, metric = name.split("/", 2)
            splits.setdefault(split, {})[metric] = points
    last = {split: {metric: points[-1][1] for metric, points in c.items()} for split, c in splits.items()}
    titles = columns(last, success_terms=run.summary.get("success_terms"))
    return [
        line_chart(
            f"{title[0].upper()}{title[1:]} by split",
            {split: curves[metric] for split, curves in splits.items() if metric in curves},
        )
        for metric, title in titles.items()
    ]


def _groups(run: Run) -> list[Row]:
    """Attempts by step and prompt, each as the page's script shows it."""
    groups: dict[tuple[int, str], Row] = {}
    for row in run.trajectories:
        reference = run.references.get(row["reference_id"])
        key = (row.get("step", 0), row["reference_id"])
        group = groups.setdefault(
            key,
            {
                "step": key[0],
                "id": key[1],
                "prompt": _texts(reference.prompt) if reference else [],
                "answer": reference.answer if reference else "",
                "teacher": [_shown(m, reference, {}) for m in reference.messages] if reference else [],
                "attempts": [],
            },
        )
        trajectory = trajectory_from_row(row, f"{run.folder}: trajectory of {row['reference_id']!r}")
        status = {result.call_id: result.status.value for result in trajectory.tool_results}
        group["attempts"].append(
            {
                "reward": row.get("reward"),
                "scores": row.get("scores", {}),
                "stop": trajectory.stop_reason.value,
                "messages": [_shown(m, reference, status) for m in trajectory.messages()],
            }
        )
    return list(groups.values())


def _texts(messages: Sequence[Message]) -> list[Row]:
    return [{"role": message.role, "text": message.content} for message in messages]


def _shown(message: Message, reference: Reference | None, status: dict[str, str]) -> Row:
    """A message; of each call whether it worked, and whether the teacher used, or could have used, its tool."""
    offered = {tool.name for tool in reference.tools} if reference else set()
    teacher = {call.name for call in reference.tool_calls} if reference else set()
    calls = [
        {
            "name": call.name or "?",
            "arguments": call.parse_error or json.dumps(dict(call.arguments), ensure_ascii=False),
            "status": status.get(call.call_id, ""),
            "kind": "teacher" if call.name in teacher else "offered" if call.name in offered else "unknown",
        }
        for call in message.tool_calls
    ]
    return {"role": message.role, "text": message.content, "calls": calls}


def _script_json(value: Any) -> str:
    """JSON that cannot end the script element that it stands in."""
    text = json.dumps(value, ensure_ascii=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
