"""The formulas of docs/scaling.md: what a student of any size takes of each device, and how long an update takes.

    python -m benchmarks.scaling_formula      # prints the worked tables of docs/scaling.md

`python -m benchmarks.scaling` holds the memory formula and the count of operations against small runs. Times rest on `Machine`, which is
assumed.
"""

from __future__ import annotations

from dataclasses import dataclass

GB = 1e9


@dataclass(frozen=True, kw_only=True)
class Student:
    """A dense decoder, and how it is trained.

    Attributes:
        weights: N.
        layers: L.
        hidden: H.
        kv_width: Key-value heads times their size, H_kv D.
        vocabulary: V.
        bytes_per_weight: b; 4 in float32, 2 in bfloat16, 0.52 in NF4.
        bytes_per_activation: Of activations and of the KV cache.
        trained: N_t; of an adapter, its weights, else N.
        bytes_per_trained: b_t, which gradients and both of AdamW's averages have too.
        frozen_copy: Whether there is a second, frozen copy of all weights to compare with.
    """

    weights: float
    layers: int
    hidden: int
    kv_width: int
    vocabulary: int
    bytes_per_weight: float
    bytes_per_activation: int
    trained: float
    bytes_per_trained: int
    frozen_copy: bool


@dataclass(frozen=True, kw_only=True)
class Work:
    """One update.

    Attributes:
        rollouts: P G, over all devices.
        group: G.
        prompt: Tokens of a prompt.
        given: Tokens of tool results in a rollout, on average.
        sampled: Tokens sampled in a rollout, on average.
        longest: Tokens sampled in the longest rollout.
        micro_batch: Tokens of a packed micro-batch.
        logits: Tokens whose logits are held at once.
        live_rollouts: Of a device at a time at most.
    """

    rollouts: int = 1024
    group: int = 8
    prompt: int = 700
    given: int = 300
    sampled: int = 500
    longest: int = 1500
    micro_batch: int = 16384
    logits: int = 1024
    live_rollouts: int = 256


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What is assumed of a device (H100 SXM, bfloat16) and its network, with the share of the peak that is reached.

    Attributes:
        flops: 989e12 at 40 %.
        bandwidth: Of its memory, bytes/s; 3.35e12 at 60 %.
        link: To other devices, bytes/s: 8 x 400 Gbit/s between nodes shared by 8 devices, at 80 %.
        position_s: Least time of one decoded position: what Python and kernel launches cost in an engine without graphs.
    """

    flops: float = 0.40 * 989e12
    bandwidth: float = 0.60 * 3.35e12
    link: float = 0.80 * 50e9
    position_s: float = 0.02


def memory(student: Student, work: Work, *, devices: int, sharded: bool) -> dict[str, float]:
    """Return bytes on each device: `at rest`, in a `rollout`, and in a `step`."""
    shares = devices if sharded else 1
    weights = student.bytes_per_weight * student.weights
    trained = student.bytes_per_trained * student.trained
    at_rest = (weights * (2 if student.frozen_copy else 1) + 2 * trained) / shares
    rows = min(work.rollouts / devices, work.live_rollouts)
    live = rows * (work.given + work.sampled) + rows / work.group * work.prompt
    cache = 2 * student.bytes_per_activation * student.layers * student.kv_width * live
    kept_by_ddp = trained if devices > 1 and not sharded else 0.0
    body = weights / student.layers
    ends = student.bytes_per_activation * student.vocabulary * student.hidden
    activations = student.bytes_per_activation * student.hidden * (student.layers + 16) * work.micro_batch
    logits = 3 * 4 * student.vocabulary * work.logits
    return {
        "at rest": at_rest,
        "rollout": at_rest + kept_by_ddp + (weights if sharded else 0.0) + cache,
        "step": at_rest + trained / shares + (2 * body + ends if sharded else 0.0) + activations + logits,
    }


def operations(student: Student, positions: float, *, checkpointing: bool) -> float:
    """Return the floating-point operations of training on some positions: forward and backward, recomputation, the reference policy.

    Kaplan et al., arXiv:2001.08361, section 2.1: 2 N a position forward, twice that backward. The gradient of frozen weights is not formed.
    """
    backward = 4.0 if student.trained == student.weights else 2.0
    return (2 + backward + (2 if checkpointing else 0) + 2) * student.weights * positions


def seconds(student: Student, work: Work, machine: Machine, *, devices: int, sharded: bool) -> dict[str, float]:
    """Return the time of one update: `rollout` and `step`."""
    rows = work.rollouts / devices
    live = min(rows, work.live_rollouts)
    moved = student.bytes_per_weight * student.weights
    decode = (rows / live * work.longest) * max(
        moved / machine.bandwidth, 2 * student.weights * live / machine.flops, machine.position_s
    )
    positions = rows * (work.given + work.sampled) + rows / work.group * work.prompt
    gathers = (3 * max(1.0, positions / work.micro_batch) + 1) if sharded else 1.0
    spread = student.bytes_per_weight * student.weights * gathers * (devices - 1) / devices
    return {
        "rollout": decode,
        "step": max(operations(student, positions, checkpointing=True) / machine.flops, spread / machine.link),
    }


SIZES = {  # weights, layers, hidden, key-value width, vocabulary, weights of a LoRA adapter of rank 16 on all linear layers
    "0.5B": (0.494e9, 24, 896, 128, 151936, 8.8e6),  # Qwen2.5-0.5B
    "7B": (7.62e9, 28, 3584, 512, 152064, 40e6),  # Qwen2.5-7B
    "70B": (70.6e9, 80, 8192, 1024, 128256, 207e6),  # Llama-3.1-70B
}


def student(size: str, kind: str) -> Student:
    """Return one of the worked examples: `full, float32`, `full, bfloat16`, `LoRA on bfloat16` or `LoRA on NF4`."""
    weights, layers, hidden, kv_width, vocabulary, adapter = SIZES[size]
    full = kind.startswith("full")
    width = {"float32": 4, "bfloat16": 2, "NF4": 0.52}[kind.split()[-1]]
    return Student(
        weights=weights,
        layers=layers,
        hidden=hidden,
        kv_width=kv_width,
        vocabulary=vocabulary,
        bytes_per_weight=width,
        bytes_per_activation=4 if width == 4 else 2,
        trained=weights if full else adapter,
        bytes_per_trained=width if full else 4,
        frozen_copy=full,
    )


def main() -> None:
    """Print the tables."""
    work, machine = Work(), Machine()
    print("| student | training | 1 GPU | 8 GPUs | 64 GPUs |\n|---|---|---|---|---|")
    for size in SIZES:
        for kind in ("full, float32", "full, bfloat16", "LoRA on bfloat16", "LoRA on NF4"):
            cells: list[str] = []
            for devices in (1, 8, 64):
                used = memory(student(size, kind), work, devices=devices, sharded=devices > 1)
                shown = " / ".join(f"{value / GB:.0f}" for value in used.values())
                cells.append(shown if max(used.values()) < 75 * GB else f"~~{shown}~~")
            print(f"| {size} | {kind} | {' | '.join(cells)} |")
    print("\n| student | 1 GPU | 8 GPUs | 64 GPUs |\n|---|---|---|---|")
    for size in SIZES:
        cells = []
        for devices in (1, 8, 64):
            took = seconds(student(size, "LoRA on bfloat16"), work, machine, devices=devices, sharded=devices > 1)
            cells.append(" + ".join(f"{value:.0f}" for value in took.values()))
        print(f"| {size} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
