"""Trains every arm with every seed, seed by seed, and writes what has ended: `python -m benchmarks.evidence`.

It goes on where it was, after any kill. `docs/evidence.md` says what is compared. `--report` only writes the tables of
what has ended, and says what is missing; `--arms sparse mentor_exact --seeds 1` is a part of it.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/evidence"), help="the folder of the runs")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/evidence"))
    parser.add_argument("--plan", default="bfcl", choices=["bfcl", "bfcl_long", "gsm8k"])
    parser.add_argument("--source", type=Path, help="for gsm8k: the folder of its published train.jsonl and test.jsonl")
    parser.add_argument("--arms", nargs="+", help="only these, besides what they start from")
    parser.add_argument("--seeds", type=int, help="only the first so many")
    parser.add_argument("--jobs", type=int, default=1, help="arms trained at a time")
    parser.add_argument("--accelerator", default="cpu", help="of Lightning's trainer")
    parser.add_argument("--report", action="store_true", help="train nothing")
    arguments = parser.parse_args()

    from benchmarks.evidence.campaign import Campaign  # loads torch
    from benchmarks.evidence.function_calling import FUNCTION_CALLING
    from benchmarks.evidence.word_problems import word_problems

    plan = FUNCTION_CALLING.get(arguments.plan) or word_problems(arguments.source)
    campaign = Campaign(
        plan=replace(plan, arguments=[*plan.arguments, f"--trainer.accelerator={arguments.accelerator}"]),
        runs=arguments.runs.absolute(),
        results=arguments.results,
        only=arguments.arms,
        seeds=arguments.seeds,
        jobs=arguments.jobs,
    )
    if not arguments.report:
        campaign.run()
    campaign.report()
