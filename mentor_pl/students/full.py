"""A student of which every weight is trained."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mentor_pl.students.base import StudentLoader
from mentor_pl.students.pretrained import Pretrained


class FullStudent(StudentLoader):
    """Trains every weight of a pretrained model.

    Args:
        path: A Hugging Face folder, a hub id, or `embedded:student`.
        **pretrained: `dtype`, `attn_implementation`, `gradient_checkpointing`, `chat_template` and
            `pad_token`; see `Pretrained`.
    """

    def __init__(self, path: str, **pretrained: Any) -> None:
        self._pretrained = Pretrained(path, **pretrained)

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """See `StudentLoader.load_tokenizer`."""
        return self._pretrained.load_tokenizer()

    def load_model(self) -> PreTrainedModel:
        """See `StudentLoader.load_model`."""
        return self._pretrained.load_model()
