"""`mentor-pl doctor`: what a student can do here, and what to set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from rich.console import Console
from rich.text import Text
from torch import nn

from mentor_pl.causal_model import max_context
from mentor_pl.chat.examination import Finding, examine_chat, example
from mentor_pl.chat.protocol import ChatProtocol
from mentor_pl.cli.parser import call
from mentor_pl.engines.cascade.engine import CascadeEngine
from mentor_pl.errors import ConfigError, EngineError, MentorError
from mentor_pl.students.full import FullStudent
from mentor_pl.tools.interpreter import PythonInterpreter
from mentor_pl.tools.sandbox import kernel
from mentor_pl.training.packed_attention import supports_packing

_GIB = 2**30
_STYLES = {"ok": "green", "note": "yellow", "fault": "red"}
_ADAMW_BYTES = 16
"""A trained weight in float32, its gradient, and AdamW's two moments."""


def doctor(
    student: str,
    chat_template: str | None = None,
    chat_template_kwargs: dict[str, Any] | None = None,
    pad_token: str | None = None,
    rows: int = 64,
    context_tokens: int | None = None,
) -> int:
    """Examine a student: template, calls, control tokens, stop tokens, engine, packing, context and memory.

    Args:
        student: A Hugging Face folder, a hub id, or `embedded:student`.
        chat_template: As `model.student.init_args.chat_template`.
        chat_template_kwargs: As `model.student.init_args.chat_template_kwargs`.
        pad_token: As `model.student.init_args.pad_token`.
        rows: Trajectories that a rollout holds at once, for the estimate of memory.
        context_tokens: Length of each of them; the student's context, at most 2048, unless given.

    Returns:
        The number of faults: where there are any, it cannot be trained so.

    Raises:
        ConfigError: The plan of rows or tokens is below 1.
    """
    for name, value in (("rows", rows), ("context_tokens", context_tokens)):
        if value is not None and value < 1:
            raise ConfigError(f"doctor: {name} is {value}; it must be at least 1")
    console = Console(highlight=False, soft_wrap=True)
    loader = FullStudent(
        student, chat_template=chat_template, chat_template_kwargs=chat_template_kwargs, pad_token=pad_token
    )
    faults = 0
    try:
        protocol = ChatProtocol(loader.load_tokenizer())
        for finding in examine_chat(protocol):
            faults += _show(console, finding)
        _show_example(console, protocol)
        model = loader.load_model()
        for finding in (*examine_model(model, rows=rows, context_tokens=context_tokens), examine_sandbox()):
            faults += _show(console, finding)
    except MentorError as refused:
        faults += _show(console, Finding(topic="student", level="fault", text=str(refused)))
    console.print(f"{student}: " + ("cannot be trained so" if faults else "can be trained"), markup=False)
    return faults


def examine_model(model: nn.Module, *, rows: int, context_tokens: int | None = None) -> Iterator[Finding]:
    """Look at a loaded student's engine, packing, context and memory.

    Args:
        model: The student.
        rows: Trajectories that a rollout holds at once.
        context_tokens: Length of each of them; the student's context, at most 2048, unless given.

    Yields:
        A finding for each.
    """
    engine = CascadeEngine(max_rows=1)
    try:
        engine.sync(model, 0)
        yield Finding(topic="engine", level="ok", text="CascadeEngine, the fast one")
    except EngineError as reason:
        yield Finding(
            topic="engine",
            level="note",
            text=f"HFGenerateEngine, the slow one: {reason}",
            remedy="for speed use vLLM servers (engine/vllm.yaml)",
        )
    finally:
        engine.close()
    packs, why = supports_packing(model)
    yield (
        Finding(topic="packing", level="ok", text="packed batches")
        if packs
        else Finding(topic="packing", level="note", text=f"padded batches: {why}")
    )
    limit = max_context(model)
    context_tokens = min(limit, 2048) if context_tokens is None else context_tokens
    fits = context_tokens <= limit
    yield Finding(
        topic="context",
        level="ok" if fits else "note",
        text=f"{limit} tokens",
        remedy="" if fits else f"plan with context_tokens of at most {limit}",
    )
    yield _memory(model, rows=rows, context_tokens=context_tokens)


def examine_sandbox() -> Finding:
    """Look at what this machine grants to the tool `PythonInterpreter`."""
    if reason := kernel.unsupported():
        return Finding(
            topic="code tool",
            level="note",
            text=f"PythonInterpreter cannot confine code here: {reason}",
            remedy="use CommandInterpreter with a confinement that you have",
        )
    try:
        interpreter = PythonInterpreter(workers=1)
    except MentorError as failure:
        return Finding(topic="code tool", level="note", text=f"PythonInterpreter does not start: {failure}")
    found = interpreter.features
    interpreter.close()
    namespaces = "namespaces" if found["namespaces"] else f"no namespaces ({found['why_not']})"
    text = f"PythonInterpreter: Landlock {found['landlock']}, {namespaces}; code may hold {found['task_limit']}"
    return Finding(topic="code tool", level="ok" if found["namespaces"] else "note", text=text)


def _memory(model: Any, *, rows: int, context_tokens: int) -> Finding:
    weights = sum(weight.numel() for weight in model.parameters())
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or getattr(config, "num_attention_heads", 0)
    width = getattr(config, "head_dim", None) or (
        config.hidden_size // config.num_attention_heads if getattr(config, "num_attention_heads", 0) else 0
    )
    itemsize = torch.empty((), dtype=next(model.parameters()).dtype).element_size()
    cache = 2 * config.num_hidden_layers * heads * width * rows * context_tokens * itemsize
    return Finding(
        topic="memory",
        level="ok",
        text=(
            f"{weights / 1e6:.0f} M weights: all trained in float32 with AdamW {weights * _ADAMW_BYTES / _GIB:.1f} GiB, LoRA in "
            f"bfloat16 about {weights * 2 / _GIB:.1f} GiB, NF4 + LoRA about {weights * 0.56 / _GIB:.1f} GiB; the cache of {rows} rows of "
            f"{context_tokens} tokens up to {cache / _GIB:.1f} GiB; activations come on top"
        ),
    )


def _show(console: Console, finding: Finding) -> int:
    line = Text(f"{finding.level:<6}", _STYLES[finding.level]) + Text(f"{finding.topic}: {finding.text}")
    console.print(line)
    if finding.remedy:
        console.print(Text(f"      → {finding.remedy}", "dim"))
    return finding.level == "fault"


def _show_example(console: Console, protocol: ChatProtocol) -> None:
    trained = "bold green" if console.is_terminal else ""
    console.print(Text("\nAn example; the student is trained on what stands in ⟦ ⟧:", "dim"))
    text = Text()
    for stretch in example(protocol):
        text += Text(f"⟦{stretch.text}⟧", trained) if stretch.trained else Text(stretch.text)
    console.print(text)
    console.print()


def main(argv: list[str]) -> None:
    """Run `mentor-pl doctor`; exit code 1 where the student cannot be trained so."""
    if call(doctor, argv, prog="mentor-pl doctor", as_positional=True):
        raise SystemExit(1)
