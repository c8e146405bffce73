"""Keeps a run's position in its checkpoints, and takes a resumed run up there."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol, cast

import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer

from mentor_pl.errors import ConfigError
from mentor_pl.training.batching import batch_from_state, batch_to_state
from mentor_pl.training.rounds import StreamPosition
from mentor_pl.training.run_position import RunPosition, go_on, is_validation_due, loops_at

RUN_KEY = "mentor_pl_run"
"""Where a checkpoint holds what `ResumableRun` keeps."""


class ResumableData(Protocol):
    """What a data module must be able to do."""

    identity: Mapping[str, str | int]

    def position(self) -> StreamPosition:
        """Return where this rank's training goes on."""
        ...

    def go_to(self, position: StreamPosition) -> None:
        """Let training go on from there."""
        ...


class ResumableRun(Callback):
    """Makes a resumed run the same run, wherever it was cut and however its length is given.

    The module attaches it to every Trainer. A run that was stopped behind its last step trains no
    more, but ends as it would have: with its last evaluation, summary and export.
    """

    def __init__(self) -> None:
        self._position = RunPosition()
        self._is_resumed = False
        self._stops_at_once = False
        self._limits: tuple[int, int | None] = (-1, None)
        self._val_check_batch: float | None = None
        self._within_epoch = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note that an optimiser step is made."""
        self._position = self._present(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that an evaluation is due; those before the first epoch and behind the last are the summary's."""
        if self._within_epoch and not trainer.sanity_checking:
            self._position = self._present(trainer).within_validation()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that the weights were evaluated."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._position = self._present(trainer).after_validation()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that an epoch is made; one that a limit has cut short goes on when the run does."""
        self._within_epoch = False
        batches = self._position.steps_in_epoch * trainer.accumulate_grad_batches
        if batches >= trainer.num_training_batches:
            self._position = self._position.after_epoch()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the position. Called on every rank."""
        data = cast(ResumableData, trainer.datamodule)  # type: ignore[attr-defined]
        stream = data.position()
        checkpoint[RUN_KEY] = {
            "position": dataclasses.asdict(self._present(trainer).with_early_stop(trainer)),
            "rounds_done": stream.rounds_done,
            "order": stream.order,
            "steps_left": _of_every_rank(stream, alone=bool(getattr(pl_module, "saves_alone", False))),
            "data": dict(data.identity),
            "optimizers": [type(optimizer).__name__ for optimizer in trainer.optimizers],
        }

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Refuse what this run cannot go on from; set the position."""
        if trainer.state.fn != "fit":
            return
        data = cast(ResumableData, trainer.datamodule)  # type: ignore[attr-defined]
        check_same_run(checkpoint, data.identity)
        if isinstance(name := getattr(pl_module, "optimizer_name", None), str):
            check_same_optimizer(checkpoint, name)
        run = checkpoint[RUN_KEY]
        self._position = RunPosition(**run["position"])
        self._is_resumed = True
        data.go_to(
            StreamPosition(
                rounds_done=run["rounds_done"],
                steps_left=_of_this_rank(run["steps_left"], trainer),
                order=run.get("order", {}),
            )
        )
        accumulate = trainer.accumulate_grad_batches
        checkpoint["loops"] = {"fit_loop": loops_at(self._position, accumulate_grad_batches=accumulate)}
        if self._position.is_at_end(trainer):
            self._lift_limits(trainer)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the loop begin where `trainer.max_time` is over already; it would end without its end."""
        if self._is_resumed and trainer.should_stop:
            trainer.should_stop = False
            self._lift_limits(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the run up."""
        if not self._is_resumed:
            return
        self._is_resumed = False
        due = is_validation_due(trainer, self._position)
        if self._stops_at_once:
            trainer.fit_loop.epoch_loop.max_steps, trainer.fit_loop.max_epochs = self._limits
            trainer.should_stop = True
        begun = self._position.validating
        # Where training goes on, Lightning makes the one of its schedule itself, with the hooks that follow it.
        if not self._position.validated and (due or begun if self._stops_at_once else begun and not due):
            self._validate(trainer)
        if not self._stops_at_once:
            self._val_check_batch = trainer.val_check_batch
            self._position = go_on(trainer, self._position)

    def _validate(self, trainer: Trainer) -> None:
        """Make an evaluation that a stop cut off, or came before; its log belongs to the last step."""
        epoch_loop = trainer.fit_loop.epoch_loop
        epoch_loop.on_load_checkpoint({"_batches_that_stepped": self._position.step - 1})
        self._within_epoch = True
        validate_now(trainer)
        epoch_loop.on_load_checkpoint({"_batches_that_stepped": self._position.step})

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Give Lightning its interval of evaluations back."""
        self._within_epoch = True
        if self._val_check_batch is not None:
            trainer.val_check_batch = self._val_check_batch
            self._val_check_batch = None

    def _present(self, trainer: Trainer) -> RunPosition:
        return self._position.after_step() if trainer.global_step > self._position.step else self._position

    def _lift_limits(self, trainer: Trainer) -> None:
        """Lightning leaves a run that is at its end without calling a hook; so let it begin."""
        self._stops_at_once = True
        fit_loop = trainer.fit_loop
        self._limits = fit_loop.epoch_loop.max_steps, fit_loop.max_epochs
        fit_loop.epoch_loop.max_steps, fit_loop.max_epochs = -1, -1


def validate_now(trainer: Trainer) -> None:
    """Let Lightning run the validation of `fit`, with all its hooks, outside its own schedule."""
    trainer.validating = True
    try:
        trainer.fit_loop.epoch_loop.val_loop.run()
    finally:
        trainer.training = True


def check_same_run(checkpoint: Mapping[str, Any], identity: Mapping[str, str | int]) -> None:
    """Check that a checkpoint's position means the same under the present data settings.

    Raises:
        ConfigError: It does not.
    """
    run = checkpoint.get(RUN_KEY)
    if run is None:
        raise ConfigError(
            "--ckpt_path: the checkpoint holds no position of a run of mentor-pl; resume from `last.ckpt` of a run, or give "
            "weights without their optimiser by model.student.init_args.path"
        )
    for name, value in identity.items():
        saved = run["data"].get(name)
        if saved != value:
            raise ConfigError(
                f"--ckpt_path: data.{name} is {value!r}, but the checkpoint was saved with {saved!r}, so its place among the "
                "prompts means nothing here; resume with the data settings of the run, or `mentor-pl export` the checkpoint and "
                "start a new run from that student"
            )


def check_same_optimizer(checkpoint: Mapping[str, Any], optimizer: str) -> None:
    """Check that the saved state belongs to an optimiser of this class.

    Raises:
        ConfigError: It does not.
    """
    saved = checkpoint[RUN_KEY]["optimizers"]
    if saved != [optimizer]:
        raise ConfigError(
            f"--ckpt_path: model.optimizer is {optimizer}, but the checkpoint holds the state of {', '.join(saved)}; resume with "
            "the optimiser of the run, or `mentor-pl export` the checkpoint and start a new run from that student"
        )


def _of_every_rank(stream: StreamPosition, *, alone: bool) -> list[list[list[dict[str, Any]]]]:
    """Return the rest of a round that is begun, of each rank; empty between two rounds."""
    if not stream.steps_left:
        return []
    mine = [[batch_to_state(batch) for batch in step] for step in stream.steps_left]
    if not (dist.is_available() and dist.is_initialized()):
        return [mine]
    if alone:
        raise RuntimeError("the rest of a round lies on every rank, and one cannot save it alone")
    states: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(states, mine)
    return states


def _of_this_rank(states: list[list[list[dict[str, Any]]]], trainer: Trainer) -> list[Any]:
    if not states:
        return []
    if len(states) != trainer.world_size or len(states[0][0]) != trainer.accumulate_grad_batches:
        raise ConfigError(
            f"--ckpt_path: the checkpoint was saved within a round, by {len(states)} ranks with trainer.accumulate_grad_batches "
            f"{len(states[0][0])}, but this run has {trainer.world_size} and {trainer.accumulate_grad_batches}; resume with "
            "the same numbers, or from a checkpoint between two rounds"
        )
    return [[batch_from_state(state) for state in step] for step in states[trainer.global_rank]]
