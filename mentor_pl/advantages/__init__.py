"""Advantage estimators: how the trajectories of a prompt are compared, one file each."""

from mentor_pl.advantages.base import AdvantageEstimator, GroupRewards, group_rewards, turn_advantages
from mentor_pl.advantages.batch_standardized import BatchStandardized
from mentor_pl.advantages.gdpo import GDPO
from mentor_pl.advantages.gigpo import GiGPO
from mentor_pl.advantages.group_centered import GroupCentered
from mentor_pl.advantages.group_standardized import GroupStandardized
from mentor_pl.advantages.leave_one_out import LeaveOneOut
from mentor_pl.advantages.maxrl import MaxRL
from mentor_pl.advantages.mt_grpo import MTGRPO
from mentor_pl.advantages.teacher_aligned import TeacherAligned

__all__ = [
    "GDPO",
    "AdvantageEstimator",
    "BatchStandardized",
    "GiGPO",
    "GroupCentered",
    "GroupRewards",
    "GroupStandardized",
    "LeaveOneOut",
    "MTGRPO",
    "MaxRL",
    "TeacherAligned",
    "group_rewards",
    "turn_advantages",
]
