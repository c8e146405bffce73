"""Warns where rollouts are not what they seem, and ends a run that trains on nothing or on wrong tokens."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from mentor_pl.errors import ConfigError, MentorError

log = logging.getLogger(__name__)

_INFRASTRUCTURE, _DIFFERENCE = "train/stop/infrastructure", "train/logprob_difference"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Limits:
    metric: str
    what: str
    unit: str
    remedy: str
    warn: float | None
    error: float | None
    error_key: str


class RolloutGuard(Callback):
    """Looks at each update's share of broken trajectories, and at how far sampler and trainer disagree.

    A warning comes once, and again after the value was below its limit. Null switches a limit off.

    Args:
        warn_infrastructure: Share of a round's trajectories, lost to tools, judges or servers that
            failed (`infrastructure`), above which it warns: these leave the loss.
        max_infrastructure: Share above which the run ends with an error.
        warn_logprob_difference: Nats by which the log-probability of one token under the trained
            policy differs from the engine's, above which it warns. Rounding explains less than 1;
            further updates on one round and older weights some more.
        max_logprob_difference: Nats above which the run ends with an error: the engine gave other
            tokens than it sampled, or computes another policy.

    Raises:
        ConfigError: A share is not in (0, 1], or a difference not above 0.
    """

    def __init__(
        self,
        warn_infrastructure: float | None = 0.1,
        max_infrastructure: float | None = 0.9,
        warn_logprob_difference: float | None = 2.0,
        max_logprob_difference: float | None = 15.0,
    ) -> None:
        for name, value, most in (
            ("warn_infrastructure", warn_infrastructure, 1.0),
            ("max_infrastructure", max_infrastructure, 1.0),
            ("warn_logprob_difference", warn_logprob_difference, math.inf),
            ("max_logprob_difference", max_logprob_difference, math.inf),
        ):
            if value is not None and not 0 < value <= most:
                upper = f" and at most {most:g}" if most < math.inf else ""
                raise ConfigError(f"RolloutGuard: {name} is {value}; it must be above 0{upper}, or null for no limit")
        self._limits = (
            _Limits(
                metric=_INFRASTRUCTURE,
                what="share of trajectories lost to infrastructure",
                unit="",
                remedy="their last tool results in trajectories/ say what failed; see to the servers of tools and judges",
                warn=warn_infrastructure,
                error=max_infrastructure,
                error_key="max_infrastructure",
            ),
            _Limits(
                metric=_DIFFERENCE,
                what="largest difference between the engine's and the trained policy's log-probability of a token",
                unit=" nats",
                remedy="see that the engine has the student's weights and returns the tokens that it sampled; for an engine of other "
                "precision set model.correction",
                warn=warn_logprob_difference,
                error=max_logprob_difference,
                error_key="max_logprob_difference",
            ),
        )
        self._above: dict[str, bool] = {}
        self._steps_seen = -1

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at what an optimiser step logged; the same on every rank.

        Raises:
            MentorError: A value is above the limit of an error.
        """
        if trainer.global_step == self._steps_seen:
            return
        self._steps_seen = trainer.global_step
        for limits in self._limits:
            if limits.metric in trainer.callback_metrics:
                self._check(limits, float(trainer.callback_metrics[limits.metric]), trainer.global_step)

    def _check(self, limits: _Limits, value: float, step: int) -> None:
        found = f"step {step}: the {limits.what} is {value:.3g}{limits.unit}"
        if limits.error is not None and value > limits.error:
            raise MentorError(
                f"{found}; {limits.remedy}, or raise rollouts.{limits.error_key} (now {limits.error:g}; null for no limit)"
            )
        above = limits.warn is not None and value > limits.warn
        if above and not self._above.get(limits.metric):
            log.warning("%s, above %g: %s", found, limits.warn, limits.remedy)
        self._above[limits.metric] = above
