"""Losses and advantage estimators: pure functions of tensors, one file each, written so that the equation can be read."""

from mentor_pl.losses.advantages import AdvantageEstimator, GroupCentered, GroupStandardized, LeaveOneOut
from mentor_pl.losses.base import Loss, LossInputs, LossOutput
from mentor_pl.losses.correction import ImportanceWeights, TruncatedImportanceSampling
from mentor_pl.losses.grpo import GRPOLoss
from mentor_pl.losses.sft import SFTLoss

__all__ = [
    "AdvantageEstimator",
    "GRPOLoss",
    "GroupCentered",
    "GroupStandardized",
    "ImportanceWeights",
    "LeaveOneOut",
    "LossInputs",
    "LossOutput",
    "Loss",
    "SFTLoss",
    "TruncatedImportanceSampling",
]
