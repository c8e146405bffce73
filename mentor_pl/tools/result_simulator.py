"""What answers a call for which nothing was recorded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from mentor_pl.messages import ToolCall, ToolSpec
from mentor_pl.reference import Reference


class ResultSimulator(ABC):
    """Makes up the result of a call that cannot be run. Called from many threads at once."""

    @abstractmethod
    def result(
        self, call: ToolCall, spec: ToolSpec, reference: Reference, earlier: Sequence[tuple[ToolCall, str]]
    ) -> str:
        """Return what the tool would answer.

        Args:
            call: Fits the tool's schema.
            spec: The tool.
            reference: The prompt, with the teacher's calls and their results.
            earlier: This trajectory's calls so far, each with what it was answered.

        Raises:
            ToolBackendError: What makes results up cannot be reached; the trajectory ends as
                `infrastructure`.
        """
