"""The contract of student loaders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mentor_pl.messages import Message, ToolSpec
from mentor_pl.testing.contract import require

if TYPE_CHECKING:
    from mentor_pl.students.base import StudentLoader


def check_student_loader(loader: StudentLoader) -> None:
    """Check that a loader keeps its plugin point's contract; loads the model once.

    The tokenizer must have a pad token and a chat template that renders tools and tool calls in a
    format that is known; the model must have parameters to train, embeddings for every token, and
    finite logits.

    Args:
        loader: The loader.

    Raises:
        PluginError: It does not.
        StudentError: The student cannot be loaded, or its chat template cannot be used.
    """
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from mentor_pl.chat.protocol import ChatProtocol

    tokenizer = loader.load_tokenizer()
    require(
        isinstance(tokenizer, PreTrainedTokenizerBase),
        loader,
        f"load_tokenizer gave {type(tokenizer).__name__}",
        "it must be a tokenizer of transformers",
    )
    require(tokenizer.pad_token_id is not None, loader, "the tokenizer has no pad token", "set one in load_tokenizer")
    tool = ToolSpec(name="frobnicate", description="Frobnicates.")
    prompt = ChatProtocol(tokenizer).prompt_ids([Message(role="user", content="Hello")], [tool])
    require(
        "frobnicate" in str(tokenizer.decode(list(prompt))),
        loader,
        "the chat template leaves out the tools",
        "the student must read which tools it has",
    )
    model = loader.load_model()
    base = model.get_base_model() if hasattr(model, "get_base_model") else model  # pyright: ignore[reportCallIssue]
    require(
        isinstance(base, PreTrainedModel),
        loader,
        f"load_model gave {type(model).__name__}",
        "it must be a model of transformers, or one wrapped by peft",
    )
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    require(bool(trained), loader, "no parameter has requires_grad", "load_model says what is to be trained")
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt], device=next(model.parameters()).device)).logits
    require(
        logits.shape[:2] == (1, len(prompt)) and bool(torch.isfinite(logits).all()),
        loader,
        f"{len(prompt)} tokens gave logits of shape {tuple(logits.shape)} or not all finite",
        "they must be finite and [B, T, vocabulary]",
    )
    require(
        logits.shape[2] >= len(tokenizer),
        loader,
        f"the model knows {logits.shape[2]} tokens, the tokenizer {len(tokenizer)}",
        "resize the model's embeddings",
    )
