"""SmolLM2-135M on GSM8K with arithmetic tools; `docs/evidence.md` says why so."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks.evidence.plan import CONFIGS, Arm, Plan
from mentor_pl.chat.protocol import ChatProtocol
from mentor_pl.messages import ToolSpec
from mentor_pl.reference import Reference
from mentor_pl.references.converters.gsm8k import gsm8k
from mentor_pl.rewards.correct import Correct
from mentor_pl.tools.functions import PythonFunctions

TOOLS = ("add", "subtract", "multiply", "divide", "sum_numbers")
"""Those that the teacher uses. All twelve would double the prompt."""

_MAX_SOLUTION_TOKENS = 160
_TRAINED_CALLS = (1, 2)
_WARM_START, _TRAIN = 256, 320
_HELD_OUT = {"two": (1, 2), "three": (3,)}
"""Splits of the test file, by the number of the teacher's calls."""
_HELD_OUT_PROBLEMS = 48
_TASK = CONFIGS / "gsm8k" / "task.yaml"


def word_problems(source: Path | None) -> Plan:
    """Return the comparison.

    Args:
        source: Folder of the published `train.jsonl` and `test.jsonl`; needed once, to write the splits.
    """

    def rl(arm: str, title: str) -> Arm:
        return Arm(name=arm, title=title, configs=[CONFIGS / "rl.yaml", _TASK, CONFIGS / "gsm8k" / f"{arm}.yaml"])

    return Plan(
        name="gsm8k",
        references=partial(_draw_problems, source),
        warm_start=[CONFIGS / "warm_start.yaml", _TASK, CONFIGS / "gsm8k" / "warm_start.yaml"],
        arms=[
            Arm(name="sft", title="SFT", configs=[CONFIGS / "sft.yaml", _TASK]),
            rl("sparse", "sparse RL"),
            rl("mentor_exact", "MENTOR, exact"),
            rl("turn_level", "MENTOR, turn-level credit"),
            rl("strict", "strict RL"),
        ],
        seeds=3,
        evaluation=[CONFIGS / "rl.yaml", _TASK],
        in_domain=("two",),
        out_of_domain=("three",),
        judge=Correct,
    )


def _draw_problems(source: Path | None) -> Mapping[str, Sequence[Reference]]:
    if source is None:
        raise SystemExit(
            "--source names the folder of GSM8K's published train.jsonl and test.jsonl; the plan gsm8k needs it"
        )
    from mentor_pl_smollm2 import SmolLM2Student

    protocol = ChatProtocol(SmolLM2Student().load_tokenizer())
    train = _short_problems(source / "train.jsonl", protocol, _TRAINED_CALLS)
    files = {"warm_start": train[:_WARM_START], "train": train[_WARM_START : _WARM_START + _TRAIN]}
    for split, calls in _HELD_OUT.items():
        files[split] = _short_problems(source / "test.jsonl", protocol, calls)[:_HELD_OUT_PROBLEMS]
    return files


def _short_problems(file: Path, protocol: ChatProtocol, calls: Sequence[int]) -> list[Reference]:
    """Return those whose teacher makes so many calls of the offered tools, in an order that depends on the file's name only."""
    offered = PythonFunctions("mentor_pl.tools.arithmetic", functions=list(TOOLS)).specs
    converted = [one for one in gsm8k(file) if isinstance(one, Reference)]
    short = [
        replace(one, tools=tuple(ToolSpec(name=spec.name) for spec in offered))
        for one in converted
        if len(one.tool_calls) in calls
        and {call.name for call in one.tool_calls} <= {spec.name for spec in offered}
        and _solution_tokens(one, protocol) <= _MAX_SOLUTION_TOKENS
    ]
    random.Random(f"evidence/{file.name}").shuffle(short)
    return short


def _solution_tokens(reference: Reference, protocol: ChatProtocol) -> int:
    return sum(len(protocol.assistant_ids(one)) for one in reference.messages if one.role == "assistant")
