"""Rollouts: many episodes, an engine and tools, without a turn barrier."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from functools import partial

from mentor_pl.chat.protocol import ChatProtocol
from mentor_pl.engines.base import EngineSession, EngineStatistics, RolloutEngine, SamplingParams
from mentor_pl.engines.checked_session import checked_session
from mentor_pl.errors import ConfigError
from mentor_pl.messages import ToolSpec
from mentor_pl.reference import Reference
from mentor_pl.rollout.agent_loop import Episode, Response
from mentor_pl.rollout.student_episode import Step, StudentEpisode
from mentor_pl.rollout.world import World
from mentor_pl.tools.threads import DaemonThreads
from mentor_pl.trajectory import Completion, Trajectory, TrajectoryGroup

Prompt = tuple[Reference, ...]
"""All references of one prompt, at least one."""

_STOP_POLL_S = 1.0


class RolloutStopped(Exception):
    """A rollout was asked to stop before its end; what it had sampled is lost."""


class RolloutRunner:
    """Lets a student try prompts with real tools.

    Args:
        protocol: Renders and reads the student's conversations.
        world: What the student acts in; where there are several environments, by the names that
            references carry.
        max_context: Longest conversation in tokens that the student can take.
        vocab_size: Tokens that it has embeddings for; an engine's ids are held against it where
            given.
    """

    def __init__(
        self,
        *,
        protocol: ChatProtocol,
        world: World | Mapping[str, World],
        max_context: int,
        vocab_size: int | None = None,
    ) -> None:
        self.protocol = protocol
        self.max_context = max_context
        self.statistics = EngineStatistics()
        """What the engine computed in the last run."""
        self._world = world
        self._vocab_size = vocab_size

    def world(self, reference: Reference) -> World:
        """Return what the student acts in at a reference's prompt."""
        return self._world if isinstance(self._world, World) else self._world[reference.environment]

    @property
    def tool_names(self) -> tuple[str, ...]:
        """Every tool that is the same for all prompts of an environment."""
        worlds = [self._world] if isinstance(self._world, World) else self._world.values()
        return tuple(dict.fromkeys(spec.name for world in worlds for spec in world.toolbox.specs))

    def offered(self, reference: Reference) -> list[ToolSpec]:
        """Return a reference's tools, as our backends describe them."""
        return self.world(reference).toolbox.offered(reference)

    def prompt_ids(self, reference: Reference) -> tuple[int, ...]:
        """Render a reference's prompt."""
        return self.protocol.prompt_ids(reference.prompt, self.offered(reference))

    def episode(
        self, reference: Reference, prompt_ids: tuple[int, ...], *, index: int, sample_index: int, seed: int
    ) -> StudentEpisode:
        """Begin one attempt of the student.

        Args:
            reference: Its prompt and tools.
            prompt_ids: The rendered prompt.
            index: Names the row to the engine.
            sample_index: Position within its group.
            seed: Of the run.
        """
        world = self.world(reference)
        return StudentEpisode(
            index=index,
            episode=Episode(
                reference=reference,
                sample_index=sample_index,
                toolbox=world.toolbox,
                max_turns=world.limits.max_turns,
                max_tool_calls=world.limits.max_tool_calls,
                call_timeout_s=world.limits.tool_call_timeout_s,
                user=world.user,
            ),
            seed=seed,
            prompt_ids=prompt_ids,
            protocol=self.protocol,
            limits=world.limits,
            max_context=self.max_context,
        )

    def run(
        self,
        engine: RolloutEngine,
        prompts: Sequence[Prompt],
        *,
        sampling: SamplingParams,
        group_size: int,
        seed: int,
        should_stop: Callable[[], bool] = lambda: False,
        given: Sequence[Completion] = (),
        first_sample_index: int = 0,
    ) -> list[TrajectoryGroup]:
        """Sample a group of trajectories for each prompt.

        Args:
            engine: Holding the student's present weights.
            prompts: Each with all of its references; the first one's tools are offered.
            sampling: How tokens are drawn.
            group_size: Trajectories per prompt (G).
            seed: With a prompt's reference id and a sample's index it decides every random number.
            should_stop: Asked whenever a row moves on, and once a second while tools are waited
                for.
            given: Turns that every trajectory starts behind, as if the student had sampled them:
                their calls are run.
            first_sample_index: Index of a group's first sample.

        Returns:
            One group of G trajectories per prompt, in order.

        Raises:
            ConfigError: A prompt leaves no room in the student's context.
            EngineError: The engine failed.
            RolloutStopped: `should_stop` said so.
        """
        rows: list[StudentEpisode] = []
        for references in prompts:
            prompt_ids = self.prompt_ids(references[0])
            if len(prompt_ids) >= self.max_context:
                raise ConfigError(
                    f"the prompt of reference {references[0].reference_id!r} takes {len(prompt_ids)} tokens, the student's context "
                    f"{self.max_context}; shorten it, offer fewer tools, or set data.reading.overlong_prompts to 'skip'"
                )
            rows += [
                self.episode(
                    references[0],
                    prompt_ids,
                    index=len(rows) + sample,
                    sample_index=first_sample_index + sample,
                    seed=seed,
                )
                for sample in range(group_size)
            ]
        limits = [self.world(references[0]).limits for references in prompts]
        pool = DaemonThreads("tools", max((one.max_concurrent_tools for one in limits), default=1))
        try:
            for handed in [pool.submit(partial(_give, row, given)) for row in rows] if given else ():
                handed.result()
            with checked_session(engine, sampling, self.protocol.stop_token_ids, self._vocab_size) as session:
                done = _Loop(rows, session, pool, should_stop).run()
                self.statistics = session.statistics
        finally:
            pool.close()  # where the rollout broke off, calls may run to their time limit
            for row in rows:
                row.episode.close()
        if given:
            done = [replace(t, given_turns=min(len(given), len(t.turns))) for t in done]
        return [
            TrajectoryGroup(
                references=references,
                trajectories=tuple(done[group * group_size : (group + 1) * group_size]),
            )
            for group, references in enumerate(prompts)
        ]


def _give(row: StudentEpisode, turns: Sequence[Completion]) -> None:
    """Take turns in that nobody samples; they may end the attempt, by its budgets."""
    for completion in turns:
        if row.stop_reason is None and row.advance(completion) is Step.RESPOND:
            row.resume(row.episode.respond())


class _Loop:
    """The events of one rollout: completions come from the engine, results from tools, and each sends its row on."""

    def __init__(
        self,
        rows: Sequence[StudentEpisode],
        session: EngineSession,
        pool: DaemonThreads,
        should_stop: Callable[[], bool],
    ) -> None:
        self._rows = rows
        self._session = session
        self._pool = pool
        self._should_stop = should_stop
        self._parked: dict[Future[Response], StudentEpisode] = {}
        self._done: dict[int, Future[Trajectory]] = {}

    def run(self) -> list[Trajectory]:
        for row in self._rows:
            if row.stop_reason is not None:
                self._done[row.index] = self._pool.submit(row.episode.finish)
        self._session.submit([row.request() for row in self._rows if row.stop_reason is None])
        while len(self._done) < len(self._rows):
            completions = self._session.poll(interrupt=self._interrupted)
            if self._should_stop():
                raise RolloutStopped
            self._take_completions(completions)
            if not completions and self._parked:  # nothing to decode: wait for tools
                wait(self._parked, timeout=_STOP_POLL_S, return_when=FIRST_COMPLETED)
            self._resume([future for future in self._parked if future.done()])
        return [self._done[row.index].result() for row in self._rows]

    def _interrupted(self) -> bool:
        return self._should_stop() or any(future.done() for future in self._parked)

    def _take_completions(self, completions: Iterable[tuple[int, Completion]]) -> None:
        awaited: list[Future[Response]] = []
        park_after_s = 0.0
        # Rows in order, whatever order the engine finished them in: a seeded run repeats exactly.
        for index, completion in sorted(completions, key=lambda item: item[0]):
            row = self._rows[index]
            step = row.advance(completion)
            if step is Step.SAMPLE:
                self._session.submit([row.request()])
                continue
            if step is Step.NOTHING:
                self._finish(row)
                continue
            future = self._pool.submit(row.episode.respond)
            self._parked[future] = row
            if not row.episode.is_slow():
                awaited.append(future)
                park_after_s = max(park_after_s, row.park_after_s)
        if awaited:
            self._wait(awaited, park_after_s)
            self._resume([future for future in awaited if future.done()])

    def _wait(self, awaited: Sequence[Future[Response]], park_after_s: float) -> None:
        deadline = time.monotonic() + park_after_s
        while not self._should_stop() and (left := deadline - time.monotonic()) > 0:
            if not wait(awaited, timeout=min(left, _STOP_POLL_S)).not_done:
                return

    def _resume(self, futures: Iterable[Future[Response]]) -> None:
        ready: list[StudentEpisode] = []
        for future in list(futures):
            row = self._parked.pop(future)
            row.resume(future.result())
            if row.stop_reason is None:
                ready.append(row)
            else:
                self._finish(row)
        self._session.submit([row.request() for row in ready])

    def _finish(self, row: StudentEpisode) -> None:
        self._session.release(row.index)
        self._done[row.index] = self._pool.submit(row.episode.finish)
