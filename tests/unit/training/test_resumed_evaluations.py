"""A stop within an evaluation: the resumed run makes that evaluation, once, and logs it as the undisturbed run does."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, Timer
from lightning.pytorch.loggers.logger import DummyLogger
from torch import Tensor
from torch.utils.data import DataLoader

from mentor_pl.training.resume import ResumableRun
from mentor_pl.training.rounds import StreamPosition

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*dataloader is not resumable"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory"),
]
BATCHES = 4


class Stopped(Exception):
    pass


class Weight(LightningModule):
    """Learns nothing: only the course of its run matters."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss = self.layer(batch).mean()
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("val/score", 1.0)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)

    def configure_callbacks(self) -> list[Callback]:
        return [ResumableRun()]


class Numbers(LightningDataModule):
    identity: dict[str, str | int] = {}

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(torch.zeros(BATCHES, 1))  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(torch.zeros(2, 1))  # type: ignore[arg-type]

    def position(self) -> StreamPosition:
        return StreamPosition(rounds_done=0, steps_left=[])

    def go_to(self, position: StreamPosition) -> None:
        pass


class Log(DummyLogger):
    """Keeps what is logged: the kind of row, its step and its epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[str, int, int]] = []

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:  # type: ignore[override]
        kind = "val" if "val/score" in metrics else "train"
        self.rows.append((kind, step, int(metrics["epoch"])))


class StopIn(Callback):
    """Ends the run in an evaluation's middle, and saves, as a signal does."""

    def __init__(self, evaluation: int, file: Path) -> None:
        self.evaluation = evaluation
        self.file = file
        self.begun = 0

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 0:
            self.begun += 1
            if self.begun == self.evaluation:
                raise Stopped

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        trainer.save_checkpoint(self.file)


def fit(
    folder: Path, *callbacks: Callback, ckpt_path: Path | None = None, **settings: Any
) -> list[tuple[str, int, int]]:
    log = Log()
    options: dict[str, Any] = {"max_epochs": 3, "logger": log, "enable_checkpointing": False} | settings
    trainer = Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        callbacks=list(callbacks),
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    try:
        trainer.fit(Weight(), datamodule=Numbers(), ckpt_path=ckpt_path, weights_only=True)
    except Stopped:
        pass
    return log.rows


LENGTHS = {
    "by epochs": {},
    "by steps": {"max_epochs": -1, "max_steps": 10},
    "twice an epoch": {"val_check_interval": 2},
    "every second epoch": {"check_val_every_n_epoch": 2, "max_epochs": 4},
    "whatever the epoch": {"check_val_every_n_epoch": None, "val_check_interval": 3},
    "of several batches": {"accumulate_grad_batches": 2},
}


@pytest.mark.parametrize("length", LENGTHS)
def test_an_evaluation_that_was_cut_off_is_made_again(tmp_path: Path, length: str) -> None:
    undisturbed = fit(tmp_path, **LENGTHS[length])
    evaluations = [row for row in undisturbed if row[0] == "val"]
    assert len(evaluations) > 1
    for number in range(1, len(evaluations) + 1):
        stopped = fit(tmp_path, StopIn(number, tmp_path / "last.ckpt"), **LENGTHS[length])
        assert len(stopped) < len(undisturbed)
        assert stopped + fit(tmp_path, ckpt_path=tmp_path / "last.ckpt", **LENGTHS[length]) == undisturbed


def test_a_checkpoint_of_an_epochs_last_step_comes_before_its_evaluation(tmp_path: Path) -> None:
    saved = ModelCheckpoint(dirpath=tmp_path, filename="{step}", every_n_train_steps=1, save_top_k=-1)
    undisturbed = fit(tmp_path, saved, enable_checkpointing=True)
    assert undisturbed[BATCHES] == ("val", 3, 0)
    assert fit(tmp_path, ckpt_path=tmp_path / "step=4.ckpt") == undisturbed[BATCHES:]


class Interval(Callback):
    """Asks for an evaluation behind one step, as an interval in seconds does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        trainer._last_val_time = 1e9 if trainer.global_step != self.step else -1e9


def test_an_evaluation_after_an_interval_in_seconds_is_made_again(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"val_check_interval": timedelta(hours=100), "max_epochs": 2}
    undisturbed = fit(tmp_path, Interval(6), **settings)
    assert [row for row in undisturbed if row[0] == "val"] == [("val", 5, 1)]
    stopped = fit(tmp_path, Interval(6), StopIn(1, tmp_path / "last.ckpt"), **settings)
    assert stopped + fit(tmp_path, ckpt_path=tmp_path / "last.ckpt", **settings) == undisturbed


class NoTimeLeft(Timer):
    """Its time is over at one step."""

    def __init__(self, step: int) -> None:
        super().__init__(duration=timedelta(hours=1))
        self.step = step

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            self._offset = 4000
            self._check_time_remaining(trainer)


def test_the_evaluation_once_the_time_is_over_is_made_again(tmp_path: Path) -> None:
    undisturbed = fit(tmp_path, NoTimeLeft(6))
    assert undisturbed[-1] == ("val", 5, 1)
    stopped = fit(tmp_path, NoTimeLeft(6), StopIn(2, tmp_path / "last.ckpt"))
    assert stopped + fit(tmp_path, NoTimeLeft(6), ckpt_path=tmp_path / "last.ckpt") == undisturbed


class FailAtTheEnd(StopIn):
    """Ends the run behind its last update."""

    def __init__(self, file: Path) -> None:
        super().__init__(0, file)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        raise Stopped


class Ended(Callback):
    """Notes that a run came to its end."""

    ended = False

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.ended = True


def early() -> EarlyStopping:
    return EarlyStopping("val/score", patience=1, mode="max")


def test_a_run_that_was_stopped_early_trains_no_further_once_resumed(tmp_path: Path) -> None:
    undisturbed = fit(tmp_path, early(), max_epochs=9)
    assert undisturbed[-1] == ("val", 7, 1)
    assert fit(tmp_path, early(), FailAtTheEnd(tmp_path / "last.ckpt"), max_epochs=9) == undisturbed
    ended = Ended()
    assert fit(tmp_path, early(), ended, ckpt_path=tmp_path / "last.ckpt", max_epochs=9) == []
    assert ended.ended


def test_a_run_that_its_length_ended_goes_on_with_a_greater_one(tmp_path: Path) -> None:
    for length, longer in (({"max_epochs": 1}, {"max_epochs": 2}), ({"max_steps": 4}, {"max_steps": 8})):
        fit(tmp_path, FailAtTheEnd(tmp_path / "last.ckpt"), **length)
        assert len(fit(tmp_path, ckpt_path=tmp_path / "last.ckpt", **longer)) == BATCHES + 1
    fit(tmp_path, NoTimeLeft(4), FailAtTheEnd(tmp_path / "last.ckpt"), max_epochs=2)
    assert len(fit(tmp_path, ckpt_path=tmp_path / "last.ckpt", max_epochs=2)) == BATCHES + 1
