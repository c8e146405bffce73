"""Any OpenEnv environment as tools of a student, and as an environment of a run: its actions, its state, its reward."""

from mentor_pl_openenv.backend import OpenEnv
from mentor_pl_openenv.environment import OpenEnvEpisodes

__all__ = ["OpenEnv", "OpenEnvEpisodes"]
