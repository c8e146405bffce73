"""The LightningDataModule: environments in, training batches and evaluation attempts out."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, Literal, cast

from lightning.pytorch import LightningDataModule, Trainer

from mentor_pl.advantages import AdvantageEstimator, GroupStandardized
from mentor_pl.causal_model import max_context, vocab_size
from mentor_pl.chat.examination import check_chat
from mentor_pl.chat.protocol import ChatProtocol
from mentor_pl.engines.base import SamplingParams
from mentor_pl.environments import Environment, Split, resolve_splits, training_environments
from mentor_pl.errors import ConfigError
from mentor_pl.evaluation.sampling import EvaluationSampling
from mentor_pl.evaluation.split import named_metrics
from mentor_pl.guidance import Guidance
from mentor_pl.rollout.limits import RolloutLimits
from mentor_pl.rollout.runner import Prompt, RolloutRunner
from mentor_pl.training import compatibility
from mentor_pl.training.ahead_stream import AheadRolloutStream
from mentor_pl.training.comparison import GroupComparison
from mentor_pl.training.context_room import ContextRoom, Reading
from mentor_pl.training.evaluation_stream import EvaluationStream
from mentor_pl.training.mixture_order import check_shares
from mentor_pl.training.module import MentorModule
from mentor_pl.training.rounds import RoundPlan, StreamPlan, StreamPosition
from mentor_pl.training.stream import ReferenceStream, RolloutStream, TrainingStream
from mentor_pl.training.training_order import guided_order, shuffled_order


class MentorDataModule(LightningDataModule):
    """Serves training batches and evaluation attempts.

    Args:
        train: The environments to train on, where there are several.
        evaluation: Reference file, or environment, of each evaluation split, by its name. What a
            split does not name it takes from the training environment.
        train_on: `rollouts` lets the student explore; `references` imitates the teacher's
            solutions.
        round: How a round is made and trained on.
        sampling: How the student explores.
        advantages: Compares the trajectories of a group.
        guidance: What the teacher adds beyond the reward: prompts replaced, hints, its solution in
            the group or beside it.
        evaluation_sampling: How the splits are tried; greedily and once by default.
        reading: How references are read, and what becomes of those that are too long.
        seed: Decides the order of prompts and every sampled token.
        limits: Budgets of each trajectory, in every environment that names none.
        environment: The short form: with `references`, the one environment to train on; beside
            `train`, what each environment has that names none of its own.
    """

    def __init__(
        self,
        train: list[Environment] | None = None,
        evaluation: dict[str, str | Environment] | None = None,
        train_on: Literal["rollouts", "references"] = "rollouts",
        round: RoundPlan = RoundPlan(),  # noqa: B008 - frozen
        sampling: SamplingParams = SamplingParams(),  # noqa: B008 - frozen
        advantages: AdvantageEstimator | None = None,
        guidance: Guidance = Guidance(),  # noqa: B008 - frozen
        evaluation_sampling: EvaluationSampling = EvaluationSampling(),  # noqa: B008 - frozen
        reading: Reading = Reading(),  # noqa: B008 - frozen
        seed: int = 0,
        limits: RolloutLimits = RolloutLimits(),  # noqa: B008 - frozen
        **environment: Any,
    ) -> None:
        super().__init__()
        self.train_on = train_on
        self.plan = StreamPlan(seed=seed, **dataclasses.asdict(round))
        self.sampling = sampling
        self.advantages = advantages or GroupStandardized()
        self.guidance = guidance
        self.evaluation_sampling = evaluation_sampling
        self.reading = reading
        self._check()
        short = Environment(limits=limits, name=None, weight=1.0, like=None, **environment)
        self.splits = resolve_splits(
            training_environments(short, train), evaluation, short, max_bad_lines=reading.max_bad_lines
        )
        for split in self.splits.evaluation:
            named_metrics(split.metrics)  # refuses two of one name
        if train_on == "rollouts":
            compatibility.check_rewards(self.splits.train, guidance)
        self._prompts: dict[Split, list[Prompt]] = {}
        self._stream: TrainingStream | None = None
        self._position: StreamPosition | None = None

    def _check(self) -> None:
        explores = self.train_on == "rollouts"
        compatibility.check_plan(self.plan, explores=explores)
        if explores and not self.sampling.temperature:
            raise ConfigError(
                "data.sampling.temperature is 0; a group of greedy attempts holds nothing to compare, so it must be above 0"
            )

    # Lightning's hooks ----------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Read every file that is needed and check it against tools and tokenizer, before the student is loaded."""
        if stage == "fit":
            self._check_training()
        check_chat(self.protocol)
        for split in (self.splits.train if stage == "fit" else ()) + self.splits.evaluation:
            if split not in self._prompts:
                self._prompts[split] = split.prompts()
        if stage == "fit" and self.train_on == "rollouts":
            counts = [len(self._prompts[split]) for split in self.splits.train]
            check_shares(self.splits.train, counts, self.plan.prompts_per_round)

    def _check_training(self) -> None:
        if not self.splits.train:
            raise ConfigError("there is nothing to train on; name a reference file as data.references, or data.train")
        if self.plan.prompts_per_round % self._trainer.world_size:
            raise ConfigError(
                f"data.round.prompts_per_round is {self.plan.prompts_per_round}, which {self._trainer.world_size} ranks cannot share evenly"
            )
        if self.train_on == "references":
            compatibility.check_imitation(self._module, rounds_ahead=self.plan.ahead)
        else:
            compatibility.check_exploration(
                self._module, sampling=self.sampling, rounds_ahead=self.plan.ahead, guidance=self.guidance
            )

    def train_dataloader(self) -> TrainingStream:
        """Return the stream of training batches."""
        self._close_stream()
        self._stream = self._training_stream()
        if self._position is not None:
            self._stream.go_to(self._position)
            self._position = None
        return self._stream

    def _training_stream(self) -> TrainingStream:
        runner = self._runner(self.splits.train)
        room = ContextRoom(runner, self.reading)
        prompts = [room.prompts(self._prompts[split], split.name) for split in self.splits.train]
        of_round = {"round_size": self.plan.prompts_per_round, "seed": self.plan.seed}
        if self.train_on == "references":
            samples = [room.solutions(of_split) for of_split in prompts]
            return ReferenceStream(
                trainer=self._trainer,
                controller=self._module.controller,
                samples=[sample for of_split in samples for sample in of_split],
                order=shuffled_order(self.splits.train, [len(one) for one in samples], **of_round),
                plan=self.plan,
            )
        return (AheadRolloutStream if self.plan.ahead else RolloutStream)(
            trainer=self._trainer,
            controller=self._module.controller,
            runner=runner,
            prompts=[prompt for of_split in prompts for prompt in of_split],
            order=guided_order(self.splits.train, prompts, self.guidance, **of_round),
            comparison=GroupComparison(
                reward=self.splits.rewards(),
                advantages=self.advantages,
                mask_truncated=self.plan.mask_truncated,
                guidance=self.guidance,
                solution=room.solution,
            ),
            sampling=self.sampling,
            plan=self.plan,
        )

    def val_dataloader(self) -> list[EvaluationStream]:
        """Return one stream of attempts per evaluation split."""
        return [self._evaluation_stream(split) for split in self.splits.evaluation]

    test_dataloader = predict_dataloader = val_dataloader

    def _evaluation_stream(self, split: Split) -> EvaluationStream:
        runner = self._runner([split])
        prompts = self._prompts[split][: self.evaluation_sampling.max_problems]
        return EvaluationStream(
            trainer=self._trainer,
            controller=self._module.controller,
            runner=runner,
            split=split,
            prompts=ContextRoom(runner, self.reading).prompts(prompts, split.name),
            sampling=self.evaluation_sampling,
            seed=self.plan.seed,
        )

    # Resuming -------------------------------------------------------------------------------------------------

    @functools.cached_property
    def identity(self) -> dict[str, str | int | float]:
        """What decides which prompts a round holds; a checkpoint's position means nothing under another one."""
        plan = self.plan
        out: dict[str, str | int | float] = {"train_on": self.train_on, "seed": plan.seed}
        out |= {
            "round.prompts_per_round": plan.prompts_per_round,
            "round.steps": plan.steps,
            "round.passes": plan.passes,
        }
        return out | self.splits.identity()

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

    def _runner(self, splits: Sequence[Split]) -> RolloutRunner:
        """Return what lets the student try the prompts of some splits; the student is loaded."""
        student = self._module.student
        if student is None:
            raise AssertionError("the student is not loaded yet")
        worlds = {split.name: split.world for split in splits}
        return RolloutRunner(
            protocol=self.protocol,
            world=worlds if len(worlds) > 1 else next(iter(worlds.values())),
            max_context=max_context(student),
            vocab_size=vocab_size(student),
        )

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
        self.splits.close()
