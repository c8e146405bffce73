"""A rollout by a model that nobody trains: a local teacher, judge or user."""

from __future__ import annotations

from typing import Any

from mentor_pl.causal_model import max_context, vocab_size
from mentor_pl.chat.protocol import ChatProtocol
from mentor_pl.engines.base import RolloutEngine
from mentor_pl.rollout.runner import RolloutRunner
from mentor_pl.rollout.world import World
from mentor_pl.students.base import StudentLoader, loaded_model, loaded_tokenizer


def load_runner(loader: StudentLoader, engine: RolloutEngine, world: World, device: str) -> RolloutRunner:
    """Load a model and give its weights to an engine.

    Args:
        loader: Loads model and tokenizer.
        engine: Generates.
        world: What the model acts in.
        device: Where it runs.

    Returns:
        What lets it try prompts.

    Raises:
        ConfigError: It cannot be loaded, or has no usable chat template.
        EngineError: The engine cannot take it.
    """
    tokenizer = loaded_tokenizer(loader)
    model: Any = loaded_model(loader)
    model.to(device)
    model.eval()
    engine.sync(model, 0)
    return RolloutRunner(
        protocol=ChatProtocol(tokenizer), world=world, max_context=max_context(model), vocab_size=vocab_size(model)
    )
