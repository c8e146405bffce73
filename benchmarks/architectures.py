"""Which architectures are students here, on which engine and in which layout, how exactly and how fast.

    python -m benchmarks.architectures [--families llama lfm2 ...] [--skip fit]

Tiny models of random weights with the embedded tokenizer. Each is rolled out over several turns, 32 rows of 4 prompts, by the fast
engine (where it serves it) and by `HFGenerateEngine`; both draw the same random numbers. Times are CPU seconds of this process at one
thread, which other jobs disturb least; taking over the weights is not counted. Then `mentor-pl fit` trains each for two updates.
Writes benchmarks/results/architectures/architectures.json and .md after every family.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase, __version__

from mentor_pl import embedded
from mentor_pl.engines.base import GenerationRequest, RolloutEngine, SamplingParams
from mentor_pl.engines.cascade.decoder import Decoder
from mentor_pl.engines.cascade.engine import CascadeEngine
from mentor_pl.engines.hf_generate import HFGenerateEngine
from mentor_pl.errors import EngineError
from mentor_pl.testing.tiny_models import FAMILIES, tiny_random_model
from mentor_pl.training.packed_attention import supports_packing

RESULTS = Path(__file__).parent / "results" / "architectures"
PROMPTS, GROUP, TURNS, HEADER_TOKENS, TOOL_TOKENS, BUDGET_TOKENS = 4, 8, 4, 512, 24, 24
STOP_EVERY = 16
"""One token id in so many ends a turn."""


def prompts(vocab_size: int) -> dict[int, list[int]]:
    """Return the prompt of each row: a common header and a question of 8 to 24 tokens."""
    chance = random.Random(0)
    header = [chance.randrange(vocab_size) for _ in range(HEADER_TOKENS)]
    questions = [[chance.randrange(vocab_size) for _ in range(8 + chance.randrange(17))] for _ in range(PROMPTS)]
    return {row: header + questions[row // GROUP] for row in range(PROMPTS * GROUP)}


def roll_out(
    engine: RolloutEngine, rows: dict[int, list[int]], sampling: SamplingParams, vocab_size: int
) -> tuple[dict[int, tuple[list[int], list[float | None]]], float]:
    """Return each row's tokens with their log-probabilities (None where given), and CPU seconds."""
    stops = tuple(range(0, vocab_size, STOP_EVERY))
    tokens = {row: list(prompt) for row, prompt in rows.items()}
    logprobs: dict[int, list[float | None]] = {row: [None] * len(prompt) for row, prompt in rows.items()}
    turns_left = dict.fromkeys(rows, TURNS)

    def request(row: int) -> GenerationRequest:
        return GenerationRequest(row=row, token_ids=tuple(tokens[row]), max_new_tokens=BUDGET_TOKENS, seed=row)

    began = time.process_time()
    with engine.session(sampling, stops) as session:
        session.submit([request(row) for row in rows])
        while done := session.poll():
            waiting: list[int] = []
            for row, completion in done:
                tokens[row] += completion.token_ids
                logprobs[row] += completion.logprobs
                turns_left[row] -= 1
                if turns_left[row]:
                    chance = random.Random(row * TURNS + turns_left[row])
                    tokens[row] += [chance.randrange(vocab_size) for _ in range(TOOL_TOKENS)]
                    logprobs[row] += [None] * TOOL_TOKENS
                    waiting.append(row)
                else:
                    session.release(row)
            session.submit([request(row) for row in waiting])
    return {row: (tokens[row], logprobs[row]) for row in rows}, time.process_time() - began


@torch.no_grad()
def largest_error(model: PreTrainedModel, conversations: dict[int, tuple[list[int], list[float | None]]]) -> float:
    """Return the largest difference between sampled log-probabilities and those of a forward of each conversation."""
    model.eval()
    worst = 0.0
    for tokens, logprobs in conversations.values():
        ids = torch.tensor([tokens])
        exact = model(input_ids=ids, use_cache=False).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
        pairs = zip(logprobs[1:], exact.tolist(), strict=True)
        worst = max(worst, *(abs(found - true) for found, true in pairs if found is not None))
    return worst


def measure(family: str, vocab_size: int) -> dict[str, Any]:
    """Roll out one family by both engines."""
    model = tiny_random_model(family, vocab_size=vocab_size)
    packs, why_padded = supports_packing(model)
    result: dict[str, Any] = {"packed": packs, "why_padded": why_padded}
    rows, sampled, greedy = prompts(vocab_size), SamplingParams(), SamplingParams(temperature=0)
    slow, fast = HFGenerateEngine(), CascadeEngine()
    slow.sync(model, 0)
    try:
        fast.sync(model, 0)
    except EngineError as reason:
        return {**result, "engine": "HFGenerateEngine", "why_slow": str(reason)}
    own = isinstance(fast._decoder, Decoder)
    result |= {"engine": "CascadeEngine", "forward": "ours" if own else "the model's"}
    roll_out(fast, {0: rows[0]}, sampled, vocab_size)  # what is set up once
    conversations, fast_s = roll_out(fast, rows, sampled, vocab_size)
    reference, slow_s = roll_out(slow, rows, sampled, vocab_size)
    result |= {"fast_cpu_s": fast_s, "slow_cpu_s": slow_s, "speedup": slow_s / fast_s}
    scored = {row: conversations[row] for row in range(0, len(rows), 4)}
    result["largest_logprob_error"] = largest_error(model, scored)
    result["same_samples"] = sum(conversations[row][0] == reference[row][0] for row in rows) / len(rows)
    few = {row: rows[row] for row in range(0, PROMPTS * GROUP, GROUP)}
    ours, theirs = (roll_out(engine, few, greedy, vocab_size)[0] for engine in (fast, slow))
    result["greedy_equal"] = all(ours[row][0] == theirs[row][0] for row in few)
    return result


def fit(family: str, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Train a family for two updates through the command line, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        student, run = Path(folder) / "student", Path(folder) / "run"
        tiny_random_model(family, vocab_size=len(tokenizer)).save_pretrained(student)
        tokenizer.save_pretrained(student)
        arguments = f"""fit --config configs/mentor.yaml --model.student.init_args.path {student} --run_dir {run}
            --trainer.max_steps 2 --trainer.accelerator cpu --data.evaluation null --data.prompts_per_round 2 --data.group_size 4
            --data.limits.max_completion_tokens 24 --data.limits.max_turns 2""".split()
        process = multiprocessing.get_context("fork").Process(target=_fit, args=(arguments, Path(folder) / "log"))
        process.start()
        process.join()
        exported = (run / "student" / "config.json").is_file()
        log = (Path(folder) / "log").read_text(errors="replace")
        return {"fit": process.exitcode == 0 and exported, "fit_log": "" if exported else log[-2000:]}


def _fit(arguments: list[str], log: Path) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    from mentor_pl.cli.main import main

    raise SystemExit(main(arguments))


def write(results: dict[str, dict[str, Any]]) -> None:
    """Write what is known so far."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    setting = {"torch": torch.__version__, "transformers": __version__, "rows": PROMPTS * GROUP, "turns": TURNS}
    (RESULTS / "architectures.json").write_text(json.dumps({"setting": setting, "families": results}, indent=1) + "\n")
    lines = [
        "| architecture | engine | forward | times as fast | largest error | greedy as `generate` | training rows | `fit` |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for family, result in sorted(results.items()):
        served = result.get("engine") == "CascadeEngine"
        cells = [
            f"`{family}`",
            result.get("engine", "not measured"),
            result.get("forward", ""),
            f"{result['speedup']:.1f}" if served else "",
            f"{result['largest_logprob_error']:.0e}" if served else "",
            ("yes" if result["greedy_equal"] else "no") if served else "",
            {True: "packed", False: "padded"}.get(result.get("packed"), ""),
            {True: "yes", False: "no"}.get(result.get("fit"), "not tried"),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    (RESULTS / "architectures.md").write_text("\n".join(lines) + "\n")


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", default=sorted(FAMILIES), choices=sorted(FAMILIES), metavar="FAMILY")
    parser.add_argument("--skip", choices=["fit", "rollouts"])
    args = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(embedded.resolve("embedded:student"))
    path = RESULTS / "architectures.json"
    results: dict[str, dict[str, Any]] = json.loads(path.read_text())["families"] if path.is_file() else {}
    for family in args.families:
        result = results.setdefault(family, {})
        if args.skip != "rollouts":
            result |= measure(family, len(tokenizer))
        if args.skip != "fit":
            result |= fit(family, tokenizer)
        print(family, {name: value for name, value in result.items() if value != ""}, flush=True)
        write(results)


if __name__ == "__main__":
    main()
