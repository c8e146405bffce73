"""A student whose frozen weights are held in 4 bits, with a LoRA adapter on top (QLoRA, arXiv:2305.14314)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from transformers import BitsAndBytesConfig, PreTrainedModel, PreTrainedTokenizerBase

from mentor_pl.adapters import is_four_bit
from mentor_pl.students.base import StudentLoader
from mentor_pl.students.lora import Adapter
from mentor_pl.students.pretrained import Pretrained

QuantStorage = Literal["uint8", "bfloat16", "float16", "float32"]


class Nf4LoraStudent(StudentLoader):
    """Trains a LoRA adapter on a model held in 4-bit NormalFloat; on CUDA where there is a GPU, else on CPU.

    Linear layers but the output head are quantised while loading; embeddings, norms and all
    arithmetic have the `dtype`.

    Args:
        path: A Hugging Face folder, a hub id, or `embedded:student`.
        rank: Rank of the adapter's two factors.
        alpha: The adapter's output is scaled by alpha / rank.
        dropout: On the adapter's input. Anything but 0 makes the policy that trains another one
            than the policy that sampled.
        target_modules: "all-linear" for every linear layer but the output head, a regular
            expression, or module name endings.
        init_seed: Draws the first factor, so that every rank starts from the same adapter whatever
            else it drew before.
        double_quant: Quantise the quantisation constants too; saves 0.37 bits a weight.
        quant_storage: Type under which the packed bits are kept. A precision policy that casts
            floats, as FSDP2's does, leaves uint8 alone.
        **pretrained: The model below: `dtype`, `attn_implementation`, `gradient_checkpointing`,
            `chat_template`, `pad_token` and `gguf_file`; see `Pretrained`.
    """

    def __init__(
        self,
        path: str,
        *,
        rank: int = 16,
        alpha: float = 32.0,
        dropout: float = 0.0,
        target_modules: str | list[str] = "all-linear",
        init_seed: int = 0,
        double_quant: bool = True,
        quant_storage: QuantStorage = "uint8",
        **pretrained: Any,
    ) -> None:
        self._pretrained = Pretrained(path, **pretrained)
        self._adapter = Adapter(
            rank=rank, alpha=alpha, dropout=dropout, target_modules=target_modules, init_seed=init_seed
        )
        self._quantisation = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=double_quant,
            bnb_4bit_compute_dtype=getattr(torch, self._pretrained.dtype),
            bnb_4bit_quant_storage=getattr(torch, quant_storage),
        )

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """See `StudentLoader.load_tokenizer`."""
        return self._pretrained.load_tokenizer()

    def load_model(self) -> PreTrainedModel:
        """See `StudentLoader.load_model`."""
        # Without a device map the model would be made in full precision first.
        device = torch.cuda.current_device() if torch.cuda.is_available() else "cpu"
        model = self._pretrained.load_model(quantization_config=self._quantisation, device_map={"": device})
        for layer in model.modules():
            if is_four_bit(layer):
                # On CPUs with AVX512-BF16 the first forward in eval mode (every rollout) would repack the weights in place for a
                # kernel that has no gradient to its input, and all later training steps would go wrong in silence.
                layer.support_avx512bf16_for_cpu = False
        return self._adapter.attach(model)
