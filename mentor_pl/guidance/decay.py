"""Guidance that fades as the student learns."""

from __future__ import annotations


def remaining(round_index: int, decay_rounds: int | None) -> float:
    """Return what is left of a weight in a round: falling linearly from 1 in round 0 to 0 in round `decay_rounds`.

    It depends on the round alone, so that a resumed run, and any number of ranks, has the same.

    Args:
        round_index: The round, from 0 on.
        decay_rounds: Rounds until nothing is left; None for a constant 1.
    """
    return 1.0 if decay_rounds is None else max(0.0, 1.0 - round_index / decay_rounds)
