"""Which chat template a student gets: its own where that knows tools, else its own turns with tools as text, else ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files
from itertools import product

from transformers import PreTrainedTokenizerBase

from mentor_pl.chat.detection import Detected, detect
from mentor_pl.chat.in_place import without_changes_in_place
from mentor_pl.chat.template import MARK, ConversationTemplate
from mentor_pl.chat.tokens import PieceEncoder
from mentor_pl.errors import ChatFormatError
from mentor_pl.messages import Message

SHIPPED = files("mentor_pl") / "chat" / "templates"
"""The templates that we ship."""

TOOLS_AS_TEXT = "with_tools = namespace"
"""Stands in a template that was given tools as text of its own turns."""

_CHATML = ("<|im_start|>", "<|im_end|>")


def shipped_template(name: str) -> str:
    """Return the source of a template that we ship."""
    return (SHIPPED / f"{name}.jinja").read_text(encoding="utf-8")


def choose(tokenizer: PreTrainedTokenizerBase, encoder: PieceEncoder | None = None) -> Detected:
    """Find the template to be used and how it is used.

    The tokenizer's own template is taken where tools, calls and results can be written and read by
    it. Where not, they become text of the template's own turns. A tokenizer without a template gets
    ChatML where it has the tokens, else turns that its end-of-sequence token closes.

    Args:
        tokenizer: With a chat template or without.
        encoder: Of that tokenizer, where there is one already.

    Raises:
        ChatFormatError: None of these can be used.
    """
    encoder = encoder or PieceEncoder(tokenizer)
    own = own_template(tokenizer)
    given = with_header(tokenizer, encoder, own) if own else None
    failure: ChatFormatError | None = None
    for source in _candidates(tokenizer, encoder, given):
        try:
            return detect(tokenizer, encoder, source)
        except ChatFormatError as reason:
            failure = failure or reason
    if failure is None:
        raise ChatFormatError(
            f"the tokenizer of {tokenizer.name_or_path!r} has neither a chat template nor an end-of-sequence token; set `eos_token` in "
            "its tokenizer_config.json, or model.student's `chat_template` to a .jinja file"
        )
    try:
        hermes_template(tokenizer, own)
        remedy = "set model.student's `chat_template` to 'hermes' or to a .jinja file"
    except ChatFormatError:
        remedy = "or set model.student's `chat_template` to a .jinja file whose turns end with one of the tokenizer's added tokens"
    raise ChatFormatError(f"{failure}; {remedy}") from failure


def own_template(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Return the tokenizer's template; of several by name, as older Cohere and Hermes models have them, the one for tools, or the first."""
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("tool_use") or template.get("default") or next(iter(template.values()), None)
    return template or None


def with_header(tokenizer: PreTrainedTokenizerBase, encoder: PieceEncoder, source: str) -> str:
    """Return a template that ends a prompt with the header of the next assistant turn.

    A template that ignores `add_generation_prompt` leaves the header to the student, who would then
    speak as the template does. It gets the header that its past turns have.

    Args:
        tokenizer: The student's.
        encoder: Of that tokenizer.
        source: Jinja source.
    """
    template = ConversationTemplate(tokenizer, encoder, source)
    ask = Message(role="user", content="probe_question")
    try:
        asked, unasked = (template.render([ask], add_generation_prompt=prompt).text for prompt in (True, False))
        said = Message(role="assistant", content=MARK)
        answered = template.render([ask, said], add_generation_prompt=False).text
    except ChatFormatError:
        return source
    header, mark, _ = answered.removeprefix(asked).partition(MARK)
    if asked != unasked or not answered.startswith(asked) or not mark or not header.strip():
        return source
    return f"{source.removesuffix(chr(10))}{{% if add_generation_prompt %}}{{{{ {json.dumps(header, ensure_ascii=False)} }}}}{{% endif %}}"


def with_tools_as_text(
    source: str,
    *,
    tools_in_user_turn: bool,
    contents_in_parts: bool,
    tools_left: str = "none",
    system_always: bool = False,
    keyed_from_value: bool = False,
) -> str:
    """Return a template in which tools, calls and results are text of the given template's turns.

    Args:
        source: Jinja source of a template that knows no tools.
        tools_in_user_turn: Offer the tools in the first user turn: the template has no system turn.
        contents_in_parts: Give contents as lists of parts, as templates of vision models want them.
        tools_left: What the template is given for its tools, in Jinja: some fail at `none`, some
            show an empty list.
        system_always: Begin with a system turn, empty where there is nothing to say in it.
        keyed_from_value: Give messages the keys `from` and `value` in place of `role` and
            `content`, and call the speakers "human" and "gpt".
    """
    flags = {"tools_in_user_turn": tools_in_user_turn, "contents_in_parts": contents_in_parts}
    flags |= {"system_always": True} if system_always else {}
    flags |= {"keyed_from_value": True} if keyed_from_value else {}
    head = "".join(f"{{%- set {name} = {str(value).lower()} -%}}\n" for name, value in flags.items())
    if tools_left != "none":
        return f"{head}{shipped_template('tools_as_text')}{{%- set tools = {tools_left} -%}}\n{source}"
    return f"{head}{shipped_template('tools_as_text')}{source}"


def hermes_template(tokenizer: PreTrainedTokenizerBase, own: str | None) -> str:
    """Return the template that `chat_template: hermes` stands for: ChatML, or the family's own turns where it lacks ChatML's tokens.

    Args:
        tokenizer: The student's.
        own: The tokenizer's own template.

    Raises:
        ChatFormatError: The tokenizer has neither ChatML's tokens nor turns of its own.
    """
    if _has_chatml(tokenizer):
        return shipped_template("hermes")
    encoder = PieceEncoder(tokenizer)
    own_turns = _own_turns(tokenizer, encoder, with_header(tokenizer, encoder, own)) if own else ()
    for source in (*own_turns, *_plain_turns(tokenizer)):
        try:
            detect(tokenizer, encoder, source)
        except ChatFormatError:
            continue
        return source
    raise ChatFormatError(
        f"the tokenizer of {tokenizer.name_or_path!r} has neither ChatML's tokens nor an end-of-sequence token, so nothing could end a "
        "turn; set `eos_token` in its tokenizer_config.json"
    )


def _candidates(tokenizer: PreTrainedTokenizerBase, encoder: PieceEncoder, own: str | None) -> Iterator[str]:
    if own is not None:
        yield own
        if (rewritten := without_changes_in_place(own)) != own:
            own = rewritten
            yield own
        yield from _adapted(own)
        yield from _own_turns(tokenizer, encoder, own)
    elif _has_chatml(tokenizer):
        yield shipped_template("hermes")
    if own is None:
        yield from _plain_turns(tokenizer)


def _adapted(own: str) -> Iterator[str]:
    """Yield the template, given tools and arguments in the forms that some templates want."""
    for wanted, as_text in product(
        ("list", "text", "functions", "xml_tools", "functions_text", "system_text", "system"), (False, True)
    ):
        if (wanted, as_text) != ("list", False):
            head = (
                f"{{%- set tools_wanted = '{wanted}' -%}}\n{{%- set arguments_as_text = {str(as_text).lower()} -%}}\n"
            )
            yield head + shipped_template("adapted") + own
    yield "{%- set ids_hold_names = true -%}\n" + shipped_template("adapted") + own


def _own_turns(tokenizer: PreTrainedTokenizerBase, encoder: PieceEncoder, own: str) -> Iterator[str]:
    """Yield the template with tools as text in every form in which it shows what it is given."""
    forms = product(("none", "[]"), (False, True), (False, True))
    usual = (
        with_tools_as_text(own, tools_in_user_turn=in_user_turn, contents_in_parts=in_parts, tools_left=tools_left)
        for tools_left, in_parts, in_user_turn in forms
    )
    rare = (
        with_tools_as_text(
            own, tools_in_user_turn=False, contents_in_parts=False, system_always=not keyed, keyed_from_value=keyed
        )
        for keyed in (False, True)
    )
    for source in (*usual, *rare):
        template = ConversationTemplate(tokenizer, encoder, source)
        ask = [Message(role="system", content="probe_system"), Message(role="user", content="probe_question")]
        try:
            template.render(ask, add_generation_prompt=True)
        except ChatFormatError:
            continue
        yield source


def _plain_turns(tokenizer: PreTrainedTokenizerBase) -> Iterator[str]:
    """Yield turns that the end-of-sequence token closes, where there is one."""
    if tokenizer.eos_token is not None:
        yield with_tools_as_text(shipped_template("plain"), tools_in_user_turn=False, contents_in_parts=False)


def _has_chatml(tokenizer: PreTrainedTokenizerBase) -> bool:
    return all(token in tokenizer.get_vocab() for token in _CHATML)
