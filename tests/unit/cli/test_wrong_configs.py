"""Configs with one wrong value each: one line, which names the culprit, before the student is loaded.

The unit tier tries a few of each kind; `tests/integration/test_wrong_configs.py` tries hundreds.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mentor_pl.cli import training
from tests.unit.cli.wrong_configs import (
    Case,
    answer,
    before_the_student,
    faults_of,
    misspelt,
    mistyped,
    resolved_default,
    write,
)


@pytest.fixture(scope="module")
def default() -> Iterator[dict[str, Any]]:
    patch = pytest.MonkeyPatch()
    with before_the_student(patch):
        yield resolved_default()
    patch.undo()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_default_itself_comes_to_the_student(default: dict[str, Any], here: Path) -> None:
    assert answer(write(Case(keys=(), value=None, config=default), here)).status is None


def test_the_schema_knows_every_key_of_the_command(default: dict[str, Any]) -> None:
    assert default.keys() <= training._Parser.schema.keys()


@pytest.mark.parametrize("seed", range(12))
def test_a_value_of_the_wrong_type(seed: int, default: dict[str, Any], here: Path) -> None:
    [case] = mistyped(default, 1, seed)
    assert faults_of(case, answer(write(case, here))) == []


@pytest.mark.parametrize("seed", range(8))
def test_a_key_that_there_is_not(seed: int, default: dict[str, Any], here: Path) -> None:
    [case] = misspelt(default, 1, seed)
    given = answer(write(case, here))
    assert given.status == 2
    assert faults_of(case, given) == []


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--model.optimizer.init_args.lr=-1", "model.optimizer: AdamW cannot be made: Invalid learning rate: -1.0"),
        (
            "--model.lr_scheduler={class_path: StepLR, init_args: {step_size: 0}}",
            "model.lr_scheduler cannot be used: Zero",
        ),
        ("--data.advantages.init_args.min_std=-1", "GroupStandardized: min_std is -1.0; it must be a finite number"),
        ("--data.advantages.init_args.min_std=null", "GroupStandardized: min_std is null; expected a number"),
        ("--data.max_problems=-1", "data.evaluation_sampling.max_problems is -1; it must be at least 1"),
        ("--data.group_size=null", "data.round.group_size is null; expected an integer"),
        ("--data.evaluation={no: embedded:eval/id.jsonl}", "data.evaluation"),
        ("--data.evaluation={2024: embedded:eval/id.jsonl}", "data.evaluation"),
        ("--data.evaluation={a: ''}", "data.evaluation.a names no references"),
        ("--data.evaluation_sampling=[x]", "data.evaluation_sampling is ['x']; expected a EvaluationSampling"),
        ("--guard=-1", "guard is -1; expected a mapping"),
        ("--model.student.dtype=int3", "dtype"),
        (
            "--trainer.callbacks=[{class_path: EarlyStopping, init_args: {monitor: x, mode: zz}}]",
            "EarlyStopping cannot be",
        ),
        ("--seed_everything=4294967296", "seed_everything is 4294967296; it must be from 0 to 4294967295"),
        ("--seed_everything=-1", "seed_everything is -1; it must be from 0"),
        ("--trainer.strategy=zz", "Trainer cannot be made: You selected an invalid strategy name: `strategy='zz'`"),
        ("--trainer.devices=0", "devices"),
        ("--trainer.max_time={a: 1}", "max_time is {'a': 1}"),
        ("--trainer.precision=3", "trainer.precision is 3; expected"),
    ],
)
def test_a_value_that_cannot_be(argument: str, said: str, default: dict[str, Any], here: Path) -> None:
    given = answer([*write(Case(keys=(argument.partition("=")[0],), value=None, config=default), here), argument])
    assert said in given.said
    assert given.status in (1, 2) and given.said.strip().splitlines()[-1].startswith("mentor-pl: ")
    assert not given.crash
