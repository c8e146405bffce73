"""A local model as a judge: what it says is no verdict, since nobody taught it one, and so no score."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from mentor_pl.embedded.location import path
from mentor_pl.judging.llm_judge import LLMJudge
from mentor_pl.judging.local_model import LocalJudgeModel
from mentor_pl.judging.rubric import Rubric
from mentor_pl.messages import Message
from mentor_pl.reference import Reference
from mentor_pl.rewards.base import NoScore
from mentor_pl.students.full import FullStudent
from mentor_pl.testing import trajectory
from mentor_pl.testing.tiny_models import tiny_random_model
from mentor_pl.trajectory import TrajectoryGroup


def without_a_longest_context(folder: Path) -> str:
    tokenizer = AutoTokenizer.from_pretrained(str(path("student")))
    tokenizer.save_pretrained(folder)
    model = tiny_random_model("mamba2", vocab_size=len(tokenizer))
    del model.config.max_position_embeddings
    model.save_pretrained(folder)
    return str(folder)


@pytest.mark.integration
@pytest.mark.parametrize("student", ["embedded", "recurrent"])
def test_a_local_model_judges(student: str, tmp_path: Path) -> None:
    folder = str(path("student")) if student == "embedded" else without_a_longest_context(tmp_path / "mamba2")
    model = LocalJudgeModel(FullStudent(folder), name="a student", max_completion_tokens=8)
    judge = LLMJudge(Rubric(criteria={"a": "b"}), model, tmp_path / "judge.jsonl", max_asks=1)
    reference = Reference(reference_id="r", prompt=(Message(role="user", content="Hi"),), answer="", tools=())
    (verdict,) = judge.score_group(TrajectoryGroup(references=(reference,), trajectories=(trajectory("Hello"),)))
    assert isinstance(verdict, NoScore)
    assert "no verdict in 1 replies" in verdict.reason or "do not fit" in verdict.reason
