"""Losses: pure functions of tensors, one file each, written so that the equation can be read."""

from mentor_pl.losses.base import Loss, LossInputs, LossOutput
from mentor_pl.losses.cispo import CISPOLoss
from mentor_pl.losses.correction import ImportanceWeights, TruncatedImportanceSampling
from mentor_pl.losses.covariance_clip import CovarianceClip
from mentor_pl.losses.dapo import DAPOLoss
from mentor_pl.losses.dr_grpo import DrGRPOLoss
from mentor_pl.losses.entropy import EntropyBonus
from mentor_pl.losses.grpo import GRPOLoss
from mentor_pl.losses.gspo import GSPOLoss
from mentor_pl.losses.policy_gradient import PolicyGradientLoss
from mentor_pl.losses.reinforce_plus_plus import ReinforcePlusPlusLoss
from mentor_pl.losses.rloo import RLOOLoss
from mentor_pl.losses.sft import SFTLoss

__all__ = [
    "CISPOLoss",
    "CovarianceClip",
    "DAPOLoss",
    "DrGRPOLoss",
    "EntropyBonus",
    "GRPOLoss",
    "GSPOLoss",
    "ImportanceWeights",
    "Loss",
    "LossInputs",
    "LossOutput",
    "PolicyGradientLoss",
    "RLOOLoss",
    "ReinforcePlusPlusLoss",
    "SFTLoss",
    "TruncatedImportanceSampling",
]
