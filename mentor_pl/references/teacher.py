"""What is asked of a teacher."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mentor_pl.errors import MentorError
from mentor_pl.messages import Message, ToolSpec


class TeacherError(MentorError):
    """The teacher cannot be used at all: wrong key, unknown model, nothing left on the account."""


class ConversationRefusedError(TeacherError):
    """The teacher does not take this one conversation.

    Attributes:
        common: True where others may be refused for the same cause, such as a setting; False where
            the cause lies in this one: too long, say, or filtered.
    """

    def __init__(self, message: str, *, common: bool = False) -> None:
        super().__init__(message)
        self.common = common


class UnavailableError(TeacherError):
    """The teacher did not answer in spite of every retry."""


class Stopped(Exception):
    """The collection is being stopped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One message of a teacher, and what it cost.

    Attributes:
        message: An assistant message.
        finish_reason: Why it ended, in the endpoint's words; see `replies.kind_of_end`.
        prompt_tokens: Tokens read.
        completion_tokens: Tokens written.
    """

    message: Message
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


class Teacher(ABC):
    """Who solves prompts.

    Attributes:
        faults: What went wrong and was retried, with counts.
    """

    faults: Counter[str]

    @property
    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """Everything that decides a reply besides the conversation: model, sampling. A change makes journalled replies stale."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Who it is, for `Reference.teacher`."""


class ChatTeacher(Teacher):
    """Continues conversations, a message at a time; called from many threads at once.

    Attributes:
        max_completion_tokens: Most tokens that one reply may have.
    """

    max_completion_tokens: int

    @abstractmethod
    def reply(self, messages: Sequence[Message], tools: Sequence[ToolSpec], *, sample_index: int, key: str) -> Reply:
        """Return the next message.

        Args:
            messages: The conversation so far.
            tools: The tools offered.
            sample_index: Which of several samples of this conversation.
            key: Names this request; the same whenever it is sent again, so that an endpoint that
                knows such keys bills it once.

        Raises:
            Stopped: `stop` was called.
            ConversationRefusedError: This conversation is not taken.
            UnavailableError: No answer in spite of every retry.
            TeacherError: No conversation will be taken.
        """

    def stop(self) -> None:
        """End what is under way, soon; every later `reply` raises `Stopped`. Called from another thread."""
        return None
