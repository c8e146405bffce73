"""SmolLM2-135M on the Berkeley Function-Calling Leaderboard; `docs/evidence.md` says why so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.evidence.data import Share, Splits, write_splits
from benchmarks.evidence.plan import CONFIGS, Arm, Plan
from mentor_pl.rewards.base import RewardComponent

SPLITS = Splits(
    max_prompt_tokens=480,
    max_solution_tokens=128,
    in_domain={
        "simple_python": Share(warm_start=24, train=160, held_out=16),
        "multiple": Share(warm_start=8, train=48, held_out=12),
        "parallel_multiple": Share(warm_start=4, train=14, held_out=8),
        "irrelevance": Share(warm_start=12, train=80, held_out=16),
    },
    out_of_domain={
        "parallel": Share(held_out=8),
        "live_simple": Share(held_out=12),
        "live_multiple": Share(held_out=8),
        "live_irrelevance": Share(held_out=12),
    },
)

_RL = CONFIGS / "rl.yaml"


def _write_data(folder: Path) -> Mapping[str, Sequence[str]]:
    from mentor_pl_smollm2 import SmolLM2Student

    return write_splits(folder, SPLITS, SmolLM2Student().load_tokenizer())


def _judge() -> RewardComponent:
    from mentor_pl_bfcl.reward import BFCLCorrect

    return BFCLCorrect()


FUNCTION_CALLING = Plan(
    name="bfcl",
    write_data=_write_data,
    warm_start=[CONFIGS / "warm_start.yaml"],
    arms=[
        Arm(name="sft", title="SFT", configs=[CONFIGS / "sft.yaml"]),
        Arm(name="sparse", title="sparse RL", configs=[_RL, CONFIGS / "sparse.yaml"]),
        Arm(name="mentor_exact", title="MENTOR, exact", configs=[_RL, CONFIGS / "mentor_exact.yaml"]),
        Arm(name="mentor_flexible", title="MENTOR, flexible", configs=[_RL, CONFIGS / "mentor_flexible.yaml"]),
        Arm(name="strict", title="strict RL", configs=[_RL, CONFIGS / "strict.yaml"]),
        Arm(name="guided", title="MENTOR, guided", configs=[_RL, CONFIGS / "guided.yaml"]),
    ],
    seeds=3,
    evaluation=_RL,
    in_domain=tuple(SPLITS.in_domain),
    out_of_domain=tuple(SPLITS.out_of_domain),
    judge=_judge,
)
