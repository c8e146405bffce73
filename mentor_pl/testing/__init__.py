"""Checkers of the plugin points' contracts, for a plugin's own tests.

Each raises `PluginError`, naming what was found and what the contract says. They import what they
check, and no more: a reward plugin's test needs no torch.
"""

from mentor_pl.testing.chat_formats import check_tool_call_format
from mentor_pl.testing.engines import check_rollout_engine
from mentor_pl.testing.environments import check_environment
from mentor_pl.testing.metrics import check_trajectory_metric
from mentor_pl.testing.rewards import awkward_trajectories, check_reward_component, trajectory
from mentor_pl.testing.students import check_student_loader
from mentor_pl.testing.tools import check_tool_backend

__all__ = [
    "awkward_trajectories",
    "check_environment",
    "check_reward_component",
    "check_rollout_engine",
    "check_student_loader",
    "check_tool_backend",
    "check_tool_call_format",
    "check_trajectory_metric",
    "trajectory",
]
