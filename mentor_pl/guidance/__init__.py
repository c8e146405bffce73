"""Guidance by the teacher beyond the reward: which prompts are tried, and what the teacher adds to a group."""

from mentor_pl.guidance.dynamic_sampling import DynamicSampling
from mentor_pl.guidance.guidance import Guidance
from mentor_pl.guidance.hints import Hints
from mentor_pl.guidance.imitation import Imitation
from mentor_pl.guidance.teacher_in_group import TeacherInGroup

__all__ = ["DynamicSampling", "Guidance", "Hints", "Imitation", "TeacherInGroup"]
