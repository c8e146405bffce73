"""A student out of a GGUF file, dequantised; every weight is trained."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mentor_pl.students.base import StudentLoader
from mentor_pl.students.pretrained import Pretrained


class GgufStudent(StudentLoader):
    """Trains every weight of a model that comes as a GGUF file.

    The file is converted once into an ordinary Hugging Face folder in the cache (see
    `converted_gguf`); that takes minutes, later loads take seconds. For an adapter on top of such a
    file, give `gguf_file` to `LoraStudent` or `Nf4LoraStudent`.

    Args:
        path: The folder that holds the file, or a hub id.
        gguf_file: Name of the file in it.
        **pretrained: `dtype`, `attn_implementation`, `gradient_checkpointing`, `chat_template` and
            `pad_token`; see `Pretrained`.
    """

    def __init__(self, path: str, gguf_file: str, **pretrained: Any) -> None:
        self._pretrained = Pretrained(path, gguf_file=gguf_file, **pretrained)

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """See `StudentLoader.load_tokenizer`."""
        return self._pretrained.load_tokenizer()

    def load_model(self) -> PreTrainedModel:
        """See `StudentLoader.load_model`."""
        return self._pretrained.load_model()
