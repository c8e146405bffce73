"""How a split is sampled: as in training, and how often."""

from __future__ import annotations

from dataclasses import dataclass

from mentor_pl.engines.base import SamplingParams
from mentor_pl.errors import ConfigError


@dataclass(frozen=True, kw_only=True)  # no slots: jsonargparse reads the fields of a default from its __dict__
class EvaluationSampling(SamplingParams):
    """How the student is evaluated; greedily and once by default.

    Attributes:
        samples: Attempts at each problem (k). With more than one, mean@k, pass@k and pass^k are
            measured.
        batch_size: Attempts made at once, on each rank.
        max_problems: Problems used of each evaluation split, the first ones; null for all.
    """

    temperature: float = 0.0
    samples: int = 1
    batch_size: int = 128
    max_problems: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("samples", "batch_size", "max_problems"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ConfigError(f"data.evaluation_sampling.{name} is {value}; it must be at least 1")
        if self.samples > 1 and not self.temperature:
            raise ConfigError(
                f"data.evaluation_sampling.samples is {self.samples} at temperature 0, where all attempts are alike; "
                "set data.evaluation_sampling.temperature above 0, or samples to 1"
            )
