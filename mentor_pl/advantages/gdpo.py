"""GDPO's advantages."""

from __future__ import annotations

from torch import Tensor

from mentor_pl.advantages.base import AdvantageEstimator, GroupRewards, centered, checked_min_std


class GDPO(AdvantageEstimator):
    """Each reward term is standardised within the group before the terms are summed, arXiv:2601.05242 eq. 4 to 6.

    A = sum_k weight_k (score_k - mean_k) / std_k, then standardised over the round. So two mixtures
    of scores with the same sum stay apart, and a term keeps its weight whatever its spread. A
    term's gate is counted into its score (the paper's conditioned reward). The reward of exits is
    one more term, of weight 1.

    Args:
        min_std: Floor of std_k. With 0 (the paper's) a term that one trajectory of the group misses
            counts as much as one that half of them miss.
    """

    standardizes_round = True

    def __init__(self, min_std: float = 0.0) -> None:
        self.min_std = checked_min_std(type(self).__name__, min_std)

    def __call__(self, group: GroupRewards) -> Tensor:
        """See `AdvantageEstimator.__call__`."""
        if len(group.scores) < 2:
            return group.rewards.new_zeros(group.rewards.shape)
        std = group.scores.std(dim=0).clamp(min=max(self.min_std, 1e-6))
        return (centered(group.scores) / std) @ group.weights
