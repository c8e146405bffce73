"""Measures one run of the ladder from within: learning curve, processor time, sampled tokens, and every split at the end."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from mentor_pl.evaluation.split import SplitMetrics
from mentor_pl.rewards.correct import Correct
from mentor_pl.training.datamodule import MentorDataModule
from mentor_pl.training.evaluation_stream import EvaluationStream


class LadderProbe(Callback):
    """Writes `ladder.json` to the run's folder. The judge is `Correct` for every arm, whatever its reward.

    Args:
        every_n_steps: Updates between two points of the learning curve, which is the accuracy in domain.
        in_domain: The split of the curve.
        before: Whether the splits are tried before training, too.
        all_splits: Whether all splits are tried before and after training, or only that of the curve.
    """

    def __init__(
        self, every_n_steps: int = 8, in_domain: str = "id", before: bool = False, all_splits: bool = True
    ) -> None:
        self.every_n_steps = every_n_steps
        self.in_domain = in_domain
        self.before = before
        self.all_splits = all_splits
        self.measured: dict[str, Any] = {"curve": []}
        self._sampled_tokens = 0.0
        self._step = 0
        self._cpu_began = self._cpu_left_out = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Try the start, and set the clock."""
        if self.before:
            self.measured["before"] = self._tried(trainer)
        self._cpu_began = time.process_time()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the tokens of a round; try the split of the curve now and then, which is left out of the clock."""
        self._sampled_tokens += getattr(batch, "rollout_metrics", {}).get("engine/sampled_tokens", 0.0)
        if trainer.global_step == self._step or trainer.global_step % self.every_n_steps:
            return
        self._step = trainer.global_step
        used_s = time.process_time() - self._cpu_began - self._cpu_left_out
        began = time.process_time()
        (stream,) = (s for s in _splits(trainer) if s.split == self.in_domain)
        accuracy = attempt(stream)["accuracy"]
        self._cpu_left_out += time.process_time() - began
        self.measured["curve"].append([self._step, round(used_s, 1), int(self._sampled_tokens), accuracy])

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Try all splits, and write what was measured."""
        self.measured |= {
            "updates": trainer.global_step,
            "cpu_s": round(time.process_time() - self._cpu_began - self._cpu_left_out, 1),
            "sampled_tokens": int(self._sampled_tokens),
            "after": self._tried(trainer),
        }
        (Path(trainer.default_root_dir) / "ladder.json").write_text(json.dumps(self.measured) + "\n")

    def _tried(self, trainer: Trainer) -> dict[str, Any]:
        return {s.split: attempt(s) for s in _splits(trainer) if self.all_splits or s.split == self.in_domain}


def attempt(stream: EvaluationStream) -> dict[str, Any]:
    """Try a split; return its metrics, and of each problem whether it was solved ("1" or "0"), in order."""
    metrics, judge = SplitMetrics(stream.tool_names), Correct()
    solved: list[str] = []
    with torch.no_grad():
        for batch in stream:
            metrics.update(batch.groups)
            for group in batch.groups:
                solved += ["1" if judge.score(t, group.references) >= 0.5 else "0" for t in group.trajectories]
    values = {name: round(float(value), 4) for name, value in metrics.compute().items()}
    return {**values, "solved": "".join(solved)}


def _splits(trainer: Trainer) -> Iterable[EvaluationStream]:
    return cast(MentorDataModule, trainer.datamodule).val_dataloader()  # type: ignore[attr-defined]
