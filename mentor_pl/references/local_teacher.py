"""A local Hugging Face model as the teacher: it tries prompts by the very rollout that a student is trained by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import torch

from mentor_pl.engines.auto import AutoEngine
from mentor_pl.engines.base import RolloutEngine, SamplingParams
from mentor_pl.errors import ConfigError
from mentor_pl.files.trajectories import trajectory_from_row, trajectory_to_row
from mentor_pl.reference import Reference
from mentor_pl.references.attempt import AttemptLimits
from mentor_pl.references.collect import Outcome, Sampling, Select, Solver
from mentor_pl.references.journal import Journal, journal_key
from mentor_pl.references.teacher import Teacher
from mentor_pl.rollout.limits import RolloutLimits
from mentor_pl.rollout.loading import load_runner
from mentor_pl.rollout.runner import RolloutRunner
from mentor_pl.rollout.user import User
from mentor_pl.rollout.world import World
from mentor_pl.students.base import StudentLoader
from mentor_pl.tools.toolbox import ToolBox
from mentor_pl.trajectory import Trajectory

_TOO_LONG = "the prompt does not fit the teacher's context"


class LocalTeacher(Teacher):
    """Runs a model of your own.

    Args:
        model: Loads it, for example a `FullStudent` with the path of a larger model.
        engine: Generates; `AutoEngine` unless given.
        temperature: 0 for the likeliest solution; above 0 where several are sampled of each prompt.
        max_completion_tokens: Of one attempt, over all its turns.
        max_tool_result_tokens: Of one tool result; the rest is cut.
        seed: Decides every random number, with a prompt's id and a sample's index.
        prompts_at_once: Prompts generated together; what they bring is journalled together.
        device: Where the model runs; a CUDA device where there is one, unless given.
        name: Who it is, for the references.
    """

    def __init__(
        self,
        model: StudentLoader,
        engine: RolloutEngine | None = None,
        temperature: float = 0.0,
        max_completion_tokens: int = 1024,
        max_tool_result_tokens: int = 512,
        seed: int = 0,
        prompts_at_once: int = 16,
        device: str | None = None,
        name: str = "local",
    ) -> None:
        if prompts_at_once < 1:
            raise ConfigError(f"LocalTeacher.prompts_at_once is {prompts_at_once}; it must be at least 1")
        self.faults: Counter[str] = Counter()
        self.model, self.engine = model, engine or AutoEngine()
        self.sampling = SamplingParams(temperature=temperature)
        self.max_completion_tokens, self.max_tool_result_tokens = max_completion_tokens, max_tool_result_tokens
        self.seed, self.prompts_at_once = seed, prompts_at_once
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._name = name

    @property
    def name(self) -> str:
        """As given."""
        return self._name

    @property
    def identity(self) -> Mapping[str, Any]:
        """Name, sampling and budgets. Give another model another name."""
        return {
            "name": self._name,
            "temperature": self.sampling.temperature,
            "max_completion_tokens": self.max_completion_tokens,
            "max_tool_result_tokens": self.max_tool_result_tokens,
            "seed": self.seed,
        }


class LocalSolver(Solver):
    """Lets a `LocalTeacher` try prompts, some at a time.

    Args:
        teacher: Who tries.
        journal: Keeps every attempt.
        toolbox: Runs the teacher's calls.
        sampling: How often a prompt is tried; `concurrency` is the teacher's `prompts_at_once`
            here.
        limits: Of one attempt.
        user: Speaks with the teacher once a prompt's own follow-ups are said; nobody where None.

    Raises:
        ConfigError: Several samples at temperature 0 would all be the same.
    """

    def __init__(
        self,
        teacher: LocalTeacher,
        journal: Journal,
        toolbox: ToolBox,
        sampling: Sampling,
        limits: AttemptLimits,
        user: User | None = None,
    ) -> None:
        sampling.check_temperature(teacher.sampling.temperature)
        self._teacher, self._journal, self._toolbox = teacher, journal, toolbox
        self._sampling, self._limits, self._user = sampling, limits, user
        self._runner: RolloutRunner | None = None

    def outcomes(self, prompts: Iterable[Reference], select: Select) -> Iterator[Outcome]:
        """Try prompts."""
        source = iter(prompts)
        while batch := list(islice(source, self._teacher.prompts_at_once)):
            for prompt, attempts in zip(batch, self._attempts(batch), strict=True):
                yield select(prompt, attempts)

    def _key(self, prompt: Reference) -> str:
        sent = [message.to_openai() for message in prompt.prompt], [tool.to_openai() for tool in prompt.tools]
        limits = [self._limits.max_turns, self._limits.max_tool_calls]
        return journal_key(dict(self._teacher.identity), limits, self._sampling.samples, prompt.reference_id, *sent)

    def _attempts(self, prompts: Sequence[Reference]) -> list[Sequence[Trajectory | str]]:
        keys = [self._key(prompt) for prompt in prompts]
        new = [
            (prompt, key) for prompt, key in zip(prompts, keys, strict=True) if not self._journal.get("attempt", key)
        ]
        self._try(new)
        rows = [self._journal.get("attempt", key) for key in keys]
        return [
            [trajectory_from_row(item, str(self._journal.path)) for item in row["trajectories"]] if row else [_TOO_LONG]
            for row in rows
        ]

    def _try(self, prompts: Sequence[tuple[Reference, str]]) -> None:
        if not prompts:
            return
        runner = self._runner = self._runner or self._load()
        fitting = [(p, key) for p, key in prompts if len(runner.prompt_ids(p)) < runner.max_context]
        groups = runner.run(
            self._teacher.engine,
            [(prompt,) for prompt, _ in fitting],
            sampling=self._teacher.sampling,
            group_size=self._sampling.samples,
            seed=self._teacher.seed,
        )
        for (prompt, key), group in zip(fitting, groups, strict=True):
            rows = [trajectory_to_row(trajectory) for trajectory in group.trajectories]
            self._journal.put("attempt", key, {"prompt_id": prompt.reference_id, "trajectories": rows})

    def _load(self) -> RolloutRunner:
        teacher = self._teacher
        limits = RolloutLimits(
            max_turns=self._limits.max_turns,
            max_tool_calls=self._limits.max_tool_calls,
            max_completion_tokens=teacher.max_completion_tokens,
            max_tool_result_tokens=teacher.max_tool_result_tokens,
        )
        world = World(toolbox=self._toolbox, user=self._user, limits=limits)
        return load_runner(teacher.model, teacher.engine, world, teacher.device)
