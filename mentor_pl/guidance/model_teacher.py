"""A local model that judges the student's tokens."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from mentor_pl.guidance.token_teachers import AskedSequence, Scoring, TokenTeacher, check_same_tokenizer
from mentor_pl.students.base import StudentLoader, loaded_model, loaded_tokenizer


class ModelTeacher(TokenTeacher):
    """A model with the student's tokenizer, as a rule a larger one of its family. Every rank holds it whole.

    It reads the very tokens that the student read and wrote, tool results included; a sequence that
    is longer than its context is left out.

    Args:
        model: Loads it, for example `FullStudent` with its path.
    """

    def __init__(self, model: StudentLoader) -> None:
        self.loader = model
        self._model: nn.Module | None = None

    def check(self, tokenizer: PreTrainedTokenizerBase, temperature: float) -> None:
        """See `TokenTeacher.check`."""
        check_same_tokenizer(loaded_tokenizer(self.loader), tokenizer, type(self.loader).__name__)

    def logprobs(self, sequences: Sequence[AskedSequence], scoring: Scoring) -> list[Tensor | None]:
        """See `TokenTeacher.logprobs`."""
        if self._model is None:
            self._model = loaded_model(self.loader).eval().requires_grad_(False)
        room = scoring.context_of(self._model)
        fitting = [i for i, sequence in enumerate(sequences) if len(sequence.token_ids) <= room]
        out: list[Tensor | None] = [None] * len(sequences)
        for i, found in zip(fitting, scoring.logprobs([sequences[i] for i in fitting], self._model), strict=True):
            out[i] = found
        return out
