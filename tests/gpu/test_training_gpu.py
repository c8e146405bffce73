"""Two steps of the embedded task by `mentor-pl fit` on a GPU: precisions, students and strategies."""

import math

import pytest
import torch

from tests.integration.distributed.runs import CONFIGS, FSDP_ONE_FILE, Runs

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]

NF4 = ("--config", str(CONFIGS / "student/nf4_lora.yaml"), "--model.student.init_args.rank", "4")
BF16 = ("--trainer.precision", "bf16-mixed")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, device: str) -> Runs:
    runs = Runs(tmp_path_factory.mktemp("runs"))
    here = ("--trainer.accelerator", "cpu" if device == "cpu" else "gpu", "--trainer.devices", "1")
    here += ("--trainer.max_steps", "2")
    runs.train(
        {
            "float32": here,
            "bfloat16": (*here, *BF16),
            "nf4": (*NF4, *here, *BF16),
            "fsdp2": (*FSDP_ONE_FILE, *here),
        }
    )
    return runs


@pytest.mark.parametrize(("name", "limit"), [("float32", 1e-4), ("bfloat16", 2e-2), ("nf4", 2e-2), ("fsdp2", 1e-4)])
def test_engine_and_trainer_agree_and_losses_are_finite(runs, name, limit):
    steps = runs.log(name)
    assert len(steps) == 2
    # the second step trains on what was sampled with the weights that the first one left
    assert all(0 <= step["train/sampling_kl"] < limit for step in steps)
    assert all(math.isfinite(step["train/loss"]) for step in steps)


@pytest.mark.parametrize("name", ["float32", "bfloat16", "nf4"])
def test_a_step_moves_the_trained_weights(runs, name):
    first, second = runs.weights(name, 1), runs.weights(name, 2)
    assert first.keys() == second.keys() != set()
    assert all(torch.isfinite(weight).all() for weight in second.values())
    assert any(not torch.equal(first[key], second[key]) for key in first)


def test_one_rank_of_fsdp2_does_what_no_strategy_does(runs):
    plain, sharded = runs.weights("float32", 1), runs.weights("fsdp2", 1)
    assert plain.keys() == sharded.keys()
    for name, weight in plain.items():
        # steps are about 0.01 long
        torch.testing.assert_close(sharded[name].cpu(), weight.cpu(), atol=1e-4, rtol=0)
