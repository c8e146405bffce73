"""A comparison of a tiny student, one arm and its start: `python -m tests.integration.evidence_tiny FOLDER`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.evidence.campaign import Campaign
from benchmarks.evidence.plan import Arm, Plan
from mentor_pl.embedded import resolve
from mentor_pl.files.references import read_references
from mentor_pl.reference import Reference
from mentor_pl.rewards.correct import Correct

FILES = {
    "train": ("embedded:train.parallel.jsonl", 16),
    "id": ("embedded:eval/id.jsonl", 4),
    "long": ("embedded:eval/long.jsonl", 4),
}


def references() -> Mapping[str, Sequence[Reference]]:
    return {name: read_references(resolve(file))[:count] for name, (file, count) in FILES.items()}


PLAN = Plan(
    name="tiny",
    references=references,
    warm_start=(),
    start="embedded:student",
    arms=[
        Arm(name="mentor", title="MENTOR", configs=[Path("mentor")]),
    ],
    seeds=1,
    evaluation=[Path("mentor")],
    in_domain=("id",),
    out_of_domain=("long",),
    judge=Correct,
    arguments=(
        "--data.prompts_per_round=2",
        "--trainer.accelerator=cpu",
        "--trainer.max_epochs=-1",
        "--trainer.max_steps=6",
        "--trainer.check_val_every_n_epoch=1",
        "--trainer.limit_val_batches=0",
        "--trainer.enable_progress_bar=false",
        "--summary.enabled=false",
        "--export.enabled=false",
        "--checkpoint.save_top_k=0",
        "--checkpoint.last_every_s=0",
    ),
)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    campaign = Campaign(plan=PLAN, runs=folder / "runs", results=folder / "results")
    campaign.run()
    campaign.report()
