"""A pretrained model and its tokenizer on disk or on the hub: what every built-in loader starts from."""

from __future__ import annotations

import re
from typing import Any, Literal

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from mentor_pl import embedded
from mentor_pl.chat.stops import keep_model_stops
from mentor_pl.errors import StudentError
from mentor_pl.students.chat_template import set_chat_template
from mentor_pl.students.gguf_conversion import converted_gguf
from mentor_pl.students.vocabulary import check_embeddings, generation_stops

DType = Literal["float32", "bfloat16", "float16"]

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


class Pretrained:
    """Loads a pretrained causal language model and its tokenizer, and refuses a pair that the method cannot train.

    Args:
        path: A Hugging Face folder, a hub id, or `embedded:student`.
        dtype: Of the weights.
        attn_implementation: Attention of transformers, for example "sdpa", "eager" or
            "flash_attention_2"; null for what the model supports: sdpa where it can.
        gradient_checkpointing: Recompute activations in the backward pass: less memory, about a
            third more time a step.
        chat_template: A .jinja file, or the name of a template that we ship ("hermes"), in place of
            the tokenizer's own.
        pad_token: A token of the vocabulary that pads, in place of the tokenizer's own; not the
            end-of-sequence token.
        chat_template_kwargs: Variables of the chat template, for example `enable_thinking: false`;
            they are written into it, so that the exported student needs none.
        gguf_file: Name of a GGUF file in the folder, which then need not hold anything else; it is
            dequantised and cached.
    """

    def __init__(
        self,
        path: str,
        *,
        dtype: DType = "float32",
        attn_implementation: str | None = None,
        gradient_checkpointing: bool = False,
        chat_template: str | None = None,
        pad_token: str | None = None,
        chat_template_kwargs: dict[str, Any] | None = None,
        gguf_file: str | None = None,
    ) -> None:
        self.path = path
        self.dtype: DType = dtype
        self.attn_implementation = attn_implementation
        self.gradient_checkpointing = gradient_checkpointing
        self.chat_template = chat_template
        self.pad_token = pad_token
        self.chat_template_kwargs = chat_template_kwargs
        self.gguf_file = gguf_file

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """Return the tokenizer, checked.

        Raises:
            StudentError: It cannot be loaded, has no pad token of its own or tokens without
                embeddings.
            ChatFormatError: Its chat template cannot be used.
        """
        source = self._source()
        try:
            tokenizer: Any = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        except (OSError, ValueError, KeyError, ImportError) as failure:
            raise StudentError(self._cannot_load("tokenizer", failure)) from failure
        stops = generation_stops(source)
        ends = [str(tokenizer.added_tokens_decoder[stop]) for stop in stops if stop in tokenizer.added_tokens_decoder]
        if tokenizer.eos_token is None and ends:
            tokenizer.eos_token = ends[0]
        self._set_pad_token(tokenizer)
        set_chat_template(tokenizer, self.chat_template, self.path, self.chat_template_kwargs)
        check_embeddings(tokenizer, source, self.path)
        keep_model_stops(tokenizer, stops)
        return tokenizer

    def load_model(self, **options: Any) -> PreTrainedModel:
        """Return the model in training mode.

        Args:
            **options: More keywords for `from_pretrained`, for example a quantisation config.

        Raises:
            StudentError: It cannot be loaded.
        """
        source = self._source()
        try:
            model = AutoModelForCausalLM.from_pretrained(
                source,
                dtype=getattr(torch, self.dtype),
                attn_implementation=self.attn_implementation,
                trust_remote_code=False,
                **options,
            )
        except (OSError, ValueError, KeyError, ImportError) as failure:
            raise StudentError(self._cannot_load("model", failure)) from failure
        if self.gradient_checkpointing:
            # The reentrant variant needs inputs with gradients, which a frozen embedding under LoRA does not give.
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        return model.train()  # from_pretrained leaves it in eval mode

    def _source(self) -> str:
        """Return the folder or hub id that transformers is given.

        Raises:
            StudentError: It is neither.
        """
        if self.gguf_file is not None:
            return str(converted_gguf(self.path, self.gguf_file))
        folder = embedded.resolve(self.path).expanduser()
        if folder.is_dir():
            if not (folder / "config.json").is_file():
                raise StudentError(
                    f"student {self.path!r}: the folder holds no config.json, so it is not a Hugging Face model folder; "
                    "set model.student's `path` to one (for a checkpoint of a run, export it first)"
                )
            return str(folder)
        if folder.exists() or not _HUB_ID.fullmatch(self.path):
            raise StudentError(
                f"student {self.path!r}: there is no such folder; set model.student's `path` to a Hugging Face model "
                "folder, a hub id such as 'Qwen/Qwen2.5-0.5B-Instruct', or 'embedded:student'"
            )
        return self.path

    def _cannot_load(self, part: str, failure: Exception) -> str:
        elsewhere = (
            ""
            if embedded.resolve(self.path).expanduser().is_dir()
            else " (no folder of that name, so taken as a hub id)"
        )
        if "trust_remote_code" in str(failure):
            return (
                f"student {self.path!r}{elsewhere}: its {part} wants code from its own folder to be run, which mentor-pl does not do; "
                "take a model whose architecture transformers has, or load it in a student loader of your own (a plugin)"
            )
        return f"student {self.path!r}{elsewhere}: its {part} cannot be loaded: {failure}"

    def _set_pad_token(self, tokenizer: Any) -> None:
        if self.pad_token is not None:
            if self.pad_token not in tokenizer.get_vocab():
                raise StudentError(
                    f"student {self.path!r}: pad_token {self.pad_token!r} is not in its vocabulary; {_spare_tokens(tokenizer)}"
                )
            tokenizer.pad_token = self.pad_token
        if tokenizer.pad_token is None:
            raise StudentError(
                f"student {self.path!r} has no pad token; set model.student's `pad_token` to a token of its vocabulary that "
                f"no text uses; {_spare_tokens(tokenizer)}"
            )
        if tokenizer.pad_token == tokenizer.eos_token:
            raise StudentError(
                f"student {self.path!r}: its pad token is its end-of-sequence token {tokenizer.eos_token!r}, so that padding "
                "could not be told from the end that it has to learn; set model.student's `pad_token` to another token; "
                f"{_spare_tokens(tokenizer)}"
            )


def _spare_tokens(tokenizer: Any) -> str:
    """Say which special tokens could pad, or how to get some."""
    added = (str(token) for token in tokenizer.added_tokens_decoder.values())
    spare = sorted({token for token in added if token not in (tokenizer.eos_token, tokenizer.bos_token)})
    if spare:
        return f"its special tokens are {', '.join(spare[:8])}"
    lacking = "'pad_token': '<pad>'" if tokenizer.eos_token else "'pad_token': '<pad>', 'eos_token': '<eos>'"
    return (
        f"it has no special tokens to spare: add some by `tokenizer.add_special_tokens({{{lacking}}})`, then "
        "`model.resize_token_embeddings(len(tokenizer))`, and save both into a folder of your own"
    )
