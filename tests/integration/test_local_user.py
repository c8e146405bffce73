"""A simulated user that is a local model, without any endpoint: it really speaks with the student in training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback

from mentor_pl.judging.local_model import LocalJudgeModel
from mentor_pl.rollout.limits import RolloutLimits
from mentor_pl.simulation.simulator import SimulatorSettings
from mentor_pl.simulation.user import SimulatedUser
from mentor_pl.students.base import StudentLoader
from mentor_pl.students.full import FullStudent
from mentor_pl.trajectory import Trajectory
from tests.unit.training.runs import make_data, make_module, make_trainer, read_jsonl, some_references

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


class Nobody(StudentLoader):
    """A model that must not be loaded."""

    def load_tokenizer(self) -> Any:
        raise AssertionError("the model was asked")

    load_model = load_tokenizer


class Trajectories(Callback):
    """Keeps what was trained on."""

    def __init__(self) -> None:
        self.kept: list[Trajectory] = []

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.kept += [t for scored in batch.scored_groups for t in scored.group.trajectories]


def spoken(folder: Path, model: StudentLoader, journal: Path) -> list[Trajectory]:
    """Train one update with a user who is a model; return the trajectories."""
    # The starting student knows sums only; at temperature 1 it writes an answer now and then, which is what this user says.
    speaker = LocalJudgeModel(model, name="starting student", max_completion_tokens=30, temperature=1.0)
    user = SimulatedUser(
        speaker,
        instructions="You want to know what 3 + 4 is.",
        max_messages=1,
        cache=journal,
        settings=SimulatorSettings(max_asks=30),
    )
    limits = RolloutLimits(max_turns=3, max_completion_tokens=60, park_after_s=60.0)
    data = make_data(some_references(folder / "maths.jsonl", 2), user=user, limits=limits)
    seen = Trajectories()
    try:
        make_trainer(folder, seen, max_steps=1).fit(make_module(), data)
    finally:
        data.close()
    return seen.kept


def tokens(trajectories: list[Trajectory]) -> list[list[tuple[tuple[int, ...], str | None]]]:
    return [[(turn.completion.token_ids, turn.follow_up) for turn in t.turns] for t in trajectories]


def test_a_local_model_speaks_with_the_student_and_a_seeded_run_repeats(tmp_path: Path) -> None:
    journal = tmp_path / "user.jsonl"
    trajectories = spoken(tmp_path, FullStudent("embedded:student"), journal)
    said = {turn.follow_up for t in trajectories for turn in t.turns if turn.follow_up is not None}
    written = {row["message"]["content"].strip() for row in read_jsonl(journal) if row["kind"] == "reply"}
    assert said and said <= written
    assert not any(t.failed_infrastructure for t in trajectories)
    went_on = [t for t in trajectories if any(turn.follow_up is not None for turn in t.turns[:-1])]
    assert went_on  # the student has a turn behind what the user said

    # Every reply is on disk before it is used: the same run again asks nobody, and is the same.
    again = spoken(tmp_path, Nobody(), journal)
    assert tokens(again) == tokens(trajectories)
