"""Warns early where a run is about to collapse, and answers."""

from __future__ import annotations

import json
import logging
from collections import deque
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer

from mentor_pl.callbacks.collapse_answers import GoodState, bring_teacher_in, lowered, raise_kl, set_lr
from mentor_pl.callbacks.collapse_probe import CollapseProbe
from mentor_pl.callbacks.collapse_watch import WATCHED, CollapseWatch, Sign
from mentor_pl.errors import ConfigError, MentorError

log = logging.getLogger(__name__)


class CollapseGuard(Callback):
    """Watches calls per attempt, entropy, unknown tools, lengths, KL, uniform groups, and whether the reward follows success.

    A sign is reported once: as a warning with its likely cause, and in `collapse.jsonl` in the
    run's folder with the curve of the metric that shows it. The thresholds stand in
    `collapse_watch.py`; `collapse_probe.py` has what is measured for it alone.

    Args:
        enabled: Whether it watches.
        success: Name of the reward term that says what a success is; it may have weight 0. Unless
            given, each environment's own: the term with `success: true`, else `correct`.
        answer: What to do beside the warning: `warn` nothing; `lower_lr` multiplies the learning
            rate by `factor`; `raise_kl` divides `loss.kl_weight` by it; `teacher` lets the
            teacher's solution join every group that fails from then on; `go_back` returns to the
            last good weights, with the learning rate lowered, up to `max_returns` times; `stop`
            ends the run with an error.
        factor: In (0, 1).
        smoothing: Weight of the newest step in the moving averages.
        warmup_steps: Steps whose mean is what later ones are compared with.
        curve_steps: Steps of the curve that a report has.
        good_every_n_steps: For `go_back`: how often the weights are kept, where success is about at
            its best and nothing is wrong.
        max_returns: For `go_back`: at the next sign after so many returns the run ends with an
            error.
    """

    def __init__(
        self,
        enabled: bool = True,
        success: str | None = None,
        answer: Literal["warn", "lower_lr", "raise_kl", "teacher", "go_back", "stop"] = "warn",
        factor: float = 0.5,
        smoothing: float = 0.25,
        warmup_steps: int = 5,
        curve_steps: int = 50,
        good_every_n_steps: int = 10,
        max_returns: int = 3,
    ) -> None:
        counts = {
            "warmup_steps": warmup_steps,
            "curve_steps": curve_steps,
            "good_every_n_steps": good_every_n_steps,
            "max_returns": max_returns,
        }
        if not 0 < factor < 1 or not 0 < smoothing <= 1 or min(counts.values()) < 1:
            raise ConfigError(
                f"CollapseGuard: factor {factor} must lie in (0, 1), smoothing {smoothing} in (0, 1], and "
                f"{', '.join(f'{name} {value}' for name, value in counts.items())} be at least 1"
            )
        self.enabled = enabled
        self.answer = answer
        self.factor = factor
        self.watch = CollapseWatch(success, smoothing, warmup_steps)
        self._curve: deque[dict[str, float]] = deque(maxlen=curve_steps)
        self.good_every_n_steps = good_every_n_steps
        self.max_returns = max_returns
        self.good = GoodState()
        self._probe = CollapseProbe(success)
        self._kl_factor = 1.0
        self._teacher_is_in = False
        self._returns = 0
        self._steps_seen = -1

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check that the answer can be given.

        Raises:
            ConfigError: There is no KL penalty to raise, or no whole student to go back to.
        """
        weight = getattr(getattr(pl_module, "loss", None), "kl_weight", 0.0)
        if self.enabled and self.answer == "raise_kl" and not weight:
            raise ConfigError("CollapseGuard: answer is 'raise_kl' but the loss has no kl_weight above 0; set one")
        if self.enabled and self.answer == "go_back":
            self.good.check(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore what a run before had changed; keep the start as the first good state."""
        self._steps_seen = trainer.global_step
        if self._kl_factor != 1.0:
            raise_kl(pl_module, self._kl_factor)
        if self._teacher_is_in:
            bring_teacher_in(trainer)
        if (
            self.enabled
            and self.answer == "go_back"
            and not trainer.strategy.broadcast(self.good.path(trainer).exists())
        ):
            self.good.save(trainer, pl_module, self.watch.state_dict())

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at what an optimiser step logged; the same on every rank.

        Raises:
            MentorError: There is a sign, and `answer` is `stop`.
        """
        if not self.enabled:
            return
        self._probe.note(batch)
        if trainer.global_step == self._steps_seen:
            return
        self._steps_seen = trainer.global_step
        names = (self.watch.success, *WATCHED)
        logged = trainer.callback_metrics
        values = {name: float(logged[f"train/{name}"]) for name in names if f"train/{name}" in logged}
        values |= self._probe.measured(trainer, pl_module, batch)
        self._curve.append({"step": float(trainer.global_step), **values})
        signs = self.watch.update(values)
        for sign in signs:
            self._report(trainer, sign)
        if signs:
            self._respond(trainer, pl_module, signs[0])
        elif (
            self.answer == "go_back"
            and trainer.global_step % self.good_every_n_steps == 0
            and self.watch.is_at_its_best
        ):
            self.good.save(trainer, pl_module, self.watch.state_dict())

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
            set_lr(trainer, lowered(trainer, self.factor))
        elif self.answer == "raise_kl":
            self._kl_factor /= self.factor
            raise_kl(pl_module, 1 / self.factor)
        elif self.answer == "teacher":
            self._teacher_is_in = True
            bring_teacher_in(trainer)
        elif self.answer == "go_back" and self._returns < self.max_returns:
            self._returns += 1
            self.watch.load_state_dict(self.good.restore(trainer, pl_module))
            set_lr(trainer, lowered(trainer, self.factor))
            lr = trainer.optimizers[0].param_groups[0]["lr"]
            log.warning("went back to the weights of update %d; the learning rate is %g now", self.good.step, lr)
        elif self.answer in ("go_back", "stop"):
            raise MentorError(
                f"step {trainer.global_step}: {sign.name}: {sign.found}; {sign.cause}. Resume with --ckpt_path from a checkpoint before "
                "it, or set collapse.answer to 'warn'"
            )

    def state_dict(self) -> dict[str, Any]:
        """Lightning saves this with every checkpoint."""
        return {
            "watch": self.watch.state_dict(),
            "curve": list(self._curve),
            "kl_factor": self._kl_factor,
            "teacher_is_in": self._teacher_is_in,
            "returns": self._returns,
            "good_step": self.good.step,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on as the run before would have."""
        self.watch.load_state_dict(state_dict["watch"])
        self._curve.extend(state_dict["curve"])
        self._kl_factor = state_dict["kl_factor"]
        self._teacher_is_in = state_dict.get("teacher_is_in", False)
        self._returns = state_dict.get("returns", 0)
        self.good.step = state_dict.get("good_step", -1)
