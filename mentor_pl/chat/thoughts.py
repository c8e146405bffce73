"""Reasoning apart from what is said."""

from __future__ import annotations

from dataclasses import dataclass


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
