"""Which chat template a student gets."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from mentor_pl.chat.choice import SHIPPED, choose, hermes_template, own_template
from mentor_pl.errors import ChatFormatError

_log = logging.getLogger(__name__)
_NAMES = ("hermes",)


def set_chat_template(tokenizer: PreTrainedTokenizerBase, name: str | None, student: str) -> None:
    """Give a tokenizer the template that its student is trained with, and check that it can do what the method needs.

    Args:
        tokenizer: The student's.
        name: Path of a Jinja file, or "hermes"; None for the tokenizer's own. Where that one knows no tools, they become text of its own
            turns.
        student: What messages call the student.

    Raises:
        ChatFormatError: There is no such file or name, or the template cannot be used.
    """
    holder: Any = tokenizer  # transformers types its own fields too narrowly
    own = own_template(tokenizer)
    given = own if name is None else hermes_template(tokenizer, own) if name == "hermes" else read_chat_template(name)
    holder.chat_template = given
    try:
        source = choose(tokenizer).template.source
    except ChatFormatError as failure:
        raise ChatFormatError(f"student {student!r}: {failure}") from failure
    if source != given:
        _log.warning(
            "student %r: its chat template %s; tools, calls and results are written as text of its turns (`mentor-pl doctor` shows how)",
            student,
            "is missing" if given is None else "does not take tools as given",
        )
        holder.chat_template = source


def read_chat_template(name: str) -> str:
    """Read a chat template.

    Args:
        name: Path of a Jinja file, or the name of a template that we ship.

    Raises:
        ChatFormatError: There is no such file or name.
    """
    if Path(name).is_file():
        return Path(name).read_text(encoding="utf-8")
    if name in _NAMES:
        return (SHIPPED / f"{name}.jinja").read_text(encoding="utf-8")
    raise ChatFormatError(
        f"chat_template {name!r} is neither a file nor the name of a template that we ship; these are: {', '.join(_NAMES)}"
    )
