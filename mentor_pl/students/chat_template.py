"""Which chat template a student gets, and whether it can do what the method needs."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from mentor_pl.errors import ChatFormatError

_SHIPPED = files("mentor_pl") / "chat" / "templates"
_REMEDY = "set model.student's `chat_template` to a .jinja file that does, or to a template that we ship ('hermes')"


def read_chat_template(name: str) -> str:
    """Read a chat template.

    Args:
        name: Path of a Jinja file, or the name of a template that we ship.

    Raises:
        ChatFormatError: There is no such file or name.
    """
    if Path(name).is_file():
        return Path(name).read_text(encoding="utf-8")
    shipped = _SHIPPED / f"{name}.jinja"
    if shipped.is_file():
        return shipped.read_text(encoding="utf-8")
    names = ", ".join(sorted(file.name.removesuffix(".jinja") for file in _SHIPPED.iterdir()))
    raise ChatFormatError(
        f"chat_template {name!r} is neither a file nor the name of a template that we ship; these are: {names}"
    )


def check_chat_template(tokenizer: PreTrainedTokenizerBase, student: str) -> None:
    """Render a small conversation with tools and look whether everything in it arrives.

    Args:
        tokenizer: With the template to be checked.
        student: What error messages call the student.

    Raises:
        ChatFormatError: There is no template, or it ignores the tools offered, their calls or their results, or fails to render them.
    """
    if not tokenizer.chat_template:
        raise ChatFormatError(
            f"student {student!r} has no chat template: its tokenizer cannot render a conversation; {_REMEDY}"
        )
    parameters = {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}
    offered = {"type": "function", "function": {"name": "probe_tool", "description": "A.", "parameters": parameters}}
    call = {"id": "call_0", "type": "function", "function": {"name": "probe_call", "arguments": {"x": 1}}}
    asked: list[dict[str, Any]] = [{"role": "user", "content": "probe_question"}]
    answered = [
        *asked,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "probe_result", "tool_call_id": "call_0", "name": "probe_call"},
    ]
    prompt = _render(tokenizer, asked, [offered], student)
    solution = _render(tokenizer, answered, [offered], student)
    for what, probe, rendered in (
        ("the user's message", "probe_question", prompt),
        ("the tools offered", "probe_tool", prompt),
        ("tool calls", "probe_call", solution),
        ("tool results", "probe_result", solution),
    ):
        if probe not in rendered:
            raise ChatFormatError(f"the chat template of student {student!r} ignores {what}; {_REMEDY}")


def _render(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, Any]], tools: list[Any], student: str) -> str:
    try:
        text = tokenizer.apply_chat_template(messages, tools=tools, add_generation_prompt=True, tokenize=False)
    except Exception as failure:  # whatever a stranger's template raises means that it cannot be used
        raise ChatFormatError(
            f"the chat template of student {student!r} cannot render a conversation with tools ({failure}); {_REMEDY}"
        ) from failure
    return str(text)
