"""Which chat template a student gets."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.meta import find_undeclared_variables
from jinja2.nodes import Node
from jinja2.parser import Parser
from transformers import PreTrainedTokenizerBase

from mentor_pl.chat.choice import SHIPPED, TOOLS_AS_TEXT, choose, hermes_template, own_template
from mentor_pl.errors import ChatFormatError

_log = logging.getLogger(__name__)
_NAMES = ("hermes",)
_GIVEN = {
    "messages",
    "tools",
    "add_generation_prompt",
    "bos_token",
    "eos_token",
    "raise_exception",
    "strftime_now",
    "documents",
}


class _Generation(Extension):
    """Reads transformers' `{% generation %}` blocks, whose contents stay as they are."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


_ENVIRONMENT = Environment(extensions=[loopcontrols, _Generation])  # noqa: S701 - only parsed, never rendered


def set_chat_template(
    tokenizer: PreTrainedTokenizerBase, name: str | None, student: str, variables: Mapping[str, Any] | None = None
) -> None:
    """Give a tokenizer the template that its student is trained with, and check that it can do what the method needs.

    Args:
        tokenizer: The student's.
        name: Path of a Jinja file, or "hermes"; None for the tokenizer's own. Where that one knows
            no tools, they become text of its own turns.
        student: What messages call the student.
        variables: Of the template, set for good.

    Raises:
        ChatFormatError: There is no such file or name, the template has no such variable, or it
            cannot be used.
    """
    holder: Any = tokenizer  # transformers types its own fields too narrowly
    own = own_template(tokenizer)
    given = own if name is None else hermes_template(tokenizer, own) if name == "hermes" else read_chat_template(name)
    without_variables = given
    if variables:
        if given is None:
            raise ChatFormatError(
                f"student {student!r}: chat_template_kwargs {sorted(variables)} without a chat template"
            )
        given = with_variables(given, variables, student)
    holder.chat_template = given
    try:
        source = choose(tokenizer).template.source
    except ChatFormatError as failure:
        if variables and _can_be_used(tokenizer, without_variables):
            raise ChatFormatError(
                f"student {student!r}: its chat template cannot be used with chat_template_kwargs {dict(variables)!r}, and can "
                f"without; leave them out or set others ({failure})"
            ) from failure
        raise ChatFormatError(f"student {student!r}: {failure}") from failure
    if source != given:
        lacks, instead = (
            ("is missing", "ChatML is taken")
            if given is None
            else ("does not take tools as given", "it is given them in another form")
        )
        if TOOLS_AS_TEXT in source:
            instead = "tools, calls and results are written as text of its turns"
        _log.warning("student %r: its chat template %s; %s (`mentor-pl doctor` shows how)", student, lacks, instead)
        holder.chat_template = source


def _can_be_used(tokenizer: PreTrainedTokenizerBase, source: str | None) -> bool:
    holder: Any = tokenizer
    holder.chat_template = source
    try:
        choose(tokenizer)
    except ChatFormatError:
        return False
    return True


def with_variables(source: str, variables: Mapping[str, Any], student: str) -> str:
    """Return a template with its variables set, unless whoever renders it sets them.

    Args:
        source: Jinja source.
        variables: Values by name, of the types that JSON has.
        student: What messages call the student.

    Raises:
        ChatFormatError: The template reads no variable of that name.
    """
    try:
        known = find_undeclared_variables(_ENVIRONMENT.parse(source))
    except TemplateError as failure:
        raise ChatFormatError(f"the chat template of student {student!r} is no Jinja template: {failure}") from failure
    unknown = sorted(set(variables) - known)
    if unknown:
        raise ChatFormatError(
            f"student {student!r}: chat_template_kwargs sets {unknown[0]!r}, which its chat template does not read; it reads "
            f"{', '.join(sorted(known - _GIVEN)) or 'none'}"
        )
    head = "".join(
        f"{{%- if {name} is not defined -%}}{{%- set {name} = {_literal(value)} -%}}{{%- endif -%}}\n"
        for name, value in variables.items()
    )
    return head + source


def _literal(value: Any) -> str:
    """Write a value in Jinja."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(key))}: {_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return "none" if value is None else json.dumps(value, ensure_ascii=False)


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
