"""A student of which a low-rank adapter is trained; its reference policy is itself with the adapter switched off."""

from __future__ import annotations

from typing import Any, cast

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mentor_pl.errors import StudentError
from mentor_pl.students.base import StudentLoader
from mentor_pl.students.pretrained import Pretrained


class LoraStudent(StudentLoader):
    """Trains a LoRA adapter (arXiv:2106.09685) on a frozen pretrained model.

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
        **pretrained: The model below: `dtype`, `attn_implementation`, `gradient_checkpointing`,
            `chat_template`, `pad_token` and `gguf_file`; see `Pretrained`. The adapter is float32
            whatever the `dtype`, since bfloat16 would round small updates away.
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
        **pretrained: Any,
    ) -> None:
        self._pretrained = Pretrained(path, **pretrained)
        self._adapter = Adapter(
            rank=rank, alpha=alpha, dropout=dropout, target_modules=target_modules, init_seed=init_seed
        )

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """See `StudentLoader.load_tokenizer`."""
        return self._pretrained.load_tokenizer()

    def load_model(self) -> PreTrainedModel:
        """See `StudentLoader.load_model`."""
        return self._adapter.attach(self._pretrained.load_model())


class Adapter:
    """The LoRA adapter that a loader puts on its model; for the arguments see `LoraStudent`.

    Raises:
        StudentError: A value lies outside its range.
    """

    def __init__(
        self, *, rank: int, alpha: float, dropout: float, target_modules: str | list[str], init_seed: int
    ) -> None:
        if rank < 1:
            raise StudentError(f"LoRA rank is {rank}; set model.student's `rank` to at least 1")
        if not 0 <= dropout < 1:
            raise StudentError(f"LoRA dropout is {dropout}; set model.student's `dropout` to a value in [0, 1)")
        from peft import LoraConfig  # imports bitsandbytes: only where an adapter is asked for

        self._config = LoraConfig(
            task_type="CAUSAL_LM",
            r=rank,
            lora_alpha=cast(int, alpha),  # peft computes with it as it is, whatever its annotation says
            lora_dropout=dropout,
            target_modules=target_modules,
        )
        self._init_seed = init_seed

    def attach(self, model: PreTrainedModel) -> PreTrainedModel:
        """Freeze the model, put the adapter into its layers, and return it in training mode.

        Raises:
            StudentError: No module matches the adapter's targets.
        """
        from peft import get_peft_model

        with torch.random.fork_rng():
            torch.manual_seed(self._init_seed)
            try:
                student = get_peft_model(model, self._config)
            except ValueError as failure:
                raise StudentError(
                    f"student {model.name_or_path!r}: LoRA cannot be put on target_modules {self._config.target_modules!r}: {failure}; "
                    "set model.student's `target_modules` to 'all-linear' or to names of its layers"
                ) from failure
        return cast(PreTrainedModel, student.train())  # get_peft_model leaves it in eval mode
