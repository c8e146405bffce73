"""However a step is split over processes and micro-batches, it is the same step; and any checkpoint goes on under any split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mentor_pl.cli.main import main
from tests.integration.distributed.runs import DDP, FSDP, FSDP1, FSDP1_ONE_FILE, FSDP_ONE_FILE, LORA, Runs, accumulate

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(1800),
]  # a minute for each fixture; more where cores are shared

# Three problems a split, one at a time: the second rank runs out of them before the first.
EVALUATED = ("--summary.enabled", "true", "--data.evaluation_sampling.batch_size", "1")
# Filters, so that the correction has something to correct.
CORRECTED = ("--data.sampling.top_k", "2", "--model.correction", "TruncatedImportanceSampling")
AHEAD = (
    *("--data.round.ahead", "1", "--model.correction", "TruncatedImportanceSampling"),
    *("--model.engine", "tests.unit.training.own_weights.OwnWeights"),
)
TWO_STEPS_A_ROUND = ("--data.round.steps", "2", "--data.round.passes", "2", *CORRECTED)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """One process."""
    runs = Runs(tmp_path_factory.mktemp("runs"))
    runs.train(
        {
            "full": EVALUATED,
            "full accumulated": accumulate(3),
            "full two steps": TWO_STEPS_A_ROUND,
            "full ahead": AHEAD,
            "lora": LORA,
            "lora accumulated": (*LORA, *accumulate(3)),
        }
    )
    return runs


def after_two(runs: Runs, name: str) -> tuple[str, ...]:
    return ("--ckpt_path", str(runs.checkpoint(name, 2)))


@pytest.fixture(scope="module")
def pair(alone: Runs) -> Runs:
    """Two processes, which also go on from what one process left."""
    alone.train(
        {
            "full ddp": (*DDP, *accumulate(2), *EVALUATED),
            "full ddp two steps": (*DDP, *TWO_STEPS_A_ROUND),
            "full ddp from one process": (*DDP, *after_two(alone, "full")),
            "full ddp ahead": (*DDP, *AHEAD),
            "full fsdp two steps": (*FSDP, *TWO_STEPS_A_ROUND),
            "lora ddp": (*LORA, *DDP),
            "full fsdp": (*FSDP, *EVALUATED, "--export.enabled", "true"),
            "full fsdp from one process": (*FSDP_ONE_FILE, *after_two(alone, "full")),
            "lora fsdp": (*LORA, *FSDP, *accumulate(2), "--export.enabled", "true"),
            "lora fsdp from one process": (*LORA, *FSDP_ONE_FILE, *after_two(alone, "lora")),
            "full fsdp1": (*FSDP1, *EVALUATED, "--export.enabled", "true"),
            "full fsdp1 two steps": (*FSDP1, *accumulate(2), *TWO_STEPS_A_ROUND),
            "lora fsdp1": (*LORA, *FSDP1_ONE_FILE, *accumulate(2), "--export.enabled", "true"),
        }
    )
    return alone


@pytest.fixture(scope="module")
def pair_again(pair: Runs) -> Runs:
    """Two processes that go on from what two processes left, under another strategy or another kind of checkpoint."""
    pair.train(
        {
            "full fsdp from fsdp": (*FSDP, *after_two(pair, "full fsdp")),
            "full ddp from fsdp": (*DDP, *after_two(pair, "full fsdp")),
            "lora fsdp from fsdp": (*LORA, *FSDP, *after_two(pair, "lora fsdp")),
            "lora fsdp from ddp": (*LORA, *FSDP, *after_two(pair, "lora ddp")),
            "full fsdp1 from fsdp1": (*FSDP1, *after_two(pair, "full fsdp1")),
            "full fsdp from fsdp1": (*FSDP, *after_two(pair, "full fsdp1")),
            "lora fsdp1 from fsdp1": (*LORA, *FSDP1, *after_two(pair, "lora fsdp1")),
            "lora fsdp1 from fsdp": (*LORA, *FSDP1, *after_two(pair, "lora fsdp")),
        }
    )
    return pair


@pytest.fixture(scope="module")
def alone_again(pair: Runs) -> Runs:
    """One process that goes on from what two left."""
    pair.train(
        {
            "full from ddp": after_two(pair, "full ddp"),
            "full from fsdp": after_two(pair, "full fsdp"),
            "lora from fsdp": (*LORA, *after_two(pair, "lora fsdp")),
            "full from fsdp1": after_two(pair, "full fsdp1"),
            "lora from fsdp1": (*LORA, *after_two(pair, "lora fsdp1")),
        }
    )
    return pair


def check_same(runs: Runs, name: str, like: str) -> None:
    theirs, ours = runs.weights(like, 3), runs.weights(name, 3)
    before = runs.weights(like, 2)
    assert ours.keys() == theirs.keys()
    for key, weight in theirs.items():
        torch.testing.assert_close(ours[key], weight, rtol=0, atol=2e-6, msg=lambda text, key=key: f"{key}: {text}")
    # Two hundred times the tolerance: weights that did not move would be the same too.
    assert max(float((theirs[key] - before[key]).abs().max()) for key in theirs) > 4e-4
    steps = runs.log(name)
    for ours_row, theirs_row in zip(steps, runs.log(like)[-len(steps) :], strict=True):
        assert ours_row.keys() == theirs_row.keys()
        for key, value in theirs_row.items():
            assert ours_row[key] == pytest.approx(value, rel=1e-4, abs=1e-5), (key, theirs_row["step"])


@pytest.mark.parametrize(("name", "like"), [("full accumulated", "full"), ("lora accumulated", "lora")])
def test_micro_batches_make_the_step_of_one_batch(alone: Runs, name: str, like: str) -> None:
    check_same(alone, name, like)


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("full ddp", "full"),
        ("full ddp two steps", "full two steps"),
        ("full fsdp two steps", "full two steps"),
        ("full ddp ahead", "full ahead"),
        ("lora ddp", "lora"),
        ("full fsdp", "full"),
        ("lora fsdp", "lora"),
        ("full fsdp1", "full"),
        ("full fsdp1 two steps", "full two steps"),
        ("lora fsdp1", "lora"),
    ],
)
def test_two_processes_make_the_step_of_one(pair: Runs, name: str, like: str) -> None:
    check_same(pair, name, like)


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("full ddp from one process", "full"),
        ("full fsdp from one process", "full"),
        ("lora fsdp from one process", "lora"),
    ],
)
def test_two_processes_go_on_from_one(pair: Runs, name: str, like: str) -> None:
    check_same(pair, name, like)


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("full fsdp from fsdp", "full"),
        ("full ddp from fsdp", "full"),
        ("lora fsdp from fsdp", "lora"),
        ("lora fsdp from ddp", "lora"),
        ("full fsdp1 from fsdp1", "full"),
        ("full fsdp from fsdp1", "full"),
        ("lora fsdp1 from fsdp1", "lora"),
        ("lora fsdp1 from fsdp", "lora"),
    ],
)
def test_two_processes_go_on_from_two(pair_again: Runs, name: str, like: str) -> None:
    check_same(pair_again, name, like)


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("full from ddp", "full"),
        ("full from fsdp", "full"),
        ("lora from fsdp", "lora"),
        ("full from fsdp1", "full"),
        ("lora from fsdp1", "lora"),
    ],
)
def test_one_process_goes_on_from_two(alone_again: Runs, name: str, like: str) -> None:
    check_same(alone_again, name, like)


def test_a_checkpoint_of_a_lora_student_holds_the_adapter_only(pair: Runs) -> None:
    for name in ("lora", "lora ddp", "lora fsdp", "lora fsdp from one process", "lora fsdp1"):
        weights = pair.weights(name, 3)
        assert weights and all("lora_" in key for key in weights), name
    for one_file, folder in (("lora fsdp from one process", "lora fsdp"), ("lora fsdp1", "full fsdp1")):
        assert pair.checkpoint(one_file, 3).is_file() and pair.checkpoint(folder, 3).is_dir()


@pytest.mark.parametrize("name", ["full ddp", "full fsdp", "full fsdp1"])
def test_ranks_with_unequal_numbers_of_problems_evaluate_as_one(pair: Runs, name: str) -> None:
    def summary(run: str) -> dict[str, Any]:
        return json.loads((pair.folder / run / "summary.json").read_text())

    assert summary(name) == summary("full")


@pytest.mark.parametrize("name", ["full fsdp", "lora fsdp", "full fsdp1", "lora fsdp1"])
def test_the_student_left_by_sharded_ranks_is_that_of_their_checkpoint(pair: Runs, tmp_path: Path, name: str) -> None:
    main(["export", "--checkpoint", str(pair.checkpoint(name, 3)), "--output", str(tmp_path / "student")])
    ours, theirs = (
        load_file(tmp_path / "student/model.safetensors"),
        load_file(pair.folder / name / "student/model.safetensors"),
    )
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
