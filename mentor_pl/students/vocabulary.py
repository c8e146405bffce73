"""What a model's files say about the tokens of its tokenizer: which end a turn, and which it has embeddings for."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, GenerationConfig, PreTrainedTokenizerBase

from mentor_pl.errors import StudentError


def generation_stops(source: str) -> tuple[int, ...]:
    """Return the end-of-sequence tokens of a model's `generation_config.json`; none where it has no such file.

    Args:
        source: Folder or hub id.
    """
    try:
        ends = GenerationConfig.from_pretrained(source).eos_token_id
    except (OSError, ValueError):
        return ()
    return () if ends is None else tuple(ends) if isinstance(ends, list) else (int(ends),)


def check_embeddings(tokenizer: PreTrainedTokenizerBase, source: str, student: str) -> None:
    """Refuse a tokenizer with tokens for which the model has no embeddings.

    Added tokens that no template, stop token or padding uses may lie outside: they are never
        reached.

    Args:
        tokenizer: With its chat template.
        source: Folder or hub id of the model.
        student: What messages call the student.

    Raises:
        StudentError: There are such tokens.
    """
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False).get_text_config()
    except (OSError, ValueError):
        return  # loading the model says what is wrong
    size = getattr(config, "vocab_size", None)
    if size is None:
        return
    vocabulary: Any = tokenizer  # transformers' stubs make these names attributes
    added = set(vocabulary.get_added_vocab())
    used = f"{tokenizer.chat_template} {tokenizer.pad_token} {tokenizer.eos_token}"
    outside = sorted(
        (number, token)
        for token, number in vocabulary.get_vocab().items()
        if number >= size and (token not in added or token in used)
    )
    if outside:
        named = ", ".join(f"{token!r} ({number})" for number, token in outside[:5])
        raise StudentError(
            f"student {student!r}: its model has {size} embeddings, and {len(outside)} tokens of its tokenizer's vocabulary lie outside: "
            f"{named}; take the tokenizer that belongs to the model, resize the model's embeddings to {outside[-1][0] + 1} "
            "(`resize_token_embeddings`) and save it, or set model.student's `chat_template` to one that uses other tokens"
        )
