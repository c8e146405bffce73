"""The model card of an exported student, made from the facts of its run and nothing else."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from mentor_pl.environments.settings import evaluation_settings, training_settings
from mentor_pl.errors import MentorError
from mentor_pl.evaluation.columns import columns

_log = logging.getLogger(__name__)

_DISTRIBUTIONS = ("mentor-pl", "torch", "lightning", "transformers", "peft")
_FULL, _ADAPTER = (
    """from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("this folder")
tokenizer = AutoTokenizer.from_pretrained("this folder")
""",
    """from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

model = AutoPeftModelForCausalLM.from_pretrained("this folder")
tokenizer = AutoTokenizer.from_pretrained("this folder")
""",
)


def model_card(run_dir: Path, *, steps: int, adapter_only: bool = False) -> str:
    """Return the text of a card (README.md) for the student of a run.

    Args:
        run_dir: Holds the run's `config.yaml`, and its `summary.json` where it was evaluated.
        steps: Optimiser steps behind the weights.
        adapter_only: The folder holds an adapter without its base.
    """
    try:
        config: dict[str, Any] = yaml.safe_load((run_dir / "config.yaml").read_text(encoding="utf-8"))
        summary_file = run_dir / "summary.json"
        summary = json.loads(summary_file.read_text(encoding="utf-8")) if summary_file.exists() else {}
        head, facts = _front_matter(config, adapter_only), list(_facts(config, steps))
        results = list(_results(summary, steps))
    except (LookupError, TypeError, AttributeError, ValueError, yaml.YAMLError, MentorError) as failure:
        _log.warning(
            "the model card tells no settings and results: %s is not as this version writes it (%s: %s)",
            *(run_dir, type(failure).__name__, failure),
        )
        head, facts, results = _front_matter({}, adapter_only), [("weight updates", str(steps))], []
    return "\n".join(
        [
            *head,
            f"# {run_dir.resolve().name}",
            "",
            "A student of `mentor-pl` (the method: [MENTOR, arXiv:2510.18383](https://arxiv.org/abs/2510.18383)).",
            "",
            "| | |",
            "|---|---|",
            *(f"| {name} | {value} |" for name, value in facts),
            "",
            *results,
            "## Load it",
            "",
            "```python",
            _ADAPTER if adapter_only else _FULL,
            "```",
            "",
        ]
    )


def _front_matter(config: Mapping[str, Any], adapter_only: bool) -> list[str]:
    base = _arguments(config["model"]["student"]).get("path", "") if config else ""
    lines = [f"library_name: {'peft' if adapter_only else 'transformers'}", "pipeline_tag: text-generation"]
    if base.count("/") == 1 and not Path(base).exists():  # a hub id; a place on this machine means nothing elsewhere
        lines.append(f"base_model: {base}")
    return ["---", *lines, "tags: [mentor-pl, tool-use]", "---", ""]


def _facts(config: Mapping[str, Any], steps: int) -> Iterator[tuple[str, str]]:
    model, data, trainer = config["model"], config["data"], config["trainer"]
    yield "base", f"`{_arguments(model['student']).get('path', '?')}`"
    yield "trained", _described(model["student"], without=("path",))
    yield "loss", _described(model["loss"])
    environments = training_settings(data)
    several = len(environments) > 1
    if data["train_on"] == "rollouts":
        for one in environments:
            yield f"reward of {one.name}" if several else "reward", _weights(one.terms)
        yield (
            "rollouts",
            f"{data['round']['prompts_per_round']} prompts x {data['round']['group_size']}, {_pairs(data['sampling'])}",
        )
    else:
        yield "imitated", f"{data['round']['prompts_per_round']} references a round"
    yield "optimiser", _described(model["optimizer"])
    yield "weight updates", str(steps)
    yield "precision", str(trainer.get("precision") or "32-true")
    yield (
        "references",
        ", ".join(f"`{one.source}`{f' (weight {one.weight:g})' if several else ''}" for one in environments),
    )
    splits = evaluation_settings(data)
    yield "evaluation", ", ".join(f"{split}: `{one.source}`" for split, one in splits.items()) or "none"
    yield "tools", ", ".join(dict.fromkeys(tool for one in environments for tool in one.tools)) or "none"
    yield "seed", str(config.get("seed_everything"))
    yield "versions", ", ".join(f"{name} {version(name)}" for name in _DISTRIBUTIONS)


def _weights(terms: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {weight:g}" for name, weight in terms.items()) or "of its class"


def _results(summary: Mapping[str, Any], steps: int) -> Iterator[str]:
    """Say what the run measured; `after` belongs to the weights that it ended with, and to no others."""
    if not summary:
        return
    yield "## Measured by the run"
    yield ""
    if summary.get("steps") == steps:
        yield "Before → after training (teacher)."
        who_is_shown = ("before", "after", "teacher")
    else:
        yield f"Before training (teacher). These weights, of update {steps}, were not evaluated."
        who_is_shown = ("before", "teacher")
    yield ""
    titles = columns(summary["after"], success_terms=summary.get("success_terms"))
    yield "| split | " + " | ".join(titles.values()) + " |"
    yield "|---" * (len(titles) + 1) + "|"
    for split in summary["after"]:
        cells: list[str] = []
        for metric in titles:
            values = [_shown(summary.get(who, {}).get(split, {}), metric) for who in who_is_shown]
            cells.append(f"{' → '.join(values[:-1])} ({values[-1]})")
        yield f"| {split} | " + " | ".join(cells) + " |"
    yield ""


def _shown(row: Mapping[str, float], metric: str) -> str:
    if (value := row.get(metric)) is None:
        return "–"
    interval = row.get(f"{metric}/interval")
    return f"{value:.3f}" if interval is None else f"{value:.3f} ± {interval:.3f}"


def _arguments(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    return spec.get("init_args") or {}


def _described(spec: Mapping[str, Any], without: tuple[str, ...] = ()) -> str:
    """Write `{class_path, init_args}` as a call, leaving out what is null or switched off."""
    given = {name: value for name, value in _arguments(spec).items() if name not in without}
    shown = {name: value for name, value in given.items() if value is not None and value is not False}
    return f"{spec['class_path'].rpartition('.')[2]}({_pairs(shown)})"


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
