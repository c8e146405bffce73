"""The rows of a `CascadeSession`, and those that are decoded together."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import torch

from mentor_pl.engines.cascade.attention import GroupLayout
from mentor_pl.engines.cascade.prompt_cache import Prompt


class RowState(Enum):
    """What a row is doing."""

    LIVE = "live"  # being decoded
    PARKED = "parked"  # its completion was delivered; keeps its cache for a continuation
    FREE = "free"  # released; its slot is to be reused


@dataclass(slots=True, eq=False)
class Row:
    """One trajectory. `cached` counts the tokens in its suffix slot: all after the prompt but the last one sampled."""

    row: int
    prompt: Prompt
    token_ids: list[int]
    seed: int
    budget_end: int = 0
    cached: int = 0
    first_sampled: int = 0
    logprobs: list[float] = field(default_factory=list[float])
    state: RowState = RowState.LIVE


class DecodeBatch:
    """The live rows as tensors, kept from step to step until a row comes or goes."""

    def __init__(self, rows: list[Row], prompt_lengths: list[int], device: torch.device) -> None:
        self.rows = rows
        self.layout = GroupLayout.of([row.prompt.slot for row in rows], prompt_lengths, device)
        self.token_ids = torch.tensor([row.token_ids[-1] for row in rows], device=device)
        self.lengths = torch.tensor([row.cached for row in rows], device=device)
        self.seeds = torch.tensor([row.seed for row in rows], device=device)
        self.longest = max(row.cached for row in rows)

    @property
    def positions(self) -> torch.Tensor:
        """Of the tokens to be computed, `[B]`."""
        return self.layout.prefix_lengths + self.lengths

    def advance(self, token_ids: torch.Tensor) -> None:
        """Go on with the tokens just drawn."""
        self.token_ids = token_ids
        self.lengths = self.lengths + 1
        self.longest += 1
