"""Holds the memory and work formulas of docs/scaling.md against two processes that train a random Llama of 57M parameters on CPU.

    python -m benchmarks.scaling [--output FILE.json]

For each strategy and student it runs two rounds of the embedded task, and reads a rank's resident memory at three moments: before
training, when the engine has its weights for the second rollout, and at the end of a step. What a student with hardly any weights needs
at the same moment (Python, its libraries, buffers) is taken off. The work of a step is counted, not timed. Takes some minutes of two cores.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from mentor_pl import embedded
from mentor_pl.cli.training import main as training
from mentor_pl.training.fsdp1 import FSDP1Strategy

ROOT = Path(__file__).parents[1]
MB = 1e6
SMALL = """
data:
  {round: {prompts_per_round: 4, group_size: 4}, limits: {max_turns: 2, max_tool_calls: 1, max_completion_tokens: 32}}
trainer: {accelerator: cpu, max_epochs: 1, max_steps: 2, enable_progress_bar: false, enable_model_summary: false}
checkpoint: {save_top_k: 0, save_last: false}
summary: {enabled: false}
export: {enabled: false}
recorder: {every_n_rounds: 0}
"""
STRATEGIES = {
    "one process": [],
    "DDP": ["strategy/ddp.yaml"],
    "FSDP2": ["strategy/fsdp.yaml"],
    "FSDP1": ["strategy/fsdp1.yaml"],
}
SHARDED = ("FSDP2", "FSDP1")
STUDENTS = {"full": [], "LoRA": ["student/lora.yaml"]}


class MemoryProbe(Callback):
    """Notes resident memory in bytes, and floating-point operations, of each rank.

    Args:
        output: Folder to write to.
    """

    def __init__(self, output: str) -> None:
        self.output = Path(output)
        self.seen: dict[str, Any] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Note what there is before the student, and take notes whenever the engine has taken over its weights."""
        self.seen["before loading"] = _resident()
        engine: Any = cast(Any, pl_module).engine
        sync = engine.sync

        def noted(model: Any, version: int) -> None:
            sync(model, version)
            self.seen["rollout"] = _resident()

        engine.sync = noted

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note what the student takes at rest."""
        self.seen["at rest"] = _resident()
        parameters = [p for p in pl_module.parameters()]
        # FSDP1's are this rank's share alone.
        ranks = trainer.world_size if isinstance(trainer.strategy, FSDP1Strategy) else 1
        self.seen["parameters"] = ranks * sum(p.numel() for p in parameters)
        self.seen["trained"] = ranks * sum(p.numel() for p in parameters if p.requires_grad)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Begin to count."""
        self.seen["positions"] = batch.input_ids.numel()
        self._flops = FlopCounterMode(display=False)
        self._flops.__enter__()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Note the work."""
        self._flops.__exit__(None, None, None)
        self.seen["flops"] = self._flops.get_total_flops()
        self.seen["end of step"] = _resident()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the notes down."""
        (self.output / f"rank{trainer.global_rank}.json").write_text(json.dumps(self.seen))


def _resident() -> int:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def make_student(folder: Path, hidden: int, layers: int) -> None:
    """Write a random Llama with the embedded tokenizer."""
    source = embedded.resolve("embedded:student")
    tokenizer: Any = AutoTokenizer.from_pretrained(source)
    config = LlamaConfig(
        vocab_size=768,
        hidden_size=hidden,
        intermediate_size=hidden * 8 // 3,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        num_key_value_heads=hidden // 64,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    # In another type than it is trained in: weights that are mapped from the file would come and go as the system likes.
    LlamaForCausalLM(config).bfloat16().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def measure(folder: Path, student: Path, strategy: str, kind: str) -> dict[str, Any]:
    """Run one variant; return what its first rank noted."""
    out = folder / f"{student.name} {strategy} {kind}"
    out.mkdir()
    small = folder / "small.yaml"
    small.write_text(SMALL)
    overlays = [str(ROOT / "configs" / name) for name in [*STUDENTS[kind], *STRATEGIES[strategy]]]
    command = ["fit", "--config", str(ROOT / "configs/mentor.yaml"), "--model.student.init_args.path", str(student)]
    for overlay in [*overlays, str(small)]:
        command += ["--config", overlay]
    probe = {"class_path": "benchmarks.scaling.MemoryProbe", "init_args": {"output": str(out)}}
    command += ["--run_dir", str(out / "run"), "--trainer.callbacks", json.dumps([probe])]
    subprocess.run(
        [sys.executable, "-m", "benchmarks.scaling", "--command", json.dumps(command)],
        cwd=ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
        # Freed tensors go back to the system at once: otherwise the heap's high-water mark would be measured.
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "MALLOC_MMAP_THRESHOLD_": "65536",
            "MALLOC_TRIM_THRESHOLD_": "65536",
        },
    )
    return json.loads((out / "rank0.json").read_text())


def predicted(seen: dict[str, Any], strategy: str, kind: str) -> dict[str, float]:
    """Return the formula's bytes per rank (docs/scaling.md), all in float32."""
    ranks = 2 if strategy in SHARDED else 1
    weights, trained = 4 * seen["parameters"], 4 * seen["trained"]
    at_rest = (weights + (weights if kind == "full" else 0)) / ranks  # full: the reference policy too
    gathered = weights if strategy in SHARDED else 0
    # On CPU the engine keeps plain linear layers, nearly all of the weights, in oneDNN's layout too; with an adapter none is plain.
    engine = weights if kind == "full" else 0
    buckets = trained if strategy == "DDP" else 0  # DDP's gradients live in its buckets and stay
    return {
        "at rest": at_rest,
        "rollout": at_rest + 2 * trained / ranks + buckets + gathered + engine,
        "end of step": at_rest + 3 * trained / ranks + engine,
    }


def main() -> None:
    """Run every variant and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--command", type=json.loads, help="used by the program itself")
    arguments = parser.parse_args()
    if arguments.command:
        training(arguments.command)
        return
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_student(folder / "large", hidden=768, layers=8)
        make_student(folder / "tiny", hidden=64, layers=1)
        for strategy in STRATEGIES:
            for kind in STUDENTS:
                seen = measure(folder, folder / "large", strategy, kind)
                base = measure(folder, folder / "tiny", strategy, kind)
                row = {"strategy": strategy, "student": kind, "parameters": seen["parameters"]}
                for moment, value in predicted(seen, strategy, kind).items():
                    measured = (seen[moment] - seen["before loading"]) - (base[moment] - base["before loading"])
                    row[moment] = {"predicted_mb": round(value / MB), "measured_mb": round(measured / MB)}
                row["flops_per_parameter_and_position"] = seen["flops"] / seen["parameters"] / seen["positions"]
                rows.append(row)
                print(json.dumps(row), flush=True)
    if arguments.output:
        arguments.output.write_text(json.dumps({"torch": torch.__version__, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
