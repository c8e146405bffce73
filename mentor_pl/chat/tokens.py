"""Rendered text to token ids: what the template wrote may be control tokens, what others wrote is always plain text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

Before = Literal["nothing", "end_of_turn", "text"]
"""What comes before the text to be encoded: it begins a sequence, follows a stop token, or goes on within a turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A stretch of rendered text.

    Attributes:
        text: What stands there.
        foreign: True where a user, a tool or an earlier turn wrote it, and not the template.
    """

    text: str
    foreign: bool = False


class PieceEncoder:
    """Encodes rendered text as its tokenizer does, except that foreign text never becomes an added token.

    The tokenizer encodes the text in one go, so that ids are those of any other program that
    renders the conversation. Only where foreign text spells an added token, special or not, is the
    text cut at the template's own added tokens, and what lies between is encoded by a copy of the
    tokenizer that knows none.

    Args:
        tokenizer: The student's.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer: Any = tokenizer
        # Runs of blanks are in some vocabularies as added tokens; they control nothing.
        self.added = {
            str(token): int(number) for token, number in self._tokenizer.get_added_vocab().items() if str(token).strip()
        }
        """Ids of the added tokens by their text."""
        self._pattern = re.compile(_any_of(self.added)) if self.added else None
        self._dummy_prefix = _dummy_prefix(self._tokenizer)

    def added_in(self, text: str) -> list[str]:
        """Return the added tokens that a text spells, in order."""
        return self._pattern.findall(text) if self._pattern else []

    def encode(self, pieces: Iterable[Piece], *, before: Before = "nothing", last_token: str = "") -> tuple[int, ...]:
        """Encode pieces that follow each other.

        Args:
            pieces: In order.
            before: What comes before them.
            last_token: The stop token that they follow, where they follow one.
        """
        pieces = [piece for piece in pieces if piece.text]
        text = "".join(piece.text for piece in pieces)
        if self._spelled_by_foreign(pieces, text):
            return tuple(self._encode_apart(pieces, before))
        if before == "end_of_turn" and last_token:
            ids = self._plain_ids(last_token + text)
            if ids[:1] == [self._tokenizer.convert_tokens_to_ids(last_token)]:
                return tuple(ids[1:])
        if before == "text" and self._dummy_prefix != "never":
            return tuple(self._continuing.encode(text, add_special_tokens=False).ids)
        return tuple(self._plain_ids(text))

    def encode_foreign(self, text: str) -> list[int]:
        """Encode foreign text that goes on within a turn."""
        return list(self.encode([Piece(text=text, foreign=True)], before="text"))

    def _plain_ids(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def _spelled_by_foreign(self, pieces: Sequence[Piece], text: str) -> bool:
        """Tell whether an added token would be found where foreign text is part of it."""
        if self._pattern is None or not any(piece.foreign for piece in pieces):
            return False
        spans: list[tuple[int, int]] = []
        position = 0
        for piece in pieces:
            if piece.foreign:
                spans.append((position, position + len(piece.text)))
            position += len(piece.text)
        return any(
            start < match.end() and match.start() < end
            for match in self._pattern.finditer(text)
            for start, end in spans
        )

    def _encode_apart(self, pieces: Sequence[Piece], before: Before) -> list[int]:
        """Encode with added tokens found in the template's text alone."""
        ids: list[int] = []
        stretch = ""
        first = True
        for part in self._parts(pieces):
            if isinstance(part, str):
                stretch += part
                continue
            ids += self._stretch_ids(stretch, first=first, before=before)
            stretch, first = "", False
            ids.append(part)
        return ids + self._stretch_ids(stretch, first=first, before=before)

    def _parts(self, pieces: Sequence[Piece]) -> Iterable[str | int]:
        for piece in pieces:
            position = 0
            for match in self._pattern.finditer(piece.text) if self._pattern and not piece.foreign else ():
                yield piece.text[position : match.start()]
                yield self.added[match[0]]
                position = match.end()
            yield piece.text[position:]

    def _stretch_ids(self, text: str, *, first: bool, before: Before) -> list[int]:
        """Encode text between two added tokens, in which none is to be found."""
        if not text:
            return []
        prefixed = {"never": False, "first": first and before == "nothing", "always": not first or before != "text"}
        backend = self._split_prefixed if prefixed[self._dummy_prefix] else self._split
        if backend is None:
            ids = list(self._tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])
        else:
            ids = backend.encode(text, add_special_tokens=False).ids
        numbers = set(self.added.values())
        if len(text) > 1 and any(number in numbers for number in ids):
            # The vocabulary itself holds the token's text; cut within it, the text has to be spelled.
            match = self._pattern.search(text) if self._pattern else None
            cut = match.start() + 1 if match else len(text) // 2
            return [
                *self._stretch_ids(text[:cut], first=first, before=before),
                *self._stretch_ids(text[cut:], first=True, before="text"),
            ]
        return ids

    # Copies of the tokenizer, made when they are first needed: reading a large vocabulary takes a second ----------

    @cached_property
    def _continuing(self) -> Tokenizer:
        """With all its tokens, and no blank put before a text."""
        return _copy(self._tokenizer.backend_tokenizer, split=False, prefixed=False)

    @cached_property
    def _split(self) -> Tokenizer | None:
        """Without added tokens, and no blank put before a text."""
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        return None if backend is None else _copy(backend, split=True, prefixed=False)

    @cached_property
    def _split_prefixed(self) -> Tokenizer | None:
        """Without added tokens, with the blank that the tokenizer puts before a text."""
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        return None if backend is None else _copy(backend, split=True, prefixed=True)


def _any_of(texts: Iterable[str]) -> str:
    """Return a pattern for any of the texts, the longest first, as a tree: thousands of alternatives would be tried one by one."""
    tree: dict[str, Any] = {}
    for text in texts:
        node = tree
        for char in text:
            node = node.setdefault(char, {})
        node[""] = {}
    return _pattern_of(tree)


def _pattern_of(node: dict[str, Any]) -> str:
    chain = ""
    while len(node) == 1 and "" not in node:
        ((char, node),) = node.items()
        chain += re.escape(char)
    branches = [re.escape(char) + _pattern_of(below) for char, below in node.items() if char]
    if not branches:
        return chain
    return f"{chain}(?:{'|'.join(branches)}){'?' if '' in node else ''}"


def _state(component: Any) -> Any:
    return json.loads(component.__getstate__()) if component is not None else None


def _components(state: Any) -> Iterable[dict[str, Any]]:
    """Yield a normalizer or pre-tokenizer and what it is made of."""
    if isinstance(state, dict):
        yield state
        for key in ("normalizers", "pretokenizers"):
            for part in state.get(key) or ():
                yield from _components(part)


def _dummy_prefix(tokenizer: Any) -> Literal["never", "first", "always"]:
    """Tell before which texts the tokenizer puts a blank that is not there, as SentencePiece does."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return "never"
    found: Literal["never", "first", "always"] = "never"
    for part in (*_components(_state(backend.normalizer)), *_components(_state(backend.pre_tokenizer))):
        if part["type"] == "Prepend" or part.get("add_prefix_space") or part.get("prepend_scheme") == "always":
            return "always"
        if part.get("prepend_scheme") == "first":
            found = "first"
    return found


def _copy(backend: Any, *, split: bool, prefixed: bool) -> Tokenizer:
    state = json.loads(backend.to_str())
    if split:
        state["added_tokens"] = [token for token in state["added_tokens"] if not token["content"].strip()]
        state["post_processor"] = None
    if not prefixed:
        for place in ("normalizer", "pre_tokenizer"):
            state[place] = _without_prefix(state[place])
    return Tokenizer.from_str(json.dumps(state))


def _without_prefix(state: Any) -> Any:
    if not isinstance(state, dict) or state["type"] == "Prepend":
        return None
    state = dict(state)
    for key in ("normalizers", "pretokenizers"):
        if key in state:
            state[key] = [part for part in map(_without_prefix, state[key]) if part is not None]
    if "prepend_scheme" in state:
        state["prepend_scheme"] = "never"
    if "add_prefix_space" in state:
        state["add_prefix_space"] = False
    return state
