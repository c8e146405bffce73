"""Tokens that end a turn according to the model's own generation config, kept with its tokenizer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from transformers import PreTrainedTokenizerBase

_ATTRIBUTE = "mentor_pl_stop_token_ids"


def keep_model_stops(tokenizer: PreTrainedTokenizerBase, token_ids: Iterable[int]) -> None:
    """Keep with a tokenizer which tokens its model ends turns with.

    Rollouts, evaluation, chat and export all read them there (`ChatProtocol.stop_token_ids`),
    wherever the tokenizer goes.

    Args:
        tokenizer: Of the student.
        token_ids: As the model's `generation_config.json` lists them under `eos_token_id`.
    """
    setattr(tokenizer, _ATTRIBUTE, tuple(dict.fromkeys(int(token_id) for token_id in token_ids)))


def model_stops(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Return what `keep_model_stops` kept; nothing where it kept nothing."""
    kept: Any = getattr(tokenizer, _ATTRIBUTE, ())
    return tuple(kept)
