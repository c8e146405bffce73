"""Whatever changes the batch: a step is the same however it is split, and a run that is resumed is the run that went on."""

from __future__ import annotations

import pytest
import torch

from tests.integration.distributed.runs import DDP, Runs, accumulate
from tests.integration.distributed.test_splits import check_same

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

LOSS = (
    *("--model.loss", "ReinforcePlusPlusLoss", "--model.loss.kl_weight", "0.1"),
    *("--model.loss.aggregation", "sequence_mean"),
    *("--model.loss.entropy", "{weight: 0.05, target: 3.0, change: 0.01}"),
    *("--model.loss.covariance_clip", "{low: 0.1, high: 5.0}"),
)
GUIDANCE = (
    *("--data.references", "embedded:train.stepwise.jsonl", "--data.advantages", "TeacherAligned"),
    *(
        "--data.guidance.dynamic_sampling",
        "{max_refills: 1}",
        "--data.guidance.hints",
        "{attempts: 1, decay_rounds: 9}",
    ),
    *("--data.guidance.teacher_in_group", "{weight: 0.5}", "--data.guidance.imitation", "{weight: 0.1}"),
)
SELF = "{class_path: InformedSelf}"
MODEL = (
    "{class_path: ModelTeacher, init_args: {model: {class_path: FullStudent, init_args: {path: 'embedded:student'}}}}"
)
TWO_STEPS = ("--data.round.steps", "2")
"""A checkpoint after an odd number of updates then lies within a round."""

CASES = {
    name: (*case, *TWO_STEPS)
    for name, case in {
        "losses": (*LOSS, "--data.advantages", "GDPO", "--data.round.mask_truncated", "true"),
        "gspo": ("--model.loss", "GSPOLoss", "--data.advantages", "LeaveOneOut"),
        "guidance": GUIDANCE,
        "informed self": ("--data.guidance.distillation", f"{{teacher: {SELF}, weight: 0.5, decay_rounds: 3}}"),
        "model teacher": ("--data.guidance.distillation", f"{{teacher: {MODEL}, reward_weight: 0.5}}"),
        "difficulty": (
            *("--data.guidance.curriculum", "{rounds: 2, first_share: 0.1}"),
            *("--data.guidance.difficulty_pools", "{failed: 0.5}"),
        ),
    }.items()
}
RESUMED_AT = {"within a round": 1, "between rounds": 2}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    runs = Runs(tmp_path_factory.mktemp("runs"))
    runs.train(
        {
            name + how: (*case, *extra)
            for name, case in CASES.items()
            for how, extra in {"": (), " accumulated": accumulate(3)}.items()
        }
    )
    runs.train(
        {
            f"{name} resumed {where}": (*case, "--ckpt_path", str(runs.checkpoint(name, step)))
            for name, case in CASES.items()
            for where, step in RESUMED_AT.items()
        }
    )
    runs.train({f"{name} ddp": (*case, *DDP) for name, case in CASES.items()})
    return runs


@pytest.mark.parametrize("how", ["accumulated", "ddp"])
@pytest.mark.parametrize("name", CASES)
def test_however_a_step_is_split_it_is_the_same(runs: Runs, name: str, how: str) -> None:
    check_same(runs, f"{name} {how}", name)


@pytest.mark.parametrize("where", RESUMED_AT)
@pytest.mark.parametrize("name", CASES)
def test_a_resumed_run_is_the_same_to_the_bit(runs: Runs, name: str, where: str) -> None:
    whole, resumed = runs.weights(name, 3), runs.weights(f"{name} resumed {where}", 3)
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    logged = runs.log(f"{name} resumed {where}")
    assert logged and logged[-1] == runs.log(name)[-1]  # the third update begins a round, whose rollout is logged
