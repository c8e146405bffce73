"""Each kind of guidance, and a round ahead, in a run of two environments with different tools: really trained, and resumed."""

from __future__ import annotations

from pathlib import Path

import pytest

from mentor_pl.guidance import (
    Curriculum,
    DifficultyPools,
    Distillation,
    DynamicSampling,
    Guidance,
    Hints,
    Imitation,
    InformedSelf,
    ModelTeacher,
    TeacherInGroup,
)
from mentor_pl.losses import TruncatedImportanceSampling
from mentor_pl.students.full import FullStudent
from tests.unit.training.own_weights import OwnWeights
from tests.unit.training.runs import same
from tests.unit.training.test_mixtures import fit

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

GUIDED = {
    "curriculum": Guidance(curriculum=Curriculum(rounds=4, first_share=0.5)),
    "pools": Guidance(difficulty_pools=DifficultyPools(failed=0.5), curriculum=Curriculum(rounds=4, first_share=0.7)),
    "refill": Guidance(dynamic_sampling=DynamicSampling(max_refills=1)),
    "hints": Guidance(hints=Hints(attempts=1)),
    "teacher in group": Guidance(teacher_in_group=TeacherInGroup(when="always")),
    "imitation": Guidance(imitation=Imitation(weight=0.1)),
    "informed self": Guidance(distillation=Distillation(teacher=InformedSelf(), weight=0.5)),
    "model teacher": Guidance(
        distillation=Distillation(teacher=ModelTeacher(model=FullStudent("embedded:student")), weight=0.5)
    ),
}


LOGGED = {
    "pools": "train/shop/pool/unseen",
    "refill": "train/guidance/refills",
    "hints": "train/guidance/hinted",
    "informed self": "train/distillation/reverse_kl",
}
"""What shows that it has done something."""


@pytest.mark.parametrize("name", GUIDED)
def test_each_guidance_in_a_mixture_and_resumed(tmp_path: Path, name: str) -> None:
    """Success is `correct` in one environment, and in the other, which has no such term, the one that says so."""
    data = {"guidance": GUIDED[name]}
    whole = fit(tmp_path / "whole", data=data, max_steps=2)
    for drawn in whole.diary.rounds:
        prompts = {reference_id for reference_id, _ in drawn}
        assert sum(one.startswith("order-") for one in prompts) == 1
        assert sum(one.startswith("train-") for one in prompts) == 2
    if name in LOGGED:
        assert whole.log.steps[0][LOGGED[name]] > 0
    if name == "model teacher":  # the student itself: only rounding is between them, in either environment
        assert whole.log.steps[0]["train/distillation/reverse_kl"] == pytest.approx(0.0, abs=1e-5)
        assert whole.log.steps[0]["train/distillation/left_out"] == 0.0
    resumed = fit(tmp_path / "resumed", data=data, max_steps=2, ckpt_path=whole.checkpoint % 1)
    assert resumed.diary.rounds == whole.diary.rounds[1:] and same(resumed.weights, whole.weights)


@pytest.mark.parametrize("step", [1, 2])
def test_a_mixture_with_a_round_ahead(tmp_path: Path, step: int) -> None:
    data = {"round": {"prompts_per_round": 3, "ahead": 1}}
    module = lambda: {"engine": OwnWeights(), "correction": TruncatedImportanceSampling()}  # noqa: E731
    whole = fit(tmp_path / "whole", data=data, module=module(), max_steps=4)
    assert [entry["train/staleness"] for entry in whole.log.steps] == [0, 1, 0, 1]  # two rounds an epoch
    for drawn in whole.diary.rounds:
        assert sum(name.startswith("order-") for name in {reference_id for reference_id, _ in drawn}) == 1
    resumed = fit(tmp_path / "resumed", data=data, module=module(), max_steps=4, ckpt_path=whole.checkpoint % step)
    tried = [[reference_id for reference_id, _ in drawn] for drawn in whole.diary.rounds]
    assert [[reference_id for reference_id, _ in drawn] for drawn in resumed.diary.rounds] == tried[step:]
    if step == 2:  # between epochs, where nothing is under way
        assert same(resumed.weights, whole.weights)
