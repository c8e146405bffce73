"""Any OpenEnv environment as tools of a student: its actions, its state and its reward."""

from mentor_pl_openenv.backend import OpenEnv

__all__ = ["OpenEnv"]
