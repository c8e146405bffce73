"""Real runs, as small as they come: the embedded student on a few prompts, with real tools, for a few steps."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

from mentor_pl.embedded import resolve
from mentor_pl.engines.hf_generate import HFGenerateEngine
from mentor_pl.losses.grpo import GRPOLoss
from mentor_pl.rewards.correct import Correct
from mentor_pl.rewards.program import RewardProgram, RewardTerm
from mentor_pl.rewards.tool_match import ToolMatch
from mentor_pl.rollout.limits import RolloutLimits
from mentor_pl.students.full import FullStudent
from mentor_pl.tools.functions import PythonFunctions
from mentor_pl.training.batching import PolicyBatch
from mentor_pl.training.checkpoint_io import AtomicCheckpointIO
from mentor_pl.training.datamodule import MentorDataModule
from mentor_pl.training.module import MentorModule
from mentor_pl.training.rounds import RoundPlan


def some_references(path: Path, count: int, source: str = "embedded:train.stepwise.jsonl") -> str:
    """Write the first references of an embedded file to a file of its own."""
    with open(resolve(source), encoding="utf-8") as lines:
        path.write_text("".join(next(lines) for _ in range(count)), encoding="utf-8")
    return str(path)


def make_module(**options: Any) -> MentorModule:
    settings: dict[str, Any] = {
        "student": FullStudent("embedded:student"),
        "engine": HFGenerateEngine(),
        "loss": GRPOLoss(kl_weight=0.01),
        "optimizer": functools.partial(torch.optim.AdamW, lr=1e-3),
    }
    return MentorModule(**settings | options)


def make_data(references: str | None, *, round: Mapping[str, Any] | None = None, **options: Any) -> MentorDataModule:
    """A data module whose rounds are as small as they come; `round` says what else holds of them."""
    settings: dict[str, Any] = {
        "references": references,
        "tools": [PythonFunctions("mentor_pl.tools.arithmetic", workers=1)],
        "reward": RewardProgram(
            terms=[
                RewardTerm(name="correct", component=Correct(judge="exact"), weight=0.7),
                RewardTerm(name="tool_match", component=ToolMatch(), weight=0.3),
            ]
        ),
        "round": RoundPlan(**{"prompts_per_round": 2, "group_size": 4, **(round or {})}),
        # Runs are compared to the last bit, which a tool that is late on a busy machine would change.
        "limits": RolloutLimits(max_turns=3, max_completion_tokens=60, park_after_s=60.0),
    }
    return MentorDataModule(**settings | options)


def make_trainer(folder: Path, *callbacks: Callback, **options: Any) -> Trainer:
    settings: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 1,
        "default_root_dir": folder,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "limit_val_batches": 0,
        "log_every_n_steps": 1,
        "use_distributed_sampler": False,
        "plugins": [AtomicCheckpointIO()],
        "callbacks": list(callbacks),
    }
    return Trainer(**settings | options)


class Diary(Callback):
    """Notes what happened: the logged loss of each step, and the trajectories of each round."""

    def __init__(self) -> None:
        self.loss_of_step: dict[int, float] = {}
        self.rounds: list[list[tuple[str, tuple[int, ...]]]] = []
        self.micro_batches = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: PolicyBatch, batch_idx: int
    ) -> None:
        self.micro_batches += 1
        if batch.scored_groups:
            self.rounds.append(
                [
                    (t.reference_id, tuple(i for turn in t.turns for i in turn.completion.token_ids))
                    for group in batch.scored_groups
                    for t in group.group.trajectories
                ]
            )
        if "train/loss" in trainer.callback_metrics:
            self.loss_of_step[trainer.global_step] = float(trainer.callback_metrics["train/loss"])

    @property
    def losses(self) -> list[float]:
        return list(self.loss_of_step.values())


def weights(module: MentorModule) -> dict[str, torch.Tensor]:
    assert module.student is not None
    return {name: value.clone() for name, value in module.student.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
