"""Tokens per second of the rollout engines on the same multi-turn work.

    python -m benchmarks.rollout_engines [--model NAME|FOLDER] [--dtype float32|bfloat16] [--device cpu|cuda] [--output FILE.json]

Every sampled token is forced to the same script in each engine, after the sampler has done its work, so that turns and token counts
are identical. On a CPU time is that of this process at one thread, which other jobs on the machine disturb least; on a GPU it is the
wall's. Engines alternate; the median over repeats counts. The log-probabilities of the forced tokens are compared between the engines.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest import mock

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from mentor_pl.engines import hf_generate
from mentor_pl.engines.base import EngineStatistics, GenerationRequest, RolloutEngine, SamplingParams
from mentor_pl.engines.cascade import session as cascade_session
from mentor_pl.engines.cascade.engine import CascadeEngine
from mentor_pl.engines.hf_generate import HFGenerateEngine
from mentor_pl.engines.sampling import sample_tokens, uniforms

STOP = 0
_SHAPE = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
)
SHAPES = {
    "tiny": (2048, 256, 688, 4, 4, 2),
    "135m": (49152, 576, 1536, 30, 9, 3),
    "1.5b": (151936, 1536, 8960, 28, 12, 2),
}
"""Llamas of random weights: of 3.4M parameters, in the shape of SmolLM2-135M, and in that of Qwen2.5-1.5B."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One row's conversation and where its turns lie.

    Attributes:
        token_ids: The whole conversation.
        turns: `(begin, end)` of each sampled turn, stop token included.
    """

    token_ids: tuple[int, ...]
    turns: tuple[tuple[int, int], ...]


def make_workload(args: argparse.Namespace, vocab_size: int) -> list[Workload]:
    """Make conversations of one to `turns` turns: prompts share their header, turn lengths are log-normal."""
    chance = random.Random(0)

    def tokens(count: int) -> list[int]:
        return [chance.randrange(1, vocab_size) for _ in range(count)]

    header = tokens(args.header_tokens)
    rows: list[Workload] = []
    for _ in range(args.prompts):
        prompt = header + tokens(args.question_tokens + chance.randrange(args.question_tokens))
        for _ in range(args.group):
            token_ids, turns = list(prompt), []
            for turn in range(chance.randrange(1, args.turns + 1)):
                token_ids += tokens(args.tool_tokens) if turn else []
                length = max(2, int(chance.lognormvariate(0, 0.6) * args.turn_tokens))
                turns.append((len(token_ids), len(token_ids) + length))
                token_ids += [*tokens(length - 1), STOP]
            rows.append(Workload(token_ids=tuple(token_ids), turns=tuple(turns)))
    return rows


def roll_out(engine: RolloutEngine, work: list[Workload]) -> tuple[dict[int, list[float]], EngineStatistics]:
    """Roll all rows out by one engine; tools answer at once."""

    def request(row: int, turn: int) -> GenerationRequest:
        begin, end = work[row].turns[turn]
        return GenerationRequest(row=row, token_ids=work[row].token_ids[:begin], max_new_tokens=end - begin, seed=row)

    turn_of = dict.fromkeys(range(len(work)), 0)
    logprobs: dict[int, list[float]] = {row: [] for row in turn_of}
    with engine.session(SamplingParams(), [STOP]) as session:
        session.submit([request(row, 0) for row in turn_of])
        while done := session.poll():
            for row, completion in done:
                logprobs[row] += completion.logprobs
                turn_of[row] += 1
                if turn_of[row] < len(work[row].turns):
                    session.submit([request(row, turn_of[row])])
                else:
                    session.release(row)
        return logprobs, session.statistics


class Script:
    """Stands in for the sampler: it runs, and then the scripted token is taken."""

    def __init__(self, work: list[Workload], device: str = "cpu") -> None:
        table = torch.zeros(len(work), max(len(row.token_ids) for row in work), dtype=torch.long)
        for index, row in enumerate(work):
            table[index, : len(row.token_ids)] = torch.tensor(row.token_ids)
        self._table = table.to(device)
        self._forced = self._table[:, 0]

    def uniforms(self, seeds: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Note which tokens are due: a seed is its row's index."""
        # a reference engine goes on past a row's end until its whole batch is done
        self._forced = self._table[seeds, positions.clamp(max=self._table.shape[1] - 1)]
        return uniforms(seeds, positions)

    def sample_tokens(
        self, logits: torch.Tensor, sampling: SamplingParams, numbers: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Sample, then return the scripted tokens with their log-probabilities."""
        sample_tokens(logits, sampling, numbers)
        logits = logits.float()
        return self._forced, logits.gather(1, self._forced[:, None])[:, 0] - logits.logsumexp(-1)


def load_model(name: str, dtype: torch.dtype, device: str = "cpu") -> PreTrainedModel:
    """Load a model folder, or make one of `SHAPES`."""
    if name not in SHAPES:
        return AutoModelForCausalLM.from_pretrained(name, dtype=dtype).to(device)
    torch.manual_seed(0)
    with torch.device(device):
        return LlamaForCausalLM(
            LlamaConfig(**dict(zip(_SHAPE, SHAPES[name], strict=True)), tie_word_embeddings=True)
        ).to(dtype)


def seconds_now(device: str) -> float:
    """Read the clock: CPU seconds of this process, or the wall's once the GPU has done what it was given."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def main() -> None:
    """Measure, print a table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny", help=f"{', '.join(SHAPES)}, or a Hugging Face model folder")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--group", type=int, default=8, help="rows per prompt")
    parser.add_argument("--turns", type=int, default=3, help="turns per row at most; each row has one to this many")
    parser.add_argument(
        "--header-tokens", type=int, default=110, help="what all prompts share: system message and tools"
    )
    parser.add_argument("--question-tokens", type=int, default=25, help="what each prompt has of its own, at least")
    parser.add_argument("--turn-tokens", type=int, default=25, help="median length of a sampled turn")
    parser.add_argument("--tool-tokens", type=int, default=20, help="length of a tool's result")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--engines", nargs="+", default=["HFGenerateEngine", "CascadeEngine"], help='or "without graphs"'
    )
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()

    torch.set_num_threads(1)
    model = load_model(args.model, getattr(torch, args.dtype), args.device).eval()
    work = make_workload(args, model.config.vocab_size)
    makers = {
        "HFGenerateEngine": HFGenerateEngine,
        "CascadeEngine": CascadeEngine,
        "without graphs": lambda: CascadeEngine(graphs=False),
    }
    engines: dict[str, RolloutEngine] = {name: makers[name]() for name in args.engines}
    for engine in engines.values():
        engine.sync(model, 0)
    script = Script(work, args.device)
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    sync_seconds: dict[str, list[float]] = {name: [] for name in engines}
    results: dict[str, tuple[dict[int, list[float]], EngineStatistics]] = {}
    with (
        mock.patch.multiple(hf_generate, uniforms=script.uniforms, sample_tokens=script.sample_tokens),
        mock.patch.multiple(cascade_session, uniforms=script.uniforms, sample_tokens=script.sample_tokens),
    ):
        for _ in range(args.repeats):
            for name, engine in engines.items():
                begin = seconds_now(args.device)
                engine.sync(model, 1)
                sync_seconds[name].append(seconds_now(args.device) - begin)
                begin = seconds_now(args.device)
                results[name] = roll_out(engine, work)
                seconds[name].append(seconds_now(args.device) - begin)

    tokens = sum(end - begin for row in work for begin, end in row.turns)
    baseline = results[args.engines[0]][0]
    rows = []
    for name in engines:
        logprobs, counts = results[name]
        rows.append(
            {
                "engine": name,
                "seconds": statistics.median(seconds[name]),
                "tokens_per_second": tokens / statistics.median(seconds[name]),
                "sync_seconds": statistics.median(sync_seconds[name]),
                "speedup": statistics.median(seconds[args.engines[0]]) / statistics.median(seconds[name]),
                "useful_share": counts.useful_share,
                "max_logprob_difference": max(
                    abs(a - b) for row in baseline for a, b in zip(baseline[row], logprobs[row], strict=True)
                ),
                **asdict(counts),
                "all_seconds": seconds[name],
            }
        )
    print(f"{args.model} {args.dtype}: {len(work)} rows, {tokens} sampled tokens, median of {args.repeats}")
    print(
        f"{'engine':18} {'s':>7} {'tok/s':>7} {'ratio':>6} {'sync s':>7} {'prefilled':>9} {'useful':>6} {'max dlogp':>9}"
    )
    for row in rows:
        print(
            f"{row['engine']:18} {row['seconds']:7.2f} {row['tokens_per_second']:7.0f} {row['speedup']:6.2f} "
            f"{row['sync_seconds']:7.2f} {row['prefill_tokens']:9d} {row['useful_share']:6.2f} "
            f"{row['max_logprob_difference']:9.1e}"
        )
    if args.output:
        options = {key: value for key, value in vars(args).items() if key != "output"}
        args.output.write_text(json.dumps({"options": options, "sampled_tokens": tokens, "engines": rows}, indent=2))


if __name__ == "__main__":
    main()
