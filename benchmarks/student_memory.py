"""Peak memory of loading a student and of one training step: every weight, LoRA and NF4 + LoRA, each in a process of its own.

    python benchmarks/student_memory.py --path FOLDER [--rows 4] [--tokens 256] [--output FILE.json]

FOLDER is an ordinary Hugging Face folder (or a hub id); `--gguf NAME` takes a GGUF file in it. A step is: forward, the log-probabilities
of every token as the trainer computes them, backward, AdamW. On CPU peaks are those of resident memory above what the process held before
loading (so a memory-mapped file counts once it is read: an unconverted float32 file only in the step); on CUDA those of the allocator.
The C library is told to give freed tensors back at once: otherwise the peak is that of its heap, up to 1.8 times that of the tensors.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "full, float32": ("full", {}),
    "full, bfloat16": ("full", {"dtype": "bfloat16"}),
    "LoRA, float32": ("lora", {}),
    "LoRA, bfloat16": ("lora", {"dtype": "bfloat16"}),
    "NF4 + LoRA, float32": ("nf4", {}),
    "NF4 + LoRA, bfloat16": ("nf4", {"dtype": "bfloat16"}),
    "NF4 + LoRA, bfloat16, checkpointing": ("nf4", {"dtype": "bfloat16", "gradient_checkpointing": True}),
}
MB = 1e6


class Peak:
    """The process's highest memory since it was last asked."""

    def __init__(self) -> None:
        import torch

        self._cuda = torch.cuda if torch.cuda.is_available() else None
        self._ground = 0.0
        self._ground = self.read()

    def read(self) -> float:
        """Return the peak in MB above the ground, and start again from what is held now."""
        if self._cuda is not None:
            peak = self._cuda.max_memory_allocated() / MB
            self._cuda.reset_peak_memory_stats()
            return peak - self._ground
        status = Path("/proc/self/status").read_text()
        peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) * 1024 / MB
        Path("/proc/self/clear_refs").write_text("5")  # Linux: forget the peak
        return peak - self._ground


def measure(name: str, path: str, gguf_file: str | None, rows: int, tokens: int) -> dict[str, Any]:
    """Load one student and train it for two steps; the first makes the optimiser's state."""
    import torch

    from mentor_pl.students.full import FullStudent
    from mentor_pl.students.lora import LoraStudent
    from mentor_pl.students.nf4 import Nf4LoraStudent
    from mentor_pl.training.logprobs import TokenScorer

    kind, options = VARIANTS[name]
    loader = {"full": FullStudent, "lora": LoraStudent, "nf4": Nf4LoraStudent}[kind](
        path, gguf_file=gguf_file, **options
    )
    peak = Peak()
    started = time.process_time()
    model = loader.load_model()
    if torch.cuda.is_available():
        model = model.to("cuda")  # type: ignore[arg-type]
    load_peak, load_cpu_s = peak.read(), time.process_time() - started

    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-5)
    ids = torch.randint(100, 1000, (rows, tokens), device=model.device)
    positions = torch.arange(rows * tokens, device=ids.device).view(rows, tokens)[:, :-1].flatten()
    losses: list[float] = []
    score = TokenScorer(chunk_tokens=256)
    started = time.process_time()
    for _ in range(2):
        logprobs, _ = score(
            model,
            input_ids=ids,
            position_ids=torch.arange(tokens, device=ids.device).expand(rows, tokens),
            attention_mask=torch.ones_like(ids),
            target_positions=positions,
            target_ids=ids[:, 1:].flatten(),
            temperature=1.0,
        )
        loss = -logprobs.mean()
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    held = [*model.parameters(), *model.buffers()]
    return {
        "student": name,
        "trained_parameters": sum(weight.numel() for weight in trained),
        "weights_mb": sum(tensor.numel() * tensor.element_size() for tensor in held) / MB,
        "load_peak_mb": load_peak,
        "step_peak_mb": peak.read(),
        "load_cpu_s": load_cpu_s,
        "step_cpu_s": (time.process_time() - started) / 2,
        "losses": losses,
    }


def main() -> None:
    """Measure every variant and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--path", required=True)
    parser.add_argument("--gguf")
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--only", choices=VARIANTS, help="measure this one in this process and print JSON")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    if args.only:
        print(json.dumps(measure(args.only, args.path, args.gguf, args.rows, args.tokens)))
        return
    results: list[dict[str, Any]] = []
    print(
        "| student | trained | weights MB | load, peak MB | step, peak MB | CPU-s a step |\n|---|---|---|---|---|---|"
    )
    for name in VARIANTS:
        command = [sys.executable, __file__, "--path", args.path, "--only", name]
        command += [
            "--rows",
            str(args.rows),
            "--tokens",
            str(args.tokens),
            *(["--gguf", args.gguf] if args.gguf else []),
        ]
        environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "1048576"}
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
        row = json.loads(output.splitlines()[-1])
        results.append(row)
        print(
            f"| {name} | {row['trained_parameters'] / 1e6:.1f} M | {row['weights_mb']:.0f} | {row['load_peak_mb']:.0f} "
            f"| {row['step_peak_mb']:.0f} | {row['step_cpu_s']:.1f} |",
            flush=True,
        )
    if args.output:
        facts = {"machine": platform.machine(), "rows": args.rows, "tokens": args.tokens, "results": results}
        args.output.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
