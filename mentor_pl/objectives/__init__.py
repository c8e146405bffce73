"""Objectives and advantage estimators: pure functions of tensors, one file each, written so that the equation can be read."""

from mentor_pl.objectives.advantages import AdvantageEstimator, GroupCentered, GroupStandardized, LeaveOneOut
from mentor_pl.objectives.base import LossInputs, LossOutput, Objective
from mentor_pl.objectives.clipped_surrogate import ClippedSurrogate
from mentor_pl.objectives.correction import ImportanceWeights, TruncatedImportanceSampling
from mentor_pl.objectives.supervised import SupervisedLikelihood

__all__ = [
    "AdvantageEstimator",
    "ClippedSurrogate",
    "GroupCentered",
    "GroupStandardized",
    "ImportanceWeights",
    "LeaveOneOut",
    "LossInputs",
    "LossOutput",
    "Objective",
    "SupervisedLikelihood",
    "TruncatedImportanceSampling",
]
