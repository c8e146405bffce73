"""Reasoning apart from what is said."""

from __future__ import annotations

import os
import re
from collections.abc import Container
from dataclasses import dataclass

_LAST_TAG = re.compile(r"(<[^<>]*>?[^<>\s]*|\[[^\[\]]*\]|[^\s<>]+)\s*\Z")
_FIRST_TAG = re.compile(r"\s*(<[^<>]*>|\[[^\[\]]*\]|[^\s<>]+)")
_KNOWN_THOUGHTS = (("<think>", "</think>"), ("[THINK]", "[/THINK]"), ("<|START_THINKING|>", "<|END_THINKING|>"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ThoughtTags:
    """How a turn marks reasoning.

    Attributes:
        open: Before it.
        close: Behind it.
        blank_open: `open` with the blanks that the template writes.
        blank_close: `close` with the blanks that the template writes.
        rendered: True where the template itself writes a message's reasoning.
        opened: True where the header of the next turn has opened a thought.
        closed: True where that header holds a whole, empty thought: the student is not to think.
    """

    open: str = "<think>"
    close: str = "</think>"
    blank_open: str = "<think>\n"
    blank_close: str = "\n</think>\n\n"
    rendered: bool = False
    opened: bool = False
    closed: bool = False


def in_thought(text: str, tags: ThoughtTags) -> bool:
    """Tell whether a turn, as far as it was sampled, is in the middle of a thought.

    Args:
        text: The turn so far.
        tags: The template's.
    """
    closed, opened = text.rfind(tags.close), text.rfind(tags.open)
    return opened > closed or (closed < 0 and tags.opened)


def split_thought(text: str, tags: ThoughtTags) -> tuple[str, str]:
    """Split a turn into reasoning and the rest.

    A thought that never closes is all of the turn; what comes before a later thought is part of it.

    Args:
        text: The turn as sampled, without its stop token.
        tags: The template's.
    """
    closed = text.rfind(tags.close)
    if in_thought(text, tags):
        thought, rest = text, ""
    elif closed < 0:
        return "", text
    else:
        thought, rest = text[:closed], text[closed + len(tags.close) :]
    thought = thought.strip().removeprefix(tags.open)
    return thought.strip(), rest


def learn_tags(rendered: str, header: str, added: Container[str], *, thought: str, words: str) -> ThoughtTags:
    """Learn the tags from a rendered thought; where the template renders none, those that most models use.

    Args:
        rendered: A conversation whose last turn thinks and then speaks; "" where there is none.
        header: A conversation up to the next assistant header.
        added: The tokenizer's added tokens.
        thought: What the turn thinks.
        words: What it says.
    """
    before, thinks, rest = rendered.partition(thought)
    closing, _, tail = rest.partition(words)
    opening, close = _LAST_TAG.search(before), _FIRST_TAG.match(closing)
    shown = header
    header = header.rstrip()
    if thinks and opening and close:
        blank_open = before[shared_start(shown, before) :]
        # Where the same tag closes other things too, all that stands there has to be seen.
        whole = close[1] in tail
        blanks = len(closing[close.end() :]) - len(closing[close.end() :].lstrip())
        # Some headers open the thought with words that past turns do not show.
        more = header.removeprefix(before.rstrip())
        in_words = len(more) < len(header) and bool(more) and close[1] not in more
        return ThoughtTags(
            open=blank_open.strip() or _unique_end(header, rest) or opening[1],
            close=closing.strip() if whole else close[1],
            blank_open=blank_open,
            blank_close=closing if whole else closing[: close.end() + blanks],
            rendered=True,
            opened=in_words or header.endswith(opening[1]),
            closed=header.endswith(close[1]),
        )
    for open_tag, close_tag in _KNOWN_THOUGHTS:
        if header.endswith((open_tag, close_tag)):
            return ThoughtTags(
                open=open_tag,
                close=close_tag,
                blank_close=f"\n{close_tag}\n\n",
                opened=header.endswith(open_tag),
                closed=header.endswith(close_tag),
            )
    for open_tag, close_tag in _KNOWN_THOUGHTS:
        if open_tag in added:
            return ThoughtTags(
                open=open_tag, close=close_tag, blank_open=f"{open_tag}\n", blank_close=f"\n{close_tag}\n\n"
            )
    return ThoughtTags()


def shared_start(header: str, whole: str) -> int:
    """Return how far two texts agree, in whole tags: `<think>` and `<tool_call>` share more than a reader would say."""
    start = len(os.path.commonprefix([header, whole]))
    if start < len(header):
        tag = whole.rfind("<", 0, start)
        if tag >= 0 and ">" not in whole[tag:start]:
            return tag
    return start


def _unique_end(text: str, other: str) -> str:
    """Return the shortest run of tags at a text's end that another text does not hold."""
    parts = re.findall(r"<[^<]*", text[-200:])
    for number in range(1, len(parts) + 1):
        end = "".join(parts[-number:])
        if end not in other:
            return end
    return ""
