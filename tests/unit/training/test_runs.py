"""What holds for a whole run: it repeats, it resumes as if nothing had happened, and how it is cut up does not matter."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch.testing import assert_close

from mentor_pl.losses.grpo import GRPOLoss
from mentor_pl.losses.sft import SFTLoss
from mentor_pl.rewards.program import RewardProgram, RewardTerm
from mentor_pl.rewards.tool_match import ToolMatch
from tests.unit.training.runs import Diary, make_data, make_module, make_trainer, same, some_references, weights

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:The dirpath has changed"),  # each run has its own
]


@dataclasses.dataclass
class Run:
    diary: Diary
    weights: dict[str, torch.Tensor]
    checkpoint: str


def fit(folder, references, *, ckpt_path=None, trainer=None, data=None, module=None) -> Run:
    """Train for two epochs of two rounds; a checkpoint after every step is kept."""
    diary = Diary()
    checkpoints = ModelCheckpoint(dirpath=folder, filename="{step}", every_n_train_steps=1, save_top_k=-1)
    options = {"max_epochs": 2, "enable_checkpointing": True} | (trainer or {})
    the_module, the_data = make_module(**module or {}), make_data(references, **data or {})
    make_trainer(folder, diary, checkpoints, **options).fit(the_module, the_data, ckpt_path=ckpt_path)
    the_data.close()
    return Run(diary, weights(the_module), str(folder / "step=%d.ckpt"))


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    return some_references(tmp_path_factory.mktemp("data") / "references.jsonl", 4)


@pytest.fixture(scope="module")
def run(tmp_path_factory, references):
    return fit(tmp_path_factory.mktemp("run"), references)


def test_a_run_moves_the_weights_and_tries_every_prompt_in_each_epoch(run, references):
    start = make_module().loader.load_model().state_dict()
    assert not same(run.weights, start)
    assert len(run.diary.losses) == len(run.diary.rounds) == 4
    tried = [{name for name, _ in round_} for round_ in run.diary.rounds]
    assert [len(names) for names in tried] == [2, 2, 2, 2]
    assert tried[0] | tried[1] == tried[2] | tried[3]
    assert len(tried[0] | tried[1]) == 4


def test_one_seed_gives_one_run(tmp_path, run, references):
    again = fit(tmp_path, references)
    assert again.diary.losses == run.diary.losses
    assert again.diary.rounds == run.diary.rounds
    assert same(again.weights, run.weights)


def test_another_seed_gives_another_run(tmp_path, run, references):
    other = fit(tmp_path, references, data={"seed": 1}, trainer={"max_steps": 1})
    assert other.diary.rounds[0] != run.diary.rounds[0]


@pytest.mark.parametrize("step", [1, 2, 3])  # in the first epoch, between the two, in the second
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, run, references, step):
    resumed = fit(tmp_path, references, ckpt_path=run.checkpoint % step)
    assert resumed.diary.losses == run.diary.losses[step:]
    assert resumed.diary.rounds == run.diary.rounds[step:]
    assert same(resumed.weights, run.weights)


@pytest.fixture(scope="module")
def accumulated(tmp_path_factory, references):
    folder = tmp_path_factory.mktemp("accumulated")
    return fit(folder, references, trainer={"accumulate_grad_batches": 2})


def test_accumulation_changes_nothing_but_memory(tmp_path, run, accumulated, references):
    assert (run.diary.micro_batches, accumulated.diary.micro_batches) == (4, 8)
    assert_close(accumulated.diary.losses, run.diary.losses, rtol=0, atol=1e-6)
    four = fit(tmp_path, references, trainer={"accumulate_grad_batches": 4, "max_steps": 1})
    assert four.diary.micro_batches == 4
    assert_close(four.diary.losses, run.diary.losses[:1], rtol=0, atol=1e-6)
    assert accumulated.diary.rounds == run.diary.rounds  # the weights stayed close enough for the same samples


def test_an_accumulated_run_resumes_too(tmp_path, accumulated, references):
    resumed = fit(tmp_path, references, ckpt_path=accumulated.checkpoint % 3, trainer={"accumulate_grad_batches": 2})
    assert resumed.diary.losses == accumulated.diary.losses[3:]
    assert same(resumed.weights, accumulated.weights)


def test_padding_changes_nothing_but_time(tmp_path, run, references):
    padded = fit(tmp_path, references, module={"packing": False}, trainer={"max_steps": 2})
    assert padded.diary.rounds == run.diary.rounds[:2]
    assert_close(padded.diary.losses, run.diary.losses[:2], rtol=0, atol=1e-5)


def test_a_round_may_take_several_steps_and_passes(tmp_path, references):
    options = {"round": {"steps": 2, "passes": 2}}
    whole = fit(tmp_path / "whole", references, data=options, trainer={"max_epochs": 1})
    assert (len(whole.diary.rounds), len(whole.diary.losses)) == (2, 8)
    resumed = fit(
        tmp_path / "resumed", references, data=options, trainer={"max_epochs": 1}, ckpt_path=whole.checkpoint % 4
    )
    assert resumed.diary.losses == whole.diary.losses[4:]
    assert same(resumed.weights, whole.weights)


def test_rewards_that_are_all_equal_move_nothing(tmp_path, references):
    """Without KL the gradient is exactly 0; AdamW without weight decay then leaves every weight as it is."""
    flat = RewardProgram(terms=[RewardTerm(name="none", component=ToolMatch(), weight=0.0)])
    still = fit(
        tmp_path,
        references,
        data={"reward": flat},
        module={
            "loss": GRPOLoss(kl_weight=0.0),
            "optimizer": lambda parameters: torch.optim.AdamW(parameters, lr=0.1, weight_decay=0.0),
        },
        trainer={"max_steps": 2},
    )
    assert still.diary.losses == [0.0, 0.0]
    assert same(still.weights, make_module().loader.load_model().state_dict())


def test_imitation_learns_its_references_and_resumes(tmp_path, references):
    sft = {"train_on": "references", "reward": None}
    imitation = {"loss": SFTLoss()}
    whole = fit(tmp_path / "whole", references, data=sft, module=imitation, trainer={"max_epochs": 4})
    assert len(whole.diary.losses) == 8
    assert sum(whole.diary.losses[-2:]) < 0.7 * sum(whole.diary.losses[:2])
    resumed = fit(
        tmp_path / "resumed",
        references,
        data=sft,
        module=imitation,
        trainer={"max_epochs": 4},
        ckpt_path=whole.checkpoint % 5,
    )
    assert resumed.diary.losses == whole.diary.losses[5:]
    assert same(resumed.weights, whole.weights)


def test_lightnings_own_parts_work(tmp_path, references):
    """A logger, a callback, a scheduler, clipping, a monitored checkpoint."""
    module, data = (
        make_module(lr_scheduler=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)),
        make_data(references),
    )
    best = ModelCheckpoint(dirpath=tmp_path, monitor="train/reward", mode="max", every_n_train_steps=1)
    trainer = make_trainer(
        tmp_path,
        best,
        LearningRateMonitor(),
        logger=CSVLogger(tmp_path, name="", version=""),
        enable_checkpointing=True,
        gradient_clip_val=1e-3,
    )
    trainer.fit(module, data)
    data.close()
    rows = (tmp_path / "metrics.csv").read_text().splitlines()
    header = rows[0].split(",")
    table = [dict(zip(header, row.split(","), strict=True)) for row in rows[1:]]
    rates = [float(row["lr-AdamW"]) for row in table if row["lr-AdamW"]]
    assert rates == [1e-3, 5e-4]
    logged = [row for row in table if row["train/loss"]]
    assert [row["step"] for row in logged] == ["0", "1"]
    assert all(row[name] for row in logged for name in ("train/reward", "train/kl", "train/score/correct"))
    assert float(best.best_model_score) == max(float(row["train/reward"]) for row in logged)
