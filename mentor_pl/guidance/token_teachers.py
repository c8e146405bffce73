"""Whose log-probabilities the student's own tokens are compared with, one by one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from mentor_pl.errors import ConfigError
from mentor_pl.messages import Message
from mentor_pl.reference import Reference


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedSequence:
    """A trajectory as tokens, some of which a teacher is asked about.

    Attributes:
        token_ids: [L], int64.
        asked: True for the tokens that the student sampled, [L].
        prompt_length: Leading tokens that are the prompt.
        references: Of the prompt.
    """

    token_ids: Tensor
    asked: Tensor
    prompt_length: int
    references: tuple[Reference, ...]


class Scoring(Protocol):
    """What a teacher may use of the run."""

    def logprobs(self, sequences: Sequence[AskedSequence], model: nn.Module | None = None) -> list[Tensor]:
        """Return the log-probabilities of the asked tokens of each sequence, at the temperature of the rollout.

        All ranks call this together.

        Args:
            sequences: Of this rank.
            model: Whose; the student's, as it is now, by default.
        """
        ...

    def prompt_ids(self, prompt: Sequence[Message], reference: Reference) -> tuple[int, ...]:
        """Render a prompt with the tools of a reference."""
        ...

    def context_of(self, model: nn.Module | None = None) -> int:
        """Return how many tokens a model can take; the student by default."""
        ...


class TokenTeacher(ABC):
    """Tells how likely it finds the student's own tokens."""

    @abstractmethod
    def check(self, tokenizer: PreTrainedTokenizerBase, temperature: float) -> None:
        """Check that it can be asked about this student's tokens.

        Args:
            tokenizer: The student's.
            temperature: At which the student samples.

        Raises:
            ConfigError: It cannot, for example because it has another tokenizer.
        """

    @abstractmethod
    def logprobs(self, sequences: Sequence[AskedSequence], scoring: Scoring) -> list[Tensor | None]:
        """Return the log-probabilities of the asked tokens of each sequence; None where it cannot tell.

        All ranks call this together.
        """


def check_same_tokenizer(teacher: PreTrainedTokenizerBase, student: PreTrainedTokenizerBase, name: str) -> None:
    """Check that two tokenizers give every token of the student's the same id.

    Raises:
        ConfigError: They do not.
    """
    theirs, ours = teacher.get_vocab(), student.get_vocab()
    differing = next((token for token in sorted(ours, key=ours.__getitem__) if theirs.get(token) != ours[token]), None)
    if differing is not None:
        raise other_tokenizer(
            name,
            f"the token {differing!r} is {ours[differing]} to the student and {theirs.get(differing)} to the teacher",
        )


def other_tokenizer(name: str, found: str) -> ConfigError:
    """Return the refusal of a teacher with another tokenizer, with what was found."""
    return ConfigError(
        f"data.guidance.distillation.teacher: {name} has another tokenizer than the student: {found}. The reverse KL compares the "
        "probabilities of one and the same token, and another vocabulary cuts the text at other places; take a teacher of the "
        "student's family, or use this one's solutions: guidance.teacher_in_group, guidance.imitation"
    )
