"""The LightningDataModule: teacher references in, online rollouts out."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from typing import Literal, cast

from lightning.pytorch import LightningDataModule, Trainer

from mentor_pl.advantages import AdvantageEstimator, GroupStandardized
from mentor_pl.causal_model import max_context
from mentor_pl.chat.examination import check_chat
from mentor_pl.chat.protocol import ChatProtocol
from mentor_pl.embedded import resolve
from mentor_pl.engines.base import SamplingParams
from mentor_pl.errors import ConfigError
from mentor_pl.evaluation.base import TrajectoryMetric
from mentor_pl.evaluation.sampling import EvaluationSampling
from mentor_pl.files.references import read_references
from mentor_pl.guidance import Guidance
from mentor_pl.reference import group_by_prompt
from mentor_pl.references.replay import with_expected_state
from mentor_pl.rewards.program import RewardProgram
from mentor_pl.rollout.limits import RolloutLimits
from mentor_pl.rollout.runner import Prompt, RolloutRunner
from mentor_pl.rollout.user import User
from mentor_pl.tools.base import ToolBackend
from mentor_pl.tools.toolbox import ToolBox
from mentor_pl.training import compatibility
from mentor_pl.training.ahead_stream import AheadRolloutStream
from mentor_pl.training.comparison import GroupComparison
from mentor_pl.training.context_room import ContextRoom
from mentor_pl.training.evaluation_stream import EvaluationStream
from mentor_pl.training.module import MentorModule
from mentor_pl.training.rounds import StreamPlan, StreamPosition
from mentor_pl.training.splits import named_files
from mentor_pl.training.stream import ReferenceStream, RolloutStream, TrainingStream


class MentorDataModule(LightningDataModule):
    """Serves training batches and evaluation attempts.

    Args:
        references: Reference file (JSON Lines) to train on; `embedded:...` names one of ours.
        tools: Tool backends; student and teacher are offered the same tools.
        reward: The reward program; evaluation measures its terms, too. Not needed for `train_on: references`.
        final_tools: Tools whose call ends the trajectory, and whose arguments are its answer.
        user: Speaks with the student once a reference's own follow-ups are said; nobody unless given.
        train_on: `rollouts` lets the student explore; `references` imitates the teacher's solutions.
        evaluation: Reference file of each evaluation split, by its name.
        group_size: Trajectories per prompt (G).
        prompts_per_round: Prompts tried between two syncs of the weights, over all ranks.
        steps_per_round: Optimiser steps that a round's prompts are divided among.
        epochs_per_round: Passes over a round's trajectories.
        rounds_ahead: 1 samples the next round while the present one is trained on, with weights that are one round old; needs an engine
            with weights of its own (a server) and `model.correction`. 0 samples with the present weights.
        advantages: Compares the trajectories of a group.
        mask_truncated: Whether trajectories that a budget cut off are left out of the loss (DAPO's overlong filtering); they still count
            in their group's statistics.
        guidance: What the teacher adds beyond the reward: prompts replaced, hints, its solution in the group or beside it.
        sampling: How the student explores.
        evaluation_sampling: How it is evaluated; greedily and once by default.
        metrics: Further metrics of every evaluation split.
        limits: Budgets of each trajectory.
        max_problems: Problems used of each evaluation split, the first ones; null for all.
        evaluation_batch_size: Attempts made at once in evaluation, on each rank.
        imitate_reasoning: For `train_on: references`: the teacher's reasoning is imitated, too, where the references keep it.
        overlong_prompts: What to do with a prompt (for `train_on: references`, a solution too) that does not fit into the student's
            context, where a prompt needs room for one more token: `error`, or `skip` and count.
        max_bad_lines: Broken lines of a reference file that are left out with a warning before it becomes an error.
        seed: Decides the order of prompts and every sampled token.
    """

    def __init__(
        self,
        references: str,
        tools: list[ToolBackend],
        reward: RewardProgram | None = None,
        final_tools: list[str] | None = None,
        user: User | None = None,
        train_on: Literal["rollouts", "references"] = "rollouts",
        evaluation: dict[str, str] | None = None,
        group_size: int = 8,
        prompts_per_round: int = 16,
        steps_per_round: int = 1,
        epochs_per_round: int = 1,
        rounds_ahead: Literal[0, 1] = 0,
        advantages: AdvantageEstimator | None = None,
        mask_truncated: bool = False,
        guidance: Guidance = Guidance(),  # noqa: B008 - frozen
        sampling: SamplingParams = SamplingParams(),  # noqa: B008 - frozen
        evaluation_sampling: EvaluationSampling = EvaluationSampling(),  # noqa: B008 - frozen
        metrics: list[TrajectoryMetric] | None = None,
        limits: RolloutLimits = RolloutLimits(),  # noqa: B008 - frozen
        max_problems: int | None = None,
        evaluation_batch_size: int = 128,
        imitate_reasoning: bool = False,
        overlong_prompts: Literal["error", "skip"] = "error",
        max_bad_lines: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.reward = reward
        self.user = user
        self.train_on = train_on
        self.advantages = advantages or GroupStandardized()
        self.mask_truncated = mask_truncated
        self.guidance = guidance
        self.sampling = sampling
        self.evaluation_sampling = evaluation_sampling
        self.metrics = tuple(metrics or ())
        self.limits = limits
        self.group_size = group_size
        self.rounds_ahead = rounds_ahead
        self.max_problems = max_problems
        self.evaluation_batch_size = evaluation_batch_size
        self.imitate_reasoning = imitate_reasoning
        self.overlong_prompts = overlong_prompts
        self.plan = StreamPlan(
            prompts_per_round=prompts_per_round,
            steps_per_round=steps_per_round,
            epochs_per_round=epochs_per_round,
            seed=seed,
        )
        self.toolbox = ToolBox(tools, final_tools=final_tools or ())
        self._max_bad_lines = max_bad_lines
        self._files = named_files(references, evaluation)
        self.prompts: dict[str, list[Prompt]] = {}
        self._stream: TrainingStream | None = None
        self._position: StreamPosition | None = None
        self._check()

    def _check(self) -> None:
        if self.train_on == "rollouts" and self.reward is None:
            raise ConfigError("data.reward is missing; rollouts need one, for example `reward: rewards/mentor.yaml`")
        if self.train_on == "rollouts" and self.reward is not None:
            self.guidance.check(self.reward)
        if self.train_on == "rollouts" and self.group_size < 2:
            raise ConfigError(
                f"data.group_size is {self.group_size}; trajectories are compared within a group, so at least 2"
            )
        if self.train_on == "rollouts" and not self.sampling.temperature:
            raise ConfigError(
                "data.sampling.temperature is 0; a group of greedy attempts holds nothing to compare, so it must be above 0"
            )
        for name in ("max_problems", "evaluation_batch_size"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ConfigError(f"data.{name} is {value}; it must be at least 1")
        compatibility.check_plan(self.plan)

    # Lightning's hooks ----------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Read every file and check it against tools and tokenizer, before the student is loaded."""
        if self.prompts:
            return
        if stage == "fit" and self.plan.prompts_per_round % self._trainer.world_size:
            raise ConfigError(
                f"data.prompts_per_round is {self.plan.prompts_per_round}, which {self._trainer.world_size} ranks cannot share evenly"
            )
        if stage == "fit" and self.train_on == "references":
            compatibility.check_imitation(self._module, rounds_ahead=self.rounds_ahead)
        elif stage == "fit":
            compatibility.check_exploration(
                self._module, sampling=self.sampling, rounds_ahead=self.rounds_ahead, guidance=self.guidance
            )
        check_chat(self.protocol)
        for name, file in self._files.items():
            references = read_references(resolve(file), max_bad_lines=self._max_bad_lines)
            compatibility.check_tools(references, file=file, toolbox=self.toolbox)
            prompts = group_by_prompt(with_expected_state(reference, self.toolbox) for reference in references)
            self.prompts[name] = prompts if name == "train" else prompts[: self.max_problems]
        if stage == "fit" and self.train_on == "rollouts":
            compatibility.check_round_fits(self.plan, len(self.prompts["train"]))

    def train_dataloader(self) -> TrainingStream:
        """Return the stream of training batches."""
        self._close_stream()
        self._stream = self._training_stream()
        if self._position is not None:
            self._stream.go_to(self._position)
            self._position = None
        return self._stream

    def _training_stream(self) -> TrainingStream:
        prompts = self._room.prompts(self.prompts["train"], "train")
        if self.train_on == "references":
            return ReferenceStream(
                trainer=self._trainer,
                controller=self._module.controller,
                samples=self._room.solutions(prompts),
                plan=self.plan,
            )
        assert self.reward is not None  # checked at construction
        return (AheadRolloutStream if self.rounds_ahead else RolloutStream)(
            trainer=self._trainer,
            controller=self._module.controller,
            runner=self.runner,
            prompts=prompts,
            comparison=GroupComparison(
                reward=self.reward,
                advantages=self.advantages,
                mask_truncated=self.mask_truncated,
                guidance=self.guidance,
                solution=self._room.solution,
            ),
            sampling=self.sampling,
            group_size=self.group_size,
            plan=self.plan,
        )

    def val_dataloader(self) -> list[EvaluationStream]:
        """Return one stream of attempts per evaluation split."""
        return [
            EvaluationStream(
                trainer=self._trainer,
                controller=self._module.controller,
                runner=self.runner,
                split=split,
                prompts=self._room.prompts(self.prompts[split], split),
                sampling=self.evaluation_sampling,
                batch_size=self.evaluation_batch_size,
                seed=self.plan.seed,
                reward=self.reward,
                metrics=self.metrics,
            )
            for split in self._files
            if split != "train"
        ]

    test_dataloader = predict_dataloader = val_dataloader

    # Resuming -------------------------------------------------------------------------------------------------

    @functools.cached_property
    def identity(self) -> dict[str, str | int]:
        """What decides which prompts a round holds; a checkpoint's position means nothing under another one."""
        digest = hashlib.sha256(resolve(self._files["train"]).read_bytes()).hexdigest()
        return {"references (SHA-256)": digest, "train_on": self.train_on, **dataclasses.asdict(self.plan)}

    def position(self) -> StreamPosition:
        """Return where this rank's training goes on after the optimiser steps that are made."""
        return StreamPosition(rounds_done=0) if self._stream is None else self._stream.position()

    def go_to(self, position: StreamPosition) -> None:
        """Let training go on from this rank's position of a checkpoint."""
        self._position = position

    # Parts ----------------------------------------------------------------------------------------------------

    @functools.cached_property
    def protocol(self) -> ChatProtocol:
        """Renders and reads the student's conversations."""
        return ChatProtocol(self._module.tokenizer)

    @functools.cached_property
    def runner(self) -> RolloutRunner:
        """Lets the student try prompts; there once the student is loaded."""
        student = self._module.student
        if student is None:
            raise AssertionError("the student is not loaded yet")
        return RolloutRunner(
            protocol=self.protocol,
            toolbox=self.toolbox,
            limits=self.limits,
            max_context=max_context(student),
            user=self.user,
        )

    @functools.cached_property
    def _room(self) -> ContextRoom:
        return ContextRoom(self.runner, skip=self.overlong_prompts == "skip", imitate_reasoning=self.imitate_reasoning)

    @property
    def _trainer(self) -> Trainer:
        if self.trainer is None:
            raise AssertionError("the data module belongs to no trainer yet")
        return self.trainer

    @property
    def _module(self) -> MentorModule:
        return cast(MentorModule, self._trainer.lightning_module)

    def teardown(self, stage: str) -> None:
        """Give up a rollout that nobody waits for any more."""
        self._close_stream()

    def on_exception(self, exception: BaseException) -> None:
        """See `teardown`, which a run that fails does not reach."""
        self._close_stream()

    def _close_stream(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def close(self) -> None:
        """End the tools' workers."""
        self._close_stream()
        self.toolbox.close()
