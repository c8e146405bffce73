"""Small runs of the embedded task, split over processes and micro-batches in different ways."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import torch
import yaml

from mentor_pl.training.checkpoint_io import AtomicCheckpointIO

ROOT = Path(__file__).parents[3]
CONFIGS = ROOT / "configs"

SMALL = {
    "model": {
        "loss": {"init_args": {"kl_weight": 0.1}},  # so that the reference policy counts
        # With Adam's own eps, rounding decides the sign of the step of every weight whose gradient is about zero.
        "optimizer": {"init_args": {"lr": 0.01, "eps": 0.01}},
    },
    "data": {
        "round": {"prompts_per_round": 4, "group_size": 4},
        "evaluation_sampling": {"samples": 2, "temperature": 1.0, "max_problems": 3},
        # Runs are compared to the last bit, which a tool that is late on a busy machine would change.
        "limits": {"max_turns": 4, "max_tool_calls": 3, "max_completion_tokens": 60, "park_after_s": 60.0},
    },
    "trainer": {
        "accelerator": "cpu",
        "max_epochs": 1,
        "max_steps": 3,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    },
    "checkpoint": {"every_n_train_steps": 1, "save_top_k": -1},
    "summary": {"enabled": False},
    "export": {"enabled": False},
    "recorder": {"every_n_rounds": 0},
}

DDP = ("--config", str(CONFIGS / "strategy/ddp.yaml"))
FSDP = ("--config", str(CONFIGS / "strategy/fsdp.yaml"))
FSDP_ONE_FILE = (*FSDP, "--trainer.strategy.init_args.save_distributed_checkpoint", "false")
FSDP1 = ("--config", str(CONFIGS / "strategy/fsdp1.yaml"))
FSDP1_ONE_FILE = (*FSDP1, "--trainer.strategy.init_args.save_distributed_checkpoint", "false")
LORA = ("--config", str(CONFIGS / "student/lora.yaml"), "--model.student.init_args.rank", "4")


def accumulate(batches: int) -> tuple[str, ...]:
    return ("--trainer.accumulate_grad_batches", str(batches))


class Runs:
    """A folder of runs, each with a name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.small = folder / "small.yaml"
        self.small.write_text(yaml.safe_dump(SMALL))

    def command(self, name: str, *overlays: str) -> list[str]:
        base = ["fit", "--config", str(CONFIGS / "mentor.yaml"), "--config", str(self.small)]
        return [*base, *overlays, "--run_dir", str(self.folder / name)]

    def train(self, commands: dict[str, tuple[str, ...]]) -> None:
        """Run commands by name, in one process or, where their strategies say so, in two."""
        file = self.folder / "commands.json"
        file.write_text(json.dumps([self.command(name, *overlays) for name, overlays in commands.items()]))
        done = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("commands.py")), str(file)],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=1500,  # seconds of one quiet core: about 40
        )
        assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}{done.stderr}"

    def checkpoint(self, name: str, step: int) -> Path:
        return self.folder / name / "checkpoints" / f"step={step}.ckpt"

    def weights(self, name: str, step: int) -> dict[str, torch.Tensor]:
        """Return the trained weights after a step, by name."""
        return AtomicCheckpointIO().load_checkpoint(self.checkpoint(name, step))["state_dict"]

    def log(self, name: str) -> list[dict[str, float]]:
        """Return what was logged of every update, but for times and what an engine computed, which depends on the ranks."""
        with open(self.folder / name / "metrics.csv") as file:
            return [
                {
                    key: float(value)
                    for key, value in row.items()
                    if value and "time/" not in key and "engine/" not in key
                }
                for row in csv.DictReader(file)
                if row["train/reward"]  # the others are evaluations, which not every run has
            ]


def environment() -> dict[str, str]:
    # Of a launcher's variables, none may reach a run that launches its own ranks.
    launchers = ("LOCAL_RANK", "RANK", "WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "MENTOR_PL_RUN_DIR")
    kept = {name: value for name, value in os.environ.items() if name not in launchers}
    return {**kept, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
