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
    """

    temperature: float = 0.0
    samples: int = 1
    batch_size: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("samples", "batch_size"):
            if (value := getattr(self, name)) < 1:
                raise ConfigError(f"evaluation_sampling.{name} is {value}; it must be at least 1")
        if self.samples > 1 and not self.temperature:
            raise ConfigError(
                f"evaluation_sampling.samples is {self.samples} at temperature 0, where all attempts are alike; "
                "set evaluation_sampling.temperature above 0, or samples to 1"
            )
