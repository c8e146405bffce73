"""Two environments in one run: the same on one rank and on two, and after going on from the other's checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.testing import assert_close

from tests.integration.distributed.runs import DDP, Runs
from tests.unit.training.test_mixtures import write_orders

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

GUIDED = (
    *(
        "--data.guidance.curriculum",
        "{rounds: 2, first_share: 0.5}",
        "--data.guidance.difficulty_pools",
        "{failed: 0.5}",
    ),
    *("--data.guidance.dynamic_sampling", "{max_refills: 1}", "--data.guidance.hints", "{attempts: 1}"),
    *("--data.guidance.teacher_in_group", "{weight: 0.5}", "--data.guidance.imitation", "{weight: 0.1}"),
    *("--data.advantages", "BatchStandardized"),
)
RECORDED = ("--recorder.every_n_rounds", "1", "--summary.enabled", "true", "--data.max_problems", "3")


def overlay(folder: Path) -> tuple[str, ...]:
    correct = {"name": "correct", "component": "Correct", "weight": 1.0}
    known = {"name": "known", "component": "KnownTools", "weight": 1.0, "success": True}
    declared: dict[str, Any] = {"tools": ["DeclaredTools"], "reward": {"terms": [known]}}
    data = {
        "references": None,
        "train": [
            {"references": "embedded:train.stepwise.jsonl", "name": "maths", "reward": {"terms": [correct]}},
            {"references": write_orders(folder / "shop.jsonl", 8), **declared},
        ],
        "evaluation": {
            "id": {"references": "embedded:eval/id.jsonl", "like": "maths"},
            "refunds": {"references": write_orders(folder / "refunds.jsonl", 5, tool="refund"), **declared},
        },
    }
    file = folder / "mixture.yaml"
    file.write_text(yaml.safe_dump({"data": data}))
    return ("--config", str(file), *RECORDED)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    runs = Runs(tmp_path_factory.mktemp("runs"))
    mixture = overlay(runs.folder)
    runs.train({"alone": mixture, "guided": (*mixture, *GUIDED)})
    go_on = ("--ckpt_path", str(runs.checkpoint("alone", 2)))
    guided_on = ("--ckpt_path", str(runs.checkpoint("guided", 2)))
    runs.train({"guided again": (*mixture, *GUIDED, *guided_on)})
    runs.train(
        {
            "pair": (*DDP, *mixture),
            "pair from one": (*DDP, *mixture, *go_on),
            "guided pair": (*DDP, *mixture, *GUIDED),
            "guided pair from one": (*DDP, *mixture, *GUIDED, *guided_on),
        }
    )
    return runs


def tried(runs: Runs, name: str) -> list[tuple[int, str, str, int]]:
    rows = [
        json.loads(line)
        for file in (runs.folder / name / "trajectories").glob("train.rank*.jsonl")
        for line in file.read_text().splitlines()
    ]
    return sorted((row["step"], row["environment"], row["reference_id"], row["sample_index"]) for row in rows)


@pytest.mark.parametrize(("name", "pair"), [("alone", "pair"), ("guided", "guided pair")])
def test_two_ranks_try_what_one_tries(runs: Runs, name: str, pair: str) -> None:
    alone = tried(runs, name)
    assert {environment for _, environment, _, _ in alone} == {"maths", "shop"}
    assert tried(runs, pair) == alone
    assert tried(runs, f"{pair} from one") == [row for row in alone if row[0] >= 2]


@pytest.mark.parametrize(("name", "pair"), [("alone", "pair"), ("guided", "guided pair")])
def test_two_ranks_log_what_one_logs(runs: Runs, name: str, pair: str) -> None:
    alone, together = runs.log(name), runs.log(pair)
    assert len(alone) == 3 and {"train/shop/reward", "train/maths/score/correct", "train/success"} <= alone[0].keys()
    for one, two in zip(alone[:2], together[:2], strict=True):
        assert one.keys() == two.keys()
        assert_close(list(one.values()), [two[key] for key in one], rtol=1e-3, atol=1e-3)


def test_a_guided_mixture_is_resumed_to_the_bit(runs: Runs) -> None:
    whole, resumed = runs.weights("guided", 3), runs.weights("guided again", 3)
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_each_split_is_measured_by_its_own_reward(runs: Runs) -> None:
    for name in ("alone", "pair"):
        after = json.loads((runs.folder / name / "summary.json").read_text())["after"]
        assert "score/correct" in after["id"] and "score/correct" not in after["refunds"]
        assert "score/known" in after["refunds"] and after["refunds"]["tool_similarity"] >= 0
