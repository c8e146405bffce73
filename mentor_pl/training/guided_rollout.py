"""A round's rollout with prompts replaced and hints given, as guidance asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from mentor_pl.chat.protocol import ChatProtocol
from mentor_pl.engines.base import EngineStatistics, RolloutEngine, SamplingParams
from mentor_pl.guidance import Guidance
from mentor_pl.messages import Message
from mentor_pl.rewards.program import RewardProgram
from mentor_pl.rollout.runner import Prompt, RolloutRunner
from mentor_pl.trajectory import Completion, TrajectoryGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class GuidedRollout:
    """Samples groups, then replaces those without signal and gives hints to those that fail.

    Attributes:
        runner: Lets an engine's weights try prompts.
        prompts: What there is to try.
        sampling: How tokens are drawn.
        group_size: Trajectories per prompt, without those that get a hint.
        guidance: What is replaced, and who gets hints.
        reward_of: Returns the program that tells what a success of a group is.
        seed: Decides which prompt replaces which.
    """

    runner: RolloutRunner
    prompts: Sequence[Prompt]
    sampling: SamplingParams
    group_size: int
    guidance: Guidance
    reward_of: Callable[[TrajectoryGroup], RewardProgram]
    seed: int

    def run(
        self,
        engine: RolloutEngine,
        places: Sequence[int],
        drawn: Sequence[int],
        *,
        round_index: int,
        seed: int,
        should_stop: Callable[[], bool],
    ) -> tuple[list[TrajectoryGroup], EngineStatistics, dict[str, float]]:
        """Sample the groups of some places of a round.

        Args:
            engine: Holding the student's present weights.
            places: The places, in order.
            drawn: Prompts of all places of the round, before any is replaced.
            round_index: The round.
            seed: Decides every sampled token.
            should_stop: See `RolloutRunner.run`.

        Returns:
            A group for each place; what the engine computed; and `guidance/refills`,
            `guidance/hinted`: groups sampled anew, and trajectories with a hint, per place.

        Raises:
            RolloutStopped: `should_stop` said so.
        """

        def sample(indices: Sequence[int]) -> list[TrajectoryGroup]:
            nonlocal statistics
            groups = self.runner.run(
                engine,
                [self.prompts[i] for i in indices],
                sampling=self.sampling,
                group_size=self.group_size,
                seed=seed,
                should_stop=should_stop,
            )
            statistics = statistics + self.runner.statistics
            return groups

        statistics = EngineStatistics()
        metrics: dict[str, float] = {}
        groups = sample([drawn[place] for place in places])
        if (dynamic := self.guidance.dynamic_sampling) is not None:
            environments = [prompt[0].environment for prompt in self.prompts]
            substitutes = dynamic.substitutes(drawn, environments, seed=self.seed, round_index=round_index)
            metrics["guidance/refills"] = 0.0
            for refill in range(dynamic.max_refills):
                again = [
                    (i, substitutes[place][refill])
                    for i, place in enumerate(places)
                    if refill < len(substitutes[place]) and dynamic.without_signal(self._successes(groups[i]))
                ]
                if not again:
                    break
                metrics["guidance/refills"] += len(again) / len(places)
                for (i, _), group in zip(again, sample([index for _, index in again]), strict=True):
                    groups[i] = group
        if self.guidance.hints is not None:
            metrics["guidance/hinted"] = 0.0
            for i, given in self._to_hint(groups, round_index).items():
                (hinted,) = self.runner.run(
                    engine,
                    [groups[i].references],
                    sampling=self.sampling,
                    group_size=self.guidance.hints.attempts,
                    first_sample_index=self.group_size,
                    given=given,
                    seed=seed,
                    should_stop=should_stop,
                )
                statistics = statistics + self.runner.statistics
                groups[i] = replace(groups[i], trajectories=groups[i].trajectories + hinted.trajectories)
                metrics["guidance/hinted"] += len(hinted.trajectories) / len(places)
        return groups, statistics, metrics

    def _successes(self, group: TrajectoryGroup) -> list[bool]:
        return self.guidance.successes(self.reward_of(group), group)

    def _to_hint(self, groups: Sequence[TrajectoryGroup], round_index: int) -> dict[int, tuple[Completion, ...]]:
        """Return the given turns of each group that fails."""
        hints, out = self.guidance.hints, dict[int, tuple[Completion, ...]]()
        assert hints is not None
        for i, group in enumerate(groups):
            messages = hints.given(group.references, round_index)
            if messages and not any(self._successes(group)):
                out[i] = tuple(
                    _completion(self.runner.protocol, message, after_results=number > 0)
                    for number, message in enumerate(self.runner.protocol.turns(messages))
                )
        return out


def _completion(protocol: ChatProtocol, message: Message, *, after_results: bool) -> Completion:
    ids = protocol.assistant_ids(message, after_results=after_results)
    return Completion(token_ids=ids, logprobs=(0.0,) * len(ids))
