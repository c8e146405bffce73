from __future__ import annotations

import pytest
from lightning.pytorch import Trainer

from mentor_pl.training.run_position import RunPosition, is_validation_due, loops_at


def make_trainer(**options: int) -> Trainer:
    return Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, **options)


def test_a_position_moves_by_steps_evaluations_and_epochs() -> None:
    position = RunPosition().after_step().after_step().after_validation()
    assert position == RunPosition(step=2, steps_in_epoch=2, validated=True)
    assert position.after_epoch().after_step() == RunPosition(step=3, epoch=1, steps_in_epoch=1)


@pytest.mark.parametrize(
    ("options", "reached"),
    [({"max_steps": 6}, True), ({"max_steps": 7}, False), ({"max_epochs": 2}, True), ({"max_epochs": 3}, False)],
)
def test_a_length_in_steps_or_epochs_is_reached(options: dict[str, int], reached: bool) -> None:
    assert RunPosition(step=6, epoch=2).has_reached(make_trainer(**options)) is reached


def test_lightning_takes_every_counter_of_a_position() -> None:
    trainer = make_trainer(max_steps=99)
    state = loops_at(RunPosition(step=6, epoch=1, steps_in_epoch=2), accumulate_grad_batches=3)
    assert state.keys() <= trainer.fit_loop.state_dict().keys()
    trainer.fit_loop.load_state_dict(state)
    epoch_loop = trainer.fit_loop.epoch_loop
    assert trainer.fit_loop.state_dict()["epoch_loop.state_dict"] == {"_batches_that_stepped": 6}
    assert (epoch_loop.batch_progress.total.ready, epoch_loop.batch_progress.current.ready) == (18, 6)
    progress = trainer.fit_loop.epoch_progress.current
    assert (progress.ready, progress.completed) == (2, 1)
    assert epoch_loop.automatic_optimization.optim_progress.optimizer_steps == 6


def test_an_evaluation_is_due_at_lightnings_interval() -> None:
    trainer = make_trainer(max_epochs=4, check_val_every_n_epoch=2)
    trainer.val_check_batch = 4
    assert not is_validation_due(trainer, RunPosition(step=4, epoch=0, steps_in_epoch=4))  # the first epoch has none
    trainer.check_val_every_n_epoch = 1
    trainer.fit_loop.epoch_loop.val_loop  # noqa: B018
    assert not is_validation_due(trainer, RunPosition(step=4, epoch=1, steps_in_epoch=0))
