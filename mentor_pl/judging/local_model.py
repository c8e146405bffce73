"""A local model that continues conversations: a judge without an endpoint."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from mentor_pl.engines.auto import AutoEngine
from mentor_pl.engines.base import RolloutEngine, SamplingParams
from mentor_pl.messages import Message, ToolSpec
from mentor_pl.reference import Reference
from mentor_pl.references.teacher import ChatTeacher, ConversationRefusedError, Reply
from mentor_pl.rollout.limits import RolloutLimits
from mentor_pl.rollout.loading import load_runner
from mentor_pl.rollout.runner import RolloutRunner
from mentor_pl.rollout.world import World
from mentor_pl.students.base import StudentLoader
from mentor_pl.tools.toolbox import ToolBox
from mentor_pl.trajectory import StopReason


class LocalJudgeModel(ChatTeacher):
    """Runs a model of your own, by the very rollout that a student is trained by; one conversation at a time.

    Args:
        model: Loads it, for example a `FullStudent` with the path of a larger model. Loaded on
            first use.
        name: Which model it is. Verdicts are kept by this name: give another model another one.
        engine: Generates; `AutoEngine` unless given.
        max_completion_tokens: Of one reply.
        temperature: 0 for the likeliest reply.
        seed: Decides every random number, with what is asked.
        device: Where the model runs; a CUDA device where there is one, unless given.
    """

    def __init__(
        self,
        model: StudentLoader,
        name: str,
        engine: RolloutEngine | None = None,
        max_completion_tokens: int = 256,
        temperature: float = 0.0,
        seed: int = 0,
        device: str | None = None,
    ) -> None:
        self.faults: Counter[str] = Counter()
        self.max_completion_tokens = max_completion_tokens
        self._loader, self._name, self._engine = model, name, engine or AutoEngine()
        self._sampling, self._seed = SamplingParams(temperature=temperature), seed
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._lock = threading.Lock()
        self._runner: RolloutRunner | None = None

    @property
    def name(self) -> str:
        """As given."""
        return self._name

    @property
    def identity(self) -> Mapping[str, Any]:
        """Name and sampling."""
        return {
            "name": self._name,
            "temperature": self._sampling.temperature,
            "max_completion_tokens": self.max_completion_tokens,
            "seed": self._seed,
        }

    def reply(self, messages: Sequence[Message], tools: Sequence[ToolSpec], *, sample_index: int, key: str) -> Reply:
        """Continue a conversation."""
        asked = Reference(reference_id=f"{key}-{sample_index}", prompt=tuple(messages), answer="", tools=tuple(tools))
        with self._lock:
            runner = self._runner = self._runner or self._load()
            length = len(runner.prompt_ids(asked))
            if length + self.max_completion_tokens > runner.max_context:
                raise ConversationRefusedError(
                    f"{length} tokens and {self.max_completion_tokens} of a reply do not fit the {runner.max_context} of {self._name!r}"
                )
            (group,) = runner.run(
                self._engine, [(asked,)], sampling=self._sampling, group_size=1, seed=self._seed + sample_index
            )
        (trajectory,) = group.trajectories
        return Reply(
            message=Message(role="assistant", content=trajectory.final_text),
            finish_reason="stop" if trajectory.stop_reason is StopReason.ANSWERED else "length",
            prompt_tokens=length,
            completion_tokens=trajectory.num_sampled_tokens,
        )

    def _load(self) -> RolloutRunner:
        limits = RolloutLimits(max_turns=1, max_tool_calls=1, max_completion_tokens=self.max_completion_tokens)
        return load_runner(self._loader, self._engine, World(toolbox=ToolBox(()), limits=limits), self._device)
