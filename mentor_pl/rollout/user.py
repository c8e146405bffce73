"""Who speaks to the student once it has answered."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from mentor_pl.messages import Message
from mentor_pl.reference import Reference


class User(ABC):
    """Goes on with a conversation in the user's place. Called from many threads at once."""

    reads_fields: tuple[str, ...] = ()
    """Names of the reference's further `fields` that decide what this user says. References of one wording that differ in
    them are different prompts."""

    @abstractmethod
    def reply(self, reference: Reference, messages: Sequence[Message]) -> str | None:
        """Return what the user says next.

        Args:
            reference: The prompt; its `fields` may hold what this user wants.
            messages: The conversation so far, ending in an assistant message that calls no tool.

        Returns:
            The user's message; None where the user has nothing more to say, which ends the
            trajectory.

        Raises:
            ToolBackendError: What speaks for the user cannot be reached; the trajectory ends as
                `infrastructure`.
        """
