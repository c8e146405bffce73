"""Environments: references, tools, reward and limits that belong together."""

from mentor_pl.environments.base import Environment
from mentor_pl.environments.splits import Split, Splits, resolve_splits, training_environments

__all__ = ["Environment", "Split", "Splits", "resolve_splits", "training_environments"]
