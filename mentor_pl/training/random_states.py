"""The random state of every rank, kept in checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

RandomState = dict[str, Tensor]
"""State of one rank's generators, by the kind of device."""


def gather_random_states(*, alone: bool = False) -> list[RandomState]:
    """Return every rank's random state, in order. All ranks call this together.

    Args:
        alone: This rank calls it alone, and gets its own state.
    """
    mine = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        mine["cuda"] = torch.cuda.get_rng_state()
    if alone or not (dist.is_available() and dist.is_initialized()):
        return [mine]
    states: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(states, mine)
    return states


def restore_random_state(states: Sequence[RandomState], *, rank: int, world_size: int) -> None:
    """Restore this rank's random state; other numbers of ranks than the saved one leave it alone."""
    if len(states) != world_size:
        return
    torch.set_rng_state(states[rank]["cpu"])
    if "cuda" in states[rank] and torch.cuda.is_available():
        torch.cuda.set_rng_state(states[rank]["cuda"])
