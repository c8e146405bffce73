"""Two environments with different tools and rewards in one run, and a split with tools that training never saw."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint

from mentor_pl.environments import Environment
from mentor_pl.errors import ConfigError
from mentor_pl.guidance import (
    Curriculum,
    DifficultyPools,
    DynamicSampling,
    Guidance,
    Hints,
    Imitation,
    TeacherInGroup,
)
from mentor_pl.losses.sft import SFTLoss
from mentor_pl.rewards.correct import Correct
from mentor_pl.rewards.known_tools import KnownTools
from mentor_pl.rewards.program import RewardProgram, RewardTerm
from mentor_pl.rollout.limits import RolloutLimits
from mentor_pl.tools.declared import DeclaredTools
from mentor_pl.tools.functions import PythonFunctions
from mentor_pl.training.resume import check_same_run
from tests.unit.training.runs import Diary, make_data, make_module, make_trainer, same, some_references, weights

pytestmark = pytest.mark.integration  # whole runs


def write_orders(path: Path, count: int, tool: str = "cancel_order") -> str:
    """Write prompts with a tool of their own that nothing runs."""
    parameters = {"type": "object", "properties": {"order": {"type": "integer"}}, "required": ["order"]}
    spec = {"type": "function", "function": {"name": tool, "description": "Change.", "parameters": parameters}}
    rows = (
        {
            "id": f"order-{i}",
            "messages": [
                {"role": "user", "content": f"Change order {i}."},
                {"role": "assistant", "tool_calls": [{"function": {"name": tool, "arguments": {"order": i}}}]},
            ],
            "answer": "",
            "tools": [spec],
        }
        for i in range(count)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def program(**weights: float) -> RewardProgram:
    parts = {"correct": Correct(judge="exact"), "known": KnownTools()}
    return RewardProgram(
        terms=[RewardTerm(name=name, component=parts[name], weight=weight) for name, weight in weights.items()]
    )


def environments(folder: Path) -> list[Environment]:
    return [
        Environment(
            some_references(folder / "maths.jsonl", 4),
            tools=[PythonFunctions("mentor_pl.tools.arithmetic", workers=1)],
            reward=program(correct=0.9, known=0.1),
            weight=2,
        ),
        Environment(
            write_orders(folder / "shop.jsonl", 3),
            tools=[DeclaredTools()],
            reward=RewardProgram(terms=[RewardTerm(name="known", component=KnownTools(), weight=1.0, success=True)]),
            limits=RolloutLimits(max_turns=1, max_completion_tokens=20, park_after_s=60.0),
        ),
    ]


class Log(Callback):
    """Keeps what was logged of each step, and of the last evaluation."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        self.steps.append({name: float(value) for name, value in trainer.logged_metrics.items()})


def fit(
    folder: Path,
    *,
    data: dict[str, Any] | None = None,
    module: Any = None,
    ckpt_path: str | None = None,
    **trainer: Any,
):
    folder.mkdir(exist_ok=True)
    diary, log = Diary(), Log()
    save = ModelCheckpoint(folder / "checkpoints", every_n_train_steps=1, save_top_k=-1, filename="{step}")
    options = {"tools": None, "reward": None, "train": environments(folder), "round": {"prompts_per_round": 3}} | (
        data or {}
    )
    the_module, the_data = make_module(**module or {}), make_data(None, **options)
    try:
        runner = make_trainer(
            folder, diary, log, save, **{"max_steps": 4, "max_epochs": 9, "enable_checkpointing": True} | trainer
        )
        runner.fit(the_module, the_data, ckpt_path=ckpt_path)
        return SimpleNamespace(
            diary=diary, log=log, weights=weights(the_module), module=the_module, trainer=runner,
            checkpoint=str(folder / "checkpoints" / "step=%d.ckpt"),
        )  # fmt: skip
    finally:
        the_data.close()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory):
    return fit(tmp_path_factory.mktemp("mixture"))


def test_a_round_holds_both_with_their_shares(run) -> None:
    for drawn in run.diary.rounds:
        prompts = {reference_id for reference_id, _ in drawn}
        assert sum(name.startswith("order-") for name in prompts) == 1
        assert sum(name.startswith("train-") for name in prompts) == 2
    assert run.trainer.train_dataloader.rounds_per_epoch == 2  # 7 prompts in rounds of 3


def test_what_is_logged_of_each(run) -> None:
    for step in run.log.steps:
        assert {"train/maths/score/correct", "train/maths/score/known", "train/shop/score/known"} <= step.keys()
        assert "train/shop/score/correct" not in step and "train/score/known" not in step
        assert step["train/shop/reward"] == step["train/shop/score/known"]
        assert step["train/reward"] == pytest.approx((2 * step["train/maths/reward"] + step["train/shop/reward"]) / 3)
        assert step["train/shop/completion_tokens"] <= 20  # by its own limits


@pytest.mark.parametrize("step", [1, 3])  # within an epoch, and behind its end
def test_a_resumed_mixture_is_the_undisturbed_one(tmp_path: Path, run, step: int) -> None:
    resumed = fit(tmp_path / "resumed", ckpt_path=run.checkpoint % step)
    assert resumed.diary.rounds == run.diary.rounds[step:]
    assert resumed.diary.losses == run.diary.losses[step:]
    assert same(resumed.weights, run.weights)


def test_a_checkpoint_of_another_mixture_is_refused(tmp_path: Path) -> None:
    one, other = environments(tmp_path), environments(tmp_path)
    other[1].weight = 3.0
    before, after = (make_data(None, tools=None, reward=None, train=train) for train in (one, other))
    saved = {"mentor_pl_run": {"data": before.identity}}
    check_same_run(saved, before.identity)
    with pytest.raises(ConfigError, match=r"data.train.shop.weight is 3.0, but the checkpoint was saved with 1.0"):
        check_same_run(saved, after.identity)
    for data in (before, after):
        data.close()


def test_a_split_with_tools_that_training_never_saw(tmp_path: Path) -> None:
    unseen = Environment(
        write_orders(tmp_path / "unseen.jsonl", 2, tool="refund"), tools=[DeclaredTools()], like="shop"
    )
    like = Environment(some_references(tmp_path / "id.jsonl", 2), like="maths")
    done = fit(
        tmp_path, data={"evaluation": {"unseen": unseen, "id": like}}, max_steps=1, limit_val_batches=1.0, num_sanity_val_steps=0,
        val_check_interval=1,
    )  # fmt: skip
    found = done.module.evaluation
    assert found["unseen"].keys() >= {"score/known", "reward"} and "score/correct" not in found["unseen"]
    assert found["id"].keys() >= {"score/known", "score/correct", "success"}


def test_imitating_both(tmp_path: Path) -> None:
    done = fit(tmp_path, data={"train_on": "references"}, module={"loss": SFTLoss()}, max_steps=2)
    assert len(done.trainer.train_dataloader.samples) == 7 and len(done.diary.losses) == 2


def test_guidance_asks_each_environment_what_its_success_is(tmp_path: Path) -> None:
    """It is `correct` in one, and in the other, which has no such term, the one that says so."""
    guidance = Guidance(
        curriculum=Curriculum(rounds=4, first_share=0.7),
        difficulty_pools=DifficultyPools(failed=0.5),
        hints=Hints(attempts=1),
        teacher_in_group=TeacherInGroup(when="always"),
        imitation=Imitation(weight=0.1),
    )
    done = fit(tmp_path, data={"guidance": guidance}, max_steps=1)
    (logged,) = done.log.steps
    assert (logged["train/maths/pool/unseen"], logged["train/shop/pool/unseen"]) == (0.5, pytest.approx(2 / 3))
    assert logged["train/success"] == pytest.approx(
        (2 * logged["train/maths/success"] + logged["train/shop/success"]) / 3
    )


def test_a_replaced_prompt_is_replaced_by_one_of_its_environment(tmp_path: Path) -> None:
    """Every group fails at once, so each of the round's prompts is replaced as often as there are others."""
    guidance = Guidance(success="known", dynamic_sampling=DynamicSampling(max_refills=1))
    done = fit(tmp_path, data={"guidance": guidance}, max_steps=1)
    prompts = {reference_id for reference_id, _ in done.diary.rounds[0]}
    assert sum(name.startswith("order-") for name in prompts) == 1


def test_an_environment_that_tells_no_success_is_refused_where_one_is_asked_for(tmp_path: Path) -> None:
    train = environments(tmp_path)
    train[1].reward = RewardProgram(terms=[RewardTerm(name="known", component=KnownTools(), weight=1.0)])
    with pytest.raises(ConfigError, match="no term of a reward program says so; the terms are known: give one of them"):
        make_data(None, tools=None, reward=None, train=train, guidance=Guidance(hints=Hints()))


def test_an_environment_too_small_for_its_share(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="so large that it has 4 of 'shop', but there are 3 prompts"):
        fit(tmp_path, data={"round": {"prompts_per_round": 12}, "train": [*reversed(environments(tmp_path))]})


def test_an_environment_without_a_reward(tmp_path: Path) -> None:
    train = environments(tmp_path)
    train[1].reward = None
    with pytest.raises(ConfigError, match="data.reward is missing, and the environment 'shop' has none of its own"):
        make_data(None, tools=None, reward=None, train=train)


def test_nothing_to_train_on(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is nothing to train on"):
        fit(
            tmp_path,
            data={
                "train": None,
                "evaluation": {"shop": environments(tmp_path)[1].references},
                "tools": [DeclaredTools()],
            },
        )
