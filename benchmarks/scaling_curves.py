"""How a rollout's cost grows with group size, turns, response length and batch: the default engine and the plain one.

    python -m benchmarks.scaling_curves [--model tiny|FOLDER] [--dtype float32|bfloat16] [--repeats 1] [--output FILE.json]

One quantity is varied at a time around 4 prompts x 8 rows, up to 3 turns of about 25 tokens. Work, forcing and clock are those of
`rollout_engines`: CPU seconds at one thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from transformers import PreTrainedModel

from benchmarks.rollout_engines import Script, load_model, make_workload, roll_out
from mentor_pl.engines import hf_generate
from mentor_pl.engines.base import RolloutEngine
from mentor_pl.engines.cascade import session as cascade_session
from mentor_pl.engines.cascade.engine import CascadeEngine
from mentor_pl.engines.hf_generate import HFGenerateEngine

CENTRE = {"prompts": 4, "group": 8, "turns": 3, "turn_tokens": 25}
FIXED = {"header_tokens": 110, "question_tokens": 25, "tool_tokens": 20}
CURVES: dict[str, tuple[int, ...]] = {
    "group": (1, 2, 4, 8, 16, 32),
    "turns": (1, 2, 3, 4, 5),
    "turn_tokens": (12, 25, 50, 100),
    "prompts": (1, 2, 4, 8),
}


def measure(
    model: PreTrainedModel, engines: dict[str, RolloutEngine], size: dict[str, int], repeats: int
) -> dict[str, Any]:
    """Roll one size of work out by every engine."""
    work = make_workload(argparse.Namespace(**FIXED, **size), model.config.vocab_size)
    script = Script(work)
    forced = {"uniforms": script.uniforms, "sample_tokens": script.sample_tokens}
    point: dict[str, Any] = dict(size) | {
        "sampled_tokens": sum(end - begin for row in work for begin, end in row.turns)
    }
    with mock.patch.multiple(hf_generate, **forced), mock.patch.multiple(cascade_session, **forced):
        for name, engine in engines.items():
            seconds: list[float] = []
            for _ in range(repeats):
                began = time.process_time()
                _, counts = roll_out(engine, work)
                seconds.append(time.process_time() - began)
            point[name] = {"cpu_s": statistics.median(seconds), "prefill_tokens": counts.prefill_tokens}
    return point


def main() -> None:
    """Measure every curve, print it and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny", help="tiny, or a Hugging Face model folder")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model(arguments.model, getattr(torch, arguments.dtype)).eval()
    engines: dict[str, RolloutEngine] = {"plain": HFGenerateEngine(), "cascade": CascadeEngine()}
    for engine in engines.values():
        engine.sync(model, 0)
    measure(model, engines, CENTRE | {"prompts": 1}, 1)  # warms up what is made at first use
    curves: dict[str, list[dict[str, Any]]] = {}
    for name, values in CURVES.items():
        print(f"{name:>12} {'tokens':>7} {'plain s':>8} {'ours s':>8} {'ratio':>6} {'prefilled':>15}")
        curves[name] = []
        for value in values:
            point = measure(model, engines, CENTRE | {name: value}, arguments.repeats)
            curves[name].append(point)
            plain, ours = point["plain"], point["cascade"]
            print(
                f"{value:12d} {point['sampled_tokens']:7d} {plain['cpu_s']:8.2f} {ours['cpu_s']:8.2f} "
                f"{plain['cpu_s'] / ours['cpu_s']:6.2f} {plain['prefill_tokens']:7d}/{ours['prefill_tokens']:<7d}",
                flush=True,
            )
    if arguments.output:
        options = {"model": arguments.model, "dtype": arguments.dtype, "repeats": arguments.repeats}
        arguments.output.write_text(
            json.dumps({"options": options, "centre": CENTRE, "curves": curves}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
