"""A local model as a judge: what it says is no verdict, since nobody taught it one, and so no score."""

from pathlib import Path

import pytest

from mentor_pl.embedded.location import path
from mentor_pl.judging.llm_judge import LLMJudge
from mentor_pl.judging.local_model import LocalJudgeModel
from mentor_pl.judging.rubric import Rubric
from mentor_pl.messages import Message
from mentor_pl.reference import Reference
from mentor_pl.rewards.base import NoScore
from mentor_pl.students.full import FullStudent
from mentor_pl.testing import trajectory
from mentor_pl.trajectory import TrajectoryGroup


@pytest.mark.integration
def test_a_local_model_judges(tmp_path: Path) -> None:
    model = LocalJudgeModel(FullStudent(str(path("student"))), name="starting student", max_completion_tokens=8)
    judge = LLMJudge(Rubric(criteria={"a": "b"}), model, tmp_path / "judge.jsonl", max_asks=1)
    reference = Reference(reference_id="r", prompt=(Message(role="user", content="Hi"),), answer="", tools=())
    (verdict,) = judge.score_group(TrajectoryGroup(references=(reference,), trajectories=(trajectory("Hello"),)))
    assert isinstance(verdict, NoScore)
    assert "no verdict in 1 replies" in verdict.reason or "do not fit" in verdict.reason
