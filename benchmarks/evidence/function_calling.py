"""SmolLM2-135M on the Berkeley Function-Calling Leaderboard; `docs/evidence.md` says why so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.evidence.data import Share, Splits, draw_cases
from benchmarks.evidence.plan import CONFIGS, Arm, Plan
from mentor_pl.reference import Reference
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

LONG_SPLITS = Splits(
    max_prompt_tokens=SPLITS.max_prompt_tokens,
    max_solution_tokens=SPLITS.max_solution_tokens,
    in_domain={
        "simple_python": Share(warm_start=24, train=160, held_out=100),
        "multiple": Share(warm_start=8, train=48, held_out=19),
        "parallel_multiple": Share(warm_start=4, train=14, held_out=30),
        "irrelevance": Share(warm_start=12, train=80, held_out=100),
    },
    out_of_domain={
        "parallel": Share(held_out=100),
        "live_simple": Share(held_out=100),
        "live_multiple": Share(held_out=50),
        "live_irrelevance": Share(held_out=100),
    },
)
"""As many cases to train on, and more that are evaluated: 599 for 92."""

_RL = CONFIGS / "rl.yaml"
_LONG = CONFIGS / "long.yaml"


def _plan(
    name: str,
    splits: Splits,
    *,
    longer: Sequence[Path] = (),
    guided_longer: Sequence[Path] = (),
    arguments: Sequence[str] = (),
) -> Plan:
    def references() -> Mapping[str, Sequence[Reference]]:
        from mentor_pl_smollm2 import SmolLM2Student

        return draw_cases(splits, SmolLM2Student().load_tokenizer())

    def rl(arm: str, title: str, *further: Path) -> Arm:
        return Arm(name=arm, title=title, configs=[_RL, CONFIGS / f"{arm}.yaml", *longer, *further])

    return Plan(
        name=name,
        references=references,
        warm_start=[CONFIGS / "warm_start.yaml"],
        arms=[
            Arm(name="sft", title="SFT", configs=[CONFIGS / "sft.yaml", *longer]),
            rl("sparse", "sparse RL"),
            rl("mentor_exact", "MENTOR, exact"),
            rl("mentor_flexible", "MENTOR, flexible"),
            rl("strict", "strict RL"),
            rl("guided", "MENTOR, guided", *guided_longer),
        ],
        seeds=3,
        evaluation=[_RL],
        in_domain=tuple(splits.in_domain),
        out_of_domain=tuple(splits.out_of_domain),
        judge=_judge,
        arguments=arguments,
    )


def _judge() -> RewardComponent:
    from mentor_pl_bfcl.reward import BFCLCorrect

    return BFCLCorrect()


FUNCTION_CALLING = {
    plan.name: plan
    for plan in (
        _plan("bfcl", SPLITS),
        _plan(
            "bfcl_long",
            LONG_SPLITS,
            longer=[_LONG],
            guided_longer=[CONFIGS / "guided_long.yaml"],
            arguments=["--data.evaluation_sampling.batch_size=300"],
        ),
    )
}
