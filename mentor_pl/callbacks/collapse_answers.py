"""What a guard against collapse can do beside warning."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import LightningModule, Trainer

from mentor_pl.errors import ConfigError
from mentor_pl.guidance import TeacherInGroup
from mentor_pl.training.checkpoint_io import AtomicCheckpointIO
from mentor_pl.training.datamodule import MentorDataModule
from mentor_pl.training.sharded_checkpoints import ShardedCheckpoints, trained_names
from mentor_pl.training.stream import RolloutStream


def set_lr(trainer: Trainer, lrs: list[list[float]]) -> None:
    """Set the learning rate of each group of each optimiser; schedules go on from there, scaled."""
    for optimizer, of_groups in zip(trainer.optimizers, lrs, strict=True):
        for group, lr in zip(optimizer.param_groups, of_groups, strict=True):
            factor = lr / group["lr"] if group["lr"] else 1.0
            group["lr"] = lr
            if "initial_lr" in group:
                group["initial_lr"] *= factor
            for config in trainer.lr_scheduler_configs:
                if config.scheduler.optimizer is optimizer and (bases := getattr(config.scheduler, "base_lrs", None)):
                    place = optimizer.param_groups.index(group)
                    config.scheduler.base_lrs = [base * factor if i == place else base for i, base in enumerate(bases)]


def lowered(trainer: Trainer, factor: float) -> list[list[float]]:
    """Return every group's learning rate times a factor."""
    return [[group["lr"] * factor for group in optimizer.param_groups] for optimizer in trainer.optimizers]


def raise_kl(pl_module: LightningModule, factor: float) -> None:
    """Multiply the weight of the KL penalty."""
    loss: Any = pl_module.loss
    loss.kl_weight *= factor


def bring_teacher_in(trainer: Trainer) -> None:
    """Let the teacher's solution join every group that fails, from the next round on; see `TeacherInGroup`."""
    data = cast(MentorDataModule, trainer.datamodule)  # type: ignore[attr-defined]
    if data.guidance.teacher_in_group is None:
        data.guidance = replace(data.guidance, teacher_in_group=TeacherInGroup())
    if isinstance(stream := trainer.train_dataloader, RolloutStream):
        stream.comparison = replace(stream.comparison, guidance=data.guidance)


class GoodState:
    """The last weights and optimiser state that were good, on disk beside the checkpoints.

    Attributes:
        step: The update that they were made by; -1 while there are none.
    """

    def __init__(self) -> None:
        self.step = -1

    @staticmethod
    def check(trainer: Trainer) -> None:
        """Check that every rank holds the student whole.

        Raises:
            ConfigError: The strategy shards it.
        """
        if isinstance(trainer.strategy, ShardedCheckpoints):
            raise ConfigError(
                f"collapse.answer is 'go_back', but {type(trainer.strategy).__name__} spreads the student over ranks, and only one that "
                "each rank holds whole can go back; set it to 'stop' and resume from a checkpoint, or to 'lower_lr'"
            )

    def path(self, trainer: Trainer) -> Path:
        """Return where the state lies."""
        return Path(trainer.default_root_dir) / "checkpoints" / f"good-step={self.step}.pt"

    def save(self, trainer: Trainer, pl_module: LightningModule, watch: dict[str, Any]) -> None:
        """Keep the present state, with what the watch knows, in place of the one before."""
        before, self.step = self.path(trainer), trainer.global_step
        if trainer.is_global_zero:
            names = trained_names(pl_module)
            weights = {name: p.detach().cpu() for name, p in pl_module.named_parameters() if name in names}
            optimizers = [optimizer.state_dict() for optimizer in trainer.optimizers]
            state = {"weights": weights, "optimizers": optimizers, "watch": watch}
            AtomicCheckpointIO().save_checkpoint(state, self.path(trainer))
            if before != self.path(trainer):
                before.unlink(missing_ok=True)
        trainer.strategy.barrier()

    def restore(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Put it back, on every rank; return what the watch knew. Learning rates stay as they are now."""
        lrs = lowered(trainer, 1.0)
        state = AtomicCheckpointIO().load_checkpoint(self.path(trainer), weights_only=False)
        for name, parameter in pl_module.named_parameters():
            if name in state["weights"]:
                parameter.data.copy_(state["weights"][name])
        for optimizer, saved in zip(trainer.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
            for group, lr in zip(optimizer.param_groups, lrs[trainer.optimizers.index(optimizer)], strict=True):
                group["lr"] = lr
        return state["watch"]
