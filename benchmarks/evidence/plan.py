"""What is compared: a warm start, the arms that start from it, and the splits that they are evaluated on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mentor_pl.reference import Reference
from mentor_pl.rewards.base import RewardComponent

CONFIGS = Path(__file__).parent / "configs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One method.

    Attributes:
        name: Of its folder and its files.
        title: In tables.
        configs: Of `mentor-pl fit`, the later ones over the earlier ones.
    """

    name: str
    title: str
    configs: Sequence[Path]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A comparison.

    Attributes:
        name: Of its folders.
        references: Reads those of `train`, of `warm_start` where there is one, and of each split.
        warm_start: Configs of the run that all arms start from; none where they start from `start`.
        start: The student that arms start from where there is no warm start.
        arms: In the order in which they run.
        seeds: Of every arm.
        evaluation: Configs of `mentor-pl predict`.
        in_domain: Splits of categories that are trained on.
        out_of_domain: The other splits.
        judge: Makes what says what a success is.
        arguments: Of every `mentor-pl fit` and `predict`.
    """

    name: str
    references: Callable[[], Mapping[str, Sequence[Reference]]]
    warm_start: Sequence[Path]
    arms: Sequence[Arm]
    seeds: int
    evaluation: Sequence[Path]
    in_domain: Sequence[str]
    out_of_domain: Sequence[str]
    judge: Callable[[], RewardComponent]
    start: str = ""
    arguments: Sequence[str] = ()

    @property
    def splits(self) -> tuple[str, ...]:
        """All splits that are evaluated."""
        return (*self.in_domain, *self.out_of_domain)
