"""What fits into the student's context: prompts, and teachers' solutions laid out as samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mentor_pl.reference import Reference
from mentor_pl.rollout.runner import Prompt, RolloutRunner
from mentor_pl.training import compatibility
from mentor_pl.training.samples import Sample, sample_from_reference


@dataclass(frozen=True, kw_only=True)  # no slots: jsonargparse reads the fields of a default from its __dict__
class Reading:
    """How references are read, and what becomes of those that are too long.

    Attributes:
        overlong_prompts: What to do with a prompt (for `train_on: references`, a solution too) that
            does not fit into the student's context, where a prompt needs room for one more token:
            `error`, or `skip` and count.
        imitate_reasoning: Whether the teacher's reasoning is imitated, too, where the references
            keep it.
        max_bad_lines: Broken lines of a reference file that are left out with a warning before it
            becomes an error.
    """

    overlong_prompts: Literal["error", "skip"] = "error"
    imitate_reasoning: bool = False
    max_bad_lines: int = 0


class ContextRoom:
    """Leaves out, or refuses, what is longer than the student's context.

    Args:
        runner: Renders prompts; knows the context's length.
        reading: What becomes of what is too long, and whether solutions keep the teacher's
            reasoning.
    """

    def __init__(self, runner: RolloutRunner, reading: Reading) -> None:
        self._runner = runner
        self._skip = reading.overlong_prompts == "skip"
        self._imitate_reasoning = reading.imitate_reasoning

    def prompts(self, prompts: list[Prompt], split: str) -> list[Prompt]:
        """Return the prompts of a split that leave room for at least one sampled token.

        Raises:
            ConfigError: One does not, and such prompts are not to be skipped; or none does.
        """
        lengths = {p[0].reference_id: len(self._runner.prompt_ids(p[0])) + 1 for p in prompts}
        overlong = self._overlong(lengths, f"prompts of {split!r}")
        return [p for p in prompts if p[0].reference_id not in overlong]

    def solutions(self, prompts: list[Prompt]) -> list[Sample]:
        """Lay out every teacher's solution of every prompt.

        Raises:
            ConfigError: One is too long, and such solutions are not to be skipped; or all are.
        """
        samples = {reference.reference_id: self._sample(reference) for prompt in prompts for reference in prompt}
        overlong = self._overlong({i: len(sample.token_ids) for i, sample in samples.items()}, "solutions")
        return [sample for i, sample in samples.items() if i not in overlong]

    def solution(self, reference: Reference) -> Sample | None:
        """Lay out one teacher's solution; None where there is none, or it is too long."""
        sample = self._sample(reference) if reference.messages else None
        return None if sample is None or len(sample.token_ids) > self._runner.max_context else sample

    def _sample(self, reference: Reference) -> Sample:
        return sample_from_reference(
            reference,
            self._runner.protocol,
            self._runner.offered(reference),
            imitate_reasoning=self._imitate_reasoning,
        )

    def _overlong(self, lengths: dict[str, int], what: str) -> set[str]:
        return compatibility.find_overlong(lengths, what=what, max_context=self._runner.max_context, skip=self._skip)
