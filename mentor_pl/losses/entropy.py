"""A bonus for entropy, which keeps a policy exploring."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mentor_pl.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class EntropyBonus:
    """Adds -weight * mean entropy of the step's tokens to the loss.

    With a target, the weight follows the entropy, arXiv:2505.22312 section 5.2: after each step it
    grows by `change` where the step's entropy was at or below the target and shrinks by `change`
    where it was above; a step has the bonus only if the entropy of the step before was at or below
    the target.

    Attributes:
        weight: The weight; with a target, the one to begin with.
        target: Entropy in nats per token to keep up; none for a constant weight.
        change: Change of the weight per step.
        max_weight: The weight never exceeds it.
    """

    weight: float = 0.0
    target: float | None = None
    change: float = 0.0005
    max_weight: float = 0.1

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and 0 <= self.weight):
            raise ConfigError(f"EntropyBonus: weight is {self.weight}; it must be at or above 0")
        if self.target is None:
            return
        if self.target <= 0 or self.change <= 0 or self.max_weight < self.weight:
            raise ConfigError(
                f"EntropyBonus: target {self.target} and change {self.change} must be above 0, "
                f"max_weight {self.max_weight} at or above weight {self.weight}"
            )


class EntropyWeight:
    """The weight of an `EntropyBonus` in the course of a run. It has a state, the same on all ranks.

    Args:
        bonus: Its settings.
    """

    def __init__(self, bonus: EntropyBonus) -> None:
        self.bonus = bonus
        self.weight = bonus.weight
        self.latest_entropy = math.inf

    @property
    def applied(self) -> float:
        """The weight for the present step."""
        target = self.bonus.target
        return self.weight if target is None or self.latest_entropy <= target else 0.0

    def end_step(self, entropy: float) -> None:
        """Follow the mean entropy of the step's tokens, over all ranks."""
        self.latest_entropy = entropy
        if self.bonus.target is not None:
            change = self.bonus.change if entropy <= self.bonus.target else -self.bonus.change
            self.weight = min(max(self.weight + change, 0.0), self.bonus.max_weight)

    def state_dict(self) -> dict[str, float]:
        """Return what a resumed run goes on with."""
        return {"weight": self.weight, "latest_entropy": self.latest_entropy}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Go on from a saved state."""
        self.weight, self.latest_entropy = state["weight"], state["latest_entropy"]
