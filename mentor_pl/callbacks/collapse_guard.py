"""Warns early where a run is about to collapse, and answers."""

from __future__ import annotations

import json
import logging
from collections import deque
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer

from mentor_pl.callbacks.collapse_watch import WATCHED, CollapseWatch, Sign
from mentor_pl.errors import ConfigError, MentorError

log = logging.getLogger(__name__)


class CollapseGuard(Callback):
    """Watches calls per attempt, entropy, unknown tools, lengths, KL, uniform groups, and reward against success.

    A sign is reported once: as a warning with its likely cause, and in `collapse.jsonl` in the run's folder with the curve of the
    metric that shows it. The thresholds stand in `collapse_watch.py`.

    Args:
        enabled: Whether it watches.
        success: Name of the reward term that says what a success is; it may have weight 0.
        answer: What to do beside the warning: `warn` nothing; `lower_lr` multiplies the learning rate by `factor`; `raise_kl` divides
            `loss.kl_weight` by it; `stop` ends the run with an error.
        factor: In (0, 1).
        smoothing: Weight of the newest step in the moving averages.
        warmup_steps: Steps whose mean is what later ones are compared with.
        curve_steps: Steps of the curve that a report has.
    """

    def __init__(
        self,
        enabled: bool = True,
        success: str = "correct",
        answer: Literal["warn", "lower_lr", "raise_kl", "stop"] = "warn",
        factor: float = 0.5,
        smoothing: float = 0.25,
        warmup_steps: int = 5,
        curve_steps: int = 50,
    ) -> None:
        if not 0 < factor < 1 or not 0 < smoothing <= 1 or min(warmup_steps, curve_steps) < 1:
            raise ConfigError(
                f"CollapseGuard: factor {factor} must lie in (0, 1), smoothing {smoothing} in (0, 1], "
                f"warmup_steps {warmup_steps} and curve_steps {curve_steps} be at least 1"
            )
        self.enabled = enabled
        self.answer = answer
        self.factor = factor
        self.watch = CollapseWatch(success, smoothing, warmup_steps)
        self._curve: deque[dict[str, float]] = deque(maxlen=curve_steps)
        self._kl_factor = 1.0
        self._steps_seen = -1

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check that there is a KL penalty to raise.

        Raises:
            ConfigError: There is none.
        """
        weight = getattr(getattr(pl_module, "loss", None), "kl_weight", 0.0)
        if self.enabled and self.answer == "raise_kl" and not weight:
            raise ConfigError("CollapseGuard: answer is 'raise_kl' but the loss has no kl_weight above 0; set one")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore what a run before had raised."""
        self._steps_seen = trainer.global_step
        if self._kl_factor != 1.0:
            _raise_kl(pl_module, self._kl_factor)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at what an optimiser step logged; the same on every rank.

        Raises:
            MentorError: There is a sign, and `answer` is `stop`.
        """
        if not self.enabled or trainer.global_step == self._steps_seen:
            return
        self._steps_seen = trainer.global_step
        names = (self.watch.success, *WATCHED)
        logged = trainer.callback_metrics
        values = {name: float(logged[f"train/{name}"]) for name in names if f"train/{name}" in logged}
        self._curve.append({"step": float(trainer.global_step), **values})
        for sign in self.watch.update(values):
            self._report(trainer, sign)
            self._respond(trainer, pl_module, sign)

    def _report(self, trainer: Trainer, sign: Sign) -> None:
        if not trainer.is_global_zero:
            return
        log.warning("step %d: %s: %s. Likely cause: %s", trainer.global_step, sign.name, sign.found, sign.cause)
        row = {
            "step": trainer.global_step,
            "sign": sign.name,
            "metric": sign.metric,
            "found": sign.found,
            "cause": sign.cause,
            "answer": self.answer,
            "curve": [[int(point["step"]), point[sign.metric]] for point in self._curve if sign.metric in point],
        }
        with open(Path(trainer.default_root_dir) / "collapse.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def _respond(self, trainer: Trainer, pl_module: LightningModule, sign: Sign) -> None:
        if self.answer == "lower_lr":
            for optimizer in trainer.optimizers:
                for group in optimizer.param_groups:
                    for name in ("lr", "initial_lr"):
                        if name in group:
                            group[name] *= self.factor
            for config in trainer.lr_scheduler_configs:
                if bases := getattr(config.scheduler, "base_lrs", None):
                    config.scheduler.base_lrs = [lr * self.factor for lr in bases]
        elif self.answer == "raise_kl":
            self._kl_factor /= self.factor
            _raise_kl(pl_module, 1 / self.factor)
        elif self.answer == "stop":
            raise MentorError(
                f"step {trainer.global_step}: {sign.name}: {sign.found}; {sign.cause}. Resume with --ckpt_path from a checkpoint before "
                "it, or set collapse.answer to 'warn'"
            )

    def state_dict(self) -> dict[str, Any]:
        """Lightning saves this with every checkpoint."""
        return {"watch": self.watch.state_dict(), "curve": list(self._curve), "kl_factor": self._kl_factor}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on as the run before would have."""
        self.watch.load_state_dict(state_dict["watch"])
        self._curve.extend(state_dict["curve"])
        self._kl_factor = state_dict["kl_factor"]


def _raise_kl(pl_module: LightningModule, factor: float) -> None:
    loss: Any = pl_module.loss
    loss.kl_weight *= factor
