"""The student before and after training, beside its teacher."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mentor_pl.evaluation.columns import columns, shown
from mentor_pl.evaluation.teacher import teacher_groups
from mentor_pl.training.datamodule import MentorDataModule
from mentor_pl.training.module import MentorModule
from mentor_pl.training.resume import validate_now

_log = logging.getLogger(__name__)

Scores = dict[str, dict[str, float]]
"""Metric values by split and name."""


class RunSummary(Callback):
    """Evaluates every split before and after training, prints a table, and writes `summary.json` to the run's folder.

    Args:
        enabled: Whether to do so; the evaluation takes its time.
    """

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled
        self.before: Scores = {}
        self._evaluated_step = -1
        self._evaluated: Scores = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate the starting student; a resumed run knows the result from its checkpoint."""
        if self.enabled and not self.before:
            self.before = _evaluate(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note which weights were evaluated, and the result."""
        self._evaluated_step = trainer.global_step
        self._evaluated = _scores(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate the trained student, and report."""
        if not self.enabled:
            return
        # As a rule the last epoch's validation has just evaluated these weights.
        after = self._evaluated if self._evaluated_step == trainer.global_step else _evaluate(trainer)
        if not trainer.is_global_zero or not after:
            return
        summary = {"before": self.before, "after": after, "teacher": _teacher(trainer)}
        folder = Path(trainer.default_root_dir)
        terms = _success_terms(trainer)
        written = {**summary, "steps": trainer.global_step, "success_terms": terms}
        (folder / "summary.json").write_text(json.dumps(written, indent=2) + "\n")
        console = Console()
        if not console.is_terminal:  # a log file is not 80 columns wide
            console = Console(width=120)
        try:
            console.print(summary_table(summary, width=console.width, success_terms=terms))
        except Exception as failure:  # the terminal's encoding, a closed pipe: never worth the student, exported next
            _log.warning("the summary cannot be printed: %s; it is in %s", failure, folder / "summary.json")

    def state_dict(self) -> dict[str, Any]:
        """Saved with every checkpoint."""
        return {"before": self.before, "evaluated": self._evaluated, "evaluated_step": self._evaluated_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what was measured, so that a run stopped behind its last evaluation does not log it twice."""
        self.before = state_dict["before"]
        self._evaluated = state_dict.get("evaluated", {})
        self._evaluated_step = state_dict.get("evaluated_step", -1)


def summary_table(
    summary: Mapping[str, Scores], *, width: int = 120, success_terms: Mapping[str, str] | None = None
) -> Table:
    """Lay `{"before", "after", "teacher"}` out as a table.

    Args:
        summary: Metrics by split, of each.
        width: Characters of a line. A row per split where its metrics have room, else a row per
            metric.
        success_terms: By split, the term of its reward that the success is taken from.
    """
    titles = columns(summary["after"], success_terms=success_terms)
    headers = {name: title.replace("_", " ") for name, title in titles.items()}  # a header is broken at spaces only
    room = max(map(len, summary["after"]), default=0) + sum(_narrowest(title) + 3 for title in headers.values()) + 4
    return _by_split(summary, headers) if room <= width else _by_metric(summary, titles)


def _narrowest(title: str) -> int:
    """Return the width at which a column can still be read: no word of its title is cut, nor a value with its arrow."""
    return max(len("0.00 →"), *map(len, title.split()))


def _by_split(summary: Mapping[str, Scores], titles: Mapping[str, str]) -> Table:
    table = Table(title="The student before → after training (teacher)", title_justify="left")
    table.add_column("split", style="bold")
    for title in titles.values():
        table.add_column(escape(title), justify="right")
    for split in summary["after"]:
        measured = [_values(summary, split, name) for name in titles]
        table.add_row(
            escape(split), *(f"{before} → [bold]{after}[/] ({teacher})" for before, after, teacher in measured)
        )
    return table


def _by_metric(summary: Mapping[str, Scores], titles: Mapping[str, str]) -> Table:
    table = Table(title="The student before and after training, and its teacher", title_justify="left")
    table.add_column("split", style="bold")
    table.add_column("metric")
    for title in ("before", "after", "teacher"):
        table.add_column(title, justify="right")
    for split, measured in summary["after"].items():
        for place, name in enumerate(name for name in titles if name in measured):
            before, after, teacher = _values(summary, split, name)
            table.add_row("" if place else escape(split), escape(titles[name]), before, f"[bold]{after}[/]", teacher)
        table.add_section()
    return table


def _values(summary: Mapping[str, Scores], split: str, name: str) -> list[str]:
    return [shown(summary[who].get(split, {}), name) for who in ("before", "after", "teacher")]


def _data(trainer: Trainer) -> MentorDataModule:
    return cast(MentorDataModule, trainer.datamodule)  # type: ignore[attr-defined]


def _evaluate(trainer: Trainer) -> Scores:
    validate_now(trainer)
    return _scores(trainer)


def _scores(trainer: Trainer) -> Scores:
    evaluation = cast(MentorModule, trainer.lightning_module).evaluation
    return {split: {name: round(value, 6) for name, value in row.items()} for split, row in evaluation.items()}


def _success_terms(trainer: Trainer) -> dict[str, str]:
    terms = {stream.split: stream.new_metrics().success_term for stream in _data(trainer).val_dataloader()}
    return {split: term for split, term in terms.items() if term is not None}


def _teacher(trainer: Trainer) -> Scores:
    data = _data(trainer)
    scores: Scores = {}
    for stream in data.val_dataloader():
        groups = teacher_groups(stream.prompts, stream.toolbox)
        if groups:
            metrics = stream.teacher_metrics()
            metrics.update(groups)
            scores[stream.split] = {name: round(float(value), 6) for name, value in metrics.compute().items()}
    return scores
