"""The signs of a collapse, read off the metrics of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mentor_pl.callbacks.collapse_probe import AGREEMENT, STEP_KL

REWARD, CALLS, ENTROPY, KL = "reward", "tool_calls", "entropy", "kl"
TOKENS, UNIFORM, KNOWN = "completion_tokens", "uniform_groups", "score/known_tools"
WATCHED = (REWARD, CALLS, ENTROPY, KL, TOKENS, UNIFORM, KNOWN, AGREEMENT, STEP_KL)
"""Names of the metrics that are watched beside the success; those that a run does not have are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """One sign of a collapse.

    Attributes:
        name: What it is, in a word or two.
        metric: The metric that shows it.
        found: What was found, in numbers.
        cause: What is likely to be behind it, and what to do.
    """

    name: str
    metric: str
    found: str
    cause: str


class CollapseWatch:
    """Follows smoothed metrics and compares them with their start and their peak. It has a state, so that a resumed run goes on.

    Args:
        success: Name of the reward term that says what a success is; None for each environment's
            own (`train/success`).
        smoothing: Weight of the newest value in the moving averages; in (0, 1].
        warmup_steps: Steps whose mean is the start, and in which nothing is reported that is
            compared with it.
    """

    def __init__(self, success: str | None = None, smoothing: float = 0.25, warmup_steps: int = 5) -> None:
        self.success = "success" if success is None else f"score/{success}"
        self.smoothing = smoothing
        self.warmup_steps = warmup_steps
        self._steps = 0
        self._start: dict[str, float] = {}
        self._now: dict[str, float] = {}
        self._peak: dict[str, float] = {}
        self._seen: dict[str, int] = {}
        self._reported: list[str] = []

    @property
    def is_at_its_best(self) -> bool:
        """Whether success is about as high as it ever was, and nothing is wrong."""
        peak, now = self._peak.get(self.success, 0.0), self._now.get(self.success, 0.0)
        return now >= 0.95 * peak and not self._signs(compared=self._steps > self.warmup_steps)

    def update(self, values: Mapping[str, float]) -> list[Sign]:
        """Take a step's metrics in; return the signs that were not there before."""
        for name in (self.success, *WATCHED):
            if name not in values:
                continue
            value = float(values[name])
            self._seen[name] = self._seen.get(name, 0) + 1
            if self._steps < self.warmup_steps:
                self._start[name] = self._start.get(name, 0.0) + value / self.warmup_steps
            self._now[name] = self._now.get(name, value) + self.smoothing * (value - self._now.get(name, value))
        self._steps += 1
        if self._steps >= self.warmup_steps:
            for name, value in self._now.items():
                self._peak[name] = max(self._peak.get(name, value), value)
        signs = self._signs(compared=self._steps > self.warmup_steps, step_kl=values.get(STEP_KL, 0.0))
        new = [sign for sign in signs if sign.name not in self._reported]
        self._reported += [sign.name for sign in new]
        return new

    def _signs(self, *, compared: bool, step_kl: float = 0.0) -> list[Sign]:
        """Return what is wrong; with `compared`, also what only a comparison with the start shows."""
        signs = [self._too_long_a_step(step_kl), self._reward_against_success(), self._kl(), self._no_signal()]
        if compared:
            signs += self._compared()
        return [sign for sign in signs if sign is not None]

    def _compared(self) -> list[Sign | None]:
        return [
            self._unpaid_reward(),
            self._calls_vanish(),
            self._calls_run_away(),
            self._entropy(),
            self._lengths(),
            self._unknown_tools(),
            self._success_falls(),
        ]

    def _too_long_a_step(self, step_kl: float) -> Sign | None:
        if step_kl < 0.05:
            return None
        return Sign(
            name="too long a step",
            metric=STEP_KL,
            found=f"one update moved the policy by {step_kl:.2f} nats per token",
            cause="the learning rate is too high: lower it by a factor of ten, or clip gradients",
        )

    def _reward_against_success(self) -> Sign | None:
        if self._seen.get(AGREEMENT, 0) < 3 or self._now[AGREEMENT] > 0.75:
            return None
        return Sign(
            name="reward against success",
            metric=AGREEMENT,
            found=f"within groups, reward and success ({self.success}) correlate by {self._now[AGREEMENT]:.2f} only",
            cause="the reward pays for something else than success, or its judge is wrong; read trajectories with a high "
            "reward (`mentor-pl score --explain`) and gate bonuses on success",
        )

    def _gain(self, name: str) -> float:
        return self._now[name] - self._start[name] if name in self._start and name in self._now else 0.0

    def _unpaid_reward(self) -> Sign | None:
        paid, success = self._gain(REWARD), self._gain(self.success)
        if self.success not in self._start or paid < 0.08 or success > 0.1 * paid:
            return None
        return Sign(
            name="reward without success",
            metric=REWARD,
            found=f"the reward rose by {paid:.2f}, the success ({self.success}) by {success:+.2f}",
            cause="the reward pays for something else than success, or its judge is wrong; read trajectories with a high "
            "reward (`mentor-pl score --explain`) and gate bonuses on success",
        )

    def _calls_vanish(self) -> Sign | None:
        if CALLS not in self._start or self._now[CALLS] > 0.5 * self._start[CALLS]:
            return None
        return Sign(
            name="calls vanish",
            metric=CALLS,
            found=f"{self._now[CALLS]:.2f} calls per attempt, {self._start[CALLS]:.2f} at the start",
            cause="answers without tools are paid as well, or failing calls cost too much; bring the teacher in "
            "(`data.guidance`), raise the weight of the teacher's tools",
        )

    def _calls_run_away(self) -> Sign | None:
        if CALLS not in self._start or self._now[CALLS] < 1.6 * max(self._start[CALLS], 0.5):
            return None
        if self._gain(self.success) > 0.03:
            return None
        return Sign(
            name="calls run away",
            metric=CALLS,
            found=f"{self._now[CALLS]:.2f} calls per attempt, {self._start[CALLS]:.2f} at the start, "
            f"success {self._gain(self.success):+.2f}",
            cause="calls are paid for whatever comes of them; gate that term on success, or add `Economy`",
        )

    def _kl(self) -> Sign | None:
        if self._now.get(KL, 0.0) < 0.5:
            return None
        return Sign(
            name="far from the start",
            metric=KL,
            found=f"KL to the reference policy of {self._now[KL]:.2f} nats per token",
            cause="the learning rate is too high, or kl_weight too low",
        )

    def _entropy(self) -> Sign | None:
        start, now = self._start.get(ENTROPY, 0.0), self._now.get(ENTROPY, 0.0)
        # Where nobody explores, as in imitation, there is no success; there a certain policy is what is wanted.
        explores_no_more = now <= 0.1 * start and self._now.get(self.success, 1.0) <= 0.5
        if not start or (now < 3 * start and not explores_no_more):
            return None
        return Sign(
            name="entropy",
            metric=ENTROPY,
            found=f"{now:.3f} nats per token, {start:.3f} at the start",
            cause="the policy has become random: lower the learning rate"
            if now > start
            else "the policy has stopped exploring: raise loss.entropy or clip_high, lower the learning rate",
        )

    def _lengths(self) -> Sign | None:
        start, now = self._start.get(TOKENS, 0.0), self._now.get(TOKENS, 0.0)
        if not start or (0.4 * start < now < 3 * start) or self._gain(self.success) > 0.03:
            return None
        return Sign(
            name="lengths",
            metric=TOKENS,
            found=f"{now:.0f} sampled tokens per attempt, {start:.0f} at the start",
            cause="attempts no longer end, or end at once; lower the learning rate, add `Overlong` or an exit for unfinished ones",
        )

    def _unknown_tools(self) -> Sign | None:
        if self._gain(KNOWN) > -0.15:
            return None
        return Sign(
            name="unknown tools",
            metric=KNOWN,
            found=f"{1 - self._now[KNOWN]:.0%} of the attempts call a tool that does not exist, {1 - self._start[KNOWN]:.0%} at the start",
            cause="the learning rate is too high, or made-up tools cost nothing; add `KnownTools`",
        )

    def _no_signal(self) -> Sign | None:
        if self._seen.get(UNIFORM, 0) < 3 or self._now[UNIFORM] < 0.9 or self._now.get(self.success, 0.0) > 0.8:
            return None
        return Sign(
            name="no signal",
            metric=UNIFORM,
            found=f"{self._now[UNIFORM]:.0%} of the groups have one reward for all attempts",
            cause="nothing is left to compare; use dynamic sampling, hints or the teacher in the group (`data.guidance`)",
        )

    def _success_falls(self) -> Sign | None:
        peak, now = self._peak.get(self.success, 0.0), self._now.get(self.success, 0.0)
        if now > 0.6 * peak or peak < 0.1:
            return None
        return Sign(
            name="success falls",
            metric=self.success,
            found=f"{now:.2f}, after {peak:.2f}",
            cause="go back to a checkpoint before the fall (`--ckpt_path`) with a lower learning rate",
        )

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run goes on with."""
        return {
            "steps": self._steps,
            "start": dict(self._start),
            "now": dict(self._now),
            "peak": dict(self._peak),
            "seen": dict(self._seen),
            "reported": list(self._reported),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self._steps = state["steps"]
        self._start, self._now, self._peak = dict(state["start"]), dict(state["now"]), dict(state["peak"])
        self._seen = dict(state.get("seen", {}))
        self._reported = list(state["reported"])
