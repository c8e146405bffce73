from __future__ import annotations

import pytest

from benchmarks.scaling_formula import Machine, Student, Work, memory, operations, seconds

# 1000 weights in 4 bytes, all trained, beside a frozen copy.
FULL = Student(
    weights=1000,
    layers=10,
    hidden=8,
    kv_width=4,
    vocabulary=50,
    bytes_per_weight=4,
    bytes_per_activation=4,
    trained=1000,
    bytes_per_trained=4,
    frozen_copy=True,
)
WORK = Work(rollouts=8, group=4, prompt=6, given=2, sampled=3, longest=5, micro_batch=10, logits=2, live_rollouts=8)


def test_one_device_holds_everything() -> None:
    used = memory(FULL, WORK, devices=1, sharded=False)
    assert used["at rest"] == 16_000  # weights, frozen copy, two averages
    # keys and values of 10 layers x 4, for 8 rollouts of 2 + 3 tokens and 2 prompts of 6
    assert used["rollout"] == 16_000 + 2 * 4 * 10 * 4 * (8 * 5 + 2 * 6)
    # gradients; (10 + 16) x 8 values for each of 10 tokens; logits of 2 tokens three times
    assert used["step"] == 16_000 + 4_000 + 4 * 8 * 26 * 10 + 3 * 4 * 50 * 2


def test_shards_are_gathered_for_the_rollout() -> None:
    used = memory(FULL, WORK, devices=4, sharded=True)
    assert used["at rest"] == 4_000
    assert used["rollout"] == 4_000 + 4_000 + 2 * 4 * 10 * 4 * (2 * 5 + 0.5 * 6)
    # a quarter of the gradients; two whole layers of 400 bytes, the embedding of 50 x 8
    assert used["step"] == 4_000 + 1_000 + 800 + 1_600 + 4 * 8 * 26 * 10 + 3 * 4 * 50 * 2


def test_work_is_counted_in_passes_over_the_weights() -> None:
    assert operations(FULL, 5, checkpointing=False) == 8 * 1000 * 5  # forward 2, backward 4, reference policy 2
    assert operations(FULL, 5, checkpointing=True) == 10 * 1000 * 5


def test_decoding_takes_as_long_as_its_longest_rollout() -> None:
    slow = Machine(flops=1e30, bandwidth=1000.0, link=1e30, position_s=0.0)  # 4 s to read the weights once
    assert seconds(FULL, WORK, slow, devices=1, sharded=False)["rollout"] == pytest.approx(5 * 4.0)
    assert seconds(FULL, WORK, slow, devices=8, sharded=False)["rollout"] == pytest.approx(5 * 4.0)
