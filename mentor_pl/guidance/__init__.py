"""Guidance by the teacher beyond the reward: which prompts are tried, what the teacher adds to a group, how it judges tokens."""

from mentor_pl.guidance.curriculum import Curriculum
from mentor_pl.guidance.difficulty_pools import DifficultyPools
from mentor_pl.guidance.distillation import Distillation
from mentor_pl.guidance.dynamic_sampling import DynamicSampling
from mentor_pl.guidance.guidance import Guidance
from mentor_pl.guidance.hints import Hints
from mentor_pl.guidance.imitation import Imitation
from mentor_pl.guidance.informed_self import InformedSelf
from mentor_pl.guidance.model_teacher import ModelTeacher
from mentor_pl.guidance.teacher_in_group import TeacherInGroup
from mentor_pl.guidance.token_teachers import TokenTeacher
from mentor_pl.guidance.vllm_teacher import VLLMTeacher

__all__ = [
    "Curriculum",
    "DifficultyPools",
    "Distillation",
    "DynamicSampling",
    "Guidance",
    "Hints",
    "Imitation",
    "InformedSelf",
    "ModelTeacher",
    "TeacherInGroup",
    "TokenTeacher",
    "VLLMTeacher",
]
