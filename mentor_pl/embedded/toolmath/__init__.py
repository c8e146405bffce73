"""Toolmath: problems in words that need one to several calls of the twelve arithmetic tools, and two teachers that solve them."""

from mentor_pl.embedded.toolmath.problems import Problem, Style, draw_problem
from mentor_pl.embedded.toolmath.splits import EVALUATION_SPLITS, SPLIT_STYLES, draw_splits
from mentor_pl.embedded.toolmath.teachers import TEACHERS, parallel_reference, stepwise_reference

__all__ = [
    "EVALUATION_SPLITS",
    "SPLIT_STYLES",
    "TEACHERS",
    "Problem",
    "Style",
    "draw_problem",
    "draw_splits",
    "parallel_reference",
    "stepwise_reference",
]
