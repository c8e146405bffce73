"""From prompts to verified references by asking a teacher (rejection sampling)."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from mentor_pl.errors import ConfigError
from mentor_pl.reference import Reference
from mentor_pl.references.attempt import Attempt, AttemptLimits, Endpoint, Stopped
from mentor_pl.references.budget import BudgetSpentError
from mentor_pl.references.selection import Preference, choose, reference_of, rejection_reason
from mentor_pl.references.teacher import ConversationRefusedError, TeacherError, UnavailableError
from mentor_pl.rewards.base import RewardComponent
from mentor_pl.tools.toolbox import ToolBox
from mentor_pl.trajectory import Trajectory

_WINDOW = 4
"""Prompts under way for each thread: results are handed out in order, and one slow prompt must not make the others wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How often a prompt is tried and what is kept.

    Attributes:
        samples: Attempts at each prompt, at most.
        keep: References kept of each prompt, at most.
        prefer: Which of several verified attempts are kept. With `first`, no more attempts are made once `keep` are verified.
        max_failed_calls: Failed tool calls that a verified attempt may have.
        concurrency: Prompts that are tried at once.
        max_unavailable_in_a_row: Attempts in a row without any answer from the teacher after which the collection stops.
    """

    samples: int = 1
    keep: int = 1
    prefer: Preference = "first"
    max_failed_calls: int = 0
    concurrency: int = 8
    max_unavailable_in_a_row: int = 5

    def __post_init__(self) -> None:
        for name in ("samples", "keep", "concurrency", "max_unavailable_in_a_row"):
            if getattr(self, name) < 1:
                raise ConfigError(f"sampling.{name} is {getattr(self, name)}; it must be at least 1")

    def check_temperature(self, temperature: float | None) -> None:
        """Refuse to sample several times what is always the same.

        Raises:
            ConfigError: Several samples at temperature 0.
        """
        if self.samples > 1 and temperature == 0:
            raise ConfigError(
                f"sampling.samples is {self.samples} but the teacher's temperature is 0: every sample would be the same; "
                "raise the temperature or take 1 sample"
            )


@dataclass(slots=True, kw_only=True)
class CollectionReport:
    """What a collection brought.

    Attributes:
        prompts: Prompts handled.
        solved: Prompts with at least one reference.
        references: References kept.
        attempts: Attempts made or found in the journal.
        verified: Attempts that were verified.
        causes: Why attempts were not, with counts.
        calls: Tool -> calls in kept references.
        used_in: Tool -> kept references that call it.
    """

    prompts: int = 0
    solved: int = 0
    references: int = 0
    attempts: int = 0
    verified: int = 0
    causes: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    used_in: Counter[str] = field(default_factory=Counter)

    def take(self, outcome: Outcome) -> None:
        """Count one prompt in."""
        self.prompts += 1
        self.solved += bool(outcome.references)
        self.references += len(outcome.references)
        self.attempts += outcome.attempts
        self.verified += outcome.verified
        self.causes.update(outcome.causes)
        for reference in outcome.references:
            names = [call.name for call in reference.tool_calls]
            self.calls.update(names)
            self.used_in.update(set(names))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one prompt.

    Attributes:
        references: Those kept.
        attempts: Attempts made.
        verified: Attempts verified.
        causes: Why the others were not.
    """

    references: tuple[Reference, ...]
    attempts: int
    verified: int
    causes: tuple[str, ...]


def select(
    prompt: Reference,
    attempts: Iterable[Trajectory | str],
    *,
    judges: Sequence[RewardComponent],
    sampling: Sampling,
    teacher: str,
) -> Outcome:
    """Verify attempts and keep the best.

    Args:
        prompt: What was tried.
        attempts: In order, each a trajectory or why there is none; read no further than needed.
        judges: Each must score 1.0.
        sampling: What is kept.
        teacher: Who tried.
    """
    verified: list[Trajectory] = []
    causes: list[str] = []
    for attempt in attempts:
        cause = (
            attempt
            if isinstance(attempt, str)
            else rejection_reason(attempt, prompt, judges, max_failed_calls=sampling.max_failed_calls)
        )
        if cause is not None:
            causes.append(cause)
        elif isinstance(attempt, Trajectory):
            verified.append(attempt)
        if sampling.prefer == "first" and len(verified) == sampling.keep:
            break
    kept = choose(verified, keep=sampling.keep, prefer=sampling.prefer)
    references = tuple(
        reference_of(
            trajectory,
            prompt,
            reference_id=f"{prompt.reference_id}/{index}" if index else prompt.reference_id,
            teacher=teacher,
        )
        for index, trajectory in enumerate(kept)
    )
    return Outcome(
        references=references,
        attempts=len(verified) + len(causes),
        verified=len(verified),
        causes=tuple(causes),
    )


class Collector:
    """Tries prompts at an endpoint, many at once, and hands their references out in the order of the prompts.

    Args:
        endpoint: Teacher, journal and budget.
        toolbox: Runs the teacher's calls.
        judges: Each must score an attempt 1.0.
        sampling: How often a prompt is tried and what is kept.
        limits: Of one attempt.

    Attributes:
        report: What came of it so far.

    Raises:
        ConfigError: Several samples at temperature 0 would all be the same.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        toolbox: ToolBox,
        judges: Sequence[RewardComponent],
        sampling: Sampling,
        limits: AttemptLimits,
    ) -> None:
        sampling.check_temperature(endpoint.teacher.identity.get("temperature"))
        self.report = CollectionReport()
        self._endpoint, self._toolbox, self._judges = endpoint, toolbox, judges
        self._sampling, self._limits = sampling, limits
        self._unavailable_in_a_row = 0

    def references(
        self, prompts: Iterable[Reference], progress: Callable[[], None] = lambda: None
    ) -> Iterator[Reference]:
        """Try prompts.

        Args:
            prompts: Read as needed.
            progress: Called after each prompt.

        Yields:
            What is kept, prompt by prompt.

        Raises:
            TeacherError: The teacher cannot be used. What was paid for is in the journal.
        """
        waiting: deque[Future[Outcome]] = deque()
        source = iter(prompts)
        pool = ThreadPoolExecutor(self._sampling.concurrency, thread_name_prefix="collect")
        try:
            while True:
                while len(waiting) < _WINDOW * self._sampling.concurrency and (prompt := next(source, None)):
                    waiting.append(pool.submit(self._try, prompt))
                if not waiting:
                    return
                outcome = waiting.popleft().result()
                self.report.take(outcome)
                progress()
                yield from outcome.references
        finally:
            self._endpoint.stop.set()
            pool.shutdown(wait=True, cancel_futures=True)

    def _try(self, prompt: Reference) -> Outcome:
        attempts = (self._attempt(prompt, sample) for sample in range(self._sampling.samples))
        return select(
            prompt, attempts, judges=self._judges, sampling=self._sampling, teacher=self._endpoint.teacher.name
        )

    def _attempt(self, prompt: Reference, sample: int) -> Trajectory | str:
        attempt = Attempt(prompt, sample, endpoint=self._endpoint, toolbox=self._toolbox, limits=self._limits)
        try:
            trajectory = attempt.run()
        except BudgetSpentError:
            return "the budget is spent"
        except Stopped:
            return "stopped"
        except ConversationRefusedError as failure:
            return f"refused by the endpoint ({str(failure).partition(':')[0]})"
        except UnavailableError as failure:
            self._unavailable_in_a_row += 1
            if self._unavailable_in_a_row >= self._sampling.max_unavailable_in_a_row:
                raise TeacherError(
                    f"{failure}; {self._unavailable_in_a_row} attempts in a row failed like this. Nothing paid for is lost: "
                    "start again with the same journal when the endpoint is back"
                ) from failure
            return "the teacher did not answer"
        self._unavailable_in_a_row = 0
        return trajectory
