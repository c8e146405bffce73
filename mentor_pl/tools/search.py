"""Search in a local corpus by BM25."""

from __future__ import annotations

import importlib
import json
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, cast

from mentor_pl.errors import ConfigError, DataFileError
from mentor_pl.messages import ToolCall, ToolResult, ToolSpec
from mentor_pl.reference import Reference
from mentor_pl.tools.arguments import ArgumentsValidator
from mentor_pl.tools.base import ToolBackend, ToolSession
from mentor_pl.tools.results import failed, refused


class Search(ToolBackend):
    """Finds the passages of a JSON Lines corpus that fit a query best, by BM25 (the `bm25s` library).

    Each line is an object with `contents` (FlashRAG's form: title, line break, text), or `text` and
    perhaps `title`. Equal scores keep the order of the file, so that a seeded run repeats.

    Args:
        corpus: Path of the corpus. It is indexed at start and held in memory.
        top_k: How many passages to show.
        max_passage_chars: Where a passage is cut.
        name: The tool's name.
        description: What the model reads about it.

    Raises:
        ConfigError: `bm25s` is not installed, a limit is not above 0, or the corpus does not exist.
        DataFileError: A line cannot be used; names file and line.
    """

    parallel = True

    def __init__(
        self,
        corpus: str,
        top_k: int = 3,
        max_passage_chars: int = 1000,
        name: str = "search",
        description: str = "Search a collection of texts for passages about a query.",
    ) -> None:
        if top_k <= 0 or max_passage_chars <= 0:
            raise ConfigError(
                f"Search.top_k is {top_k} and max_passage_chars {max_passage_chars}; both must be above 0"
            )
        try:
            self._bm25s: Any = importlib.import_module("bm25s")
        except ImportError as missing:
            raise ConfigError("Search needs the package bm25s: pip install 'mentor-pl[search]'") from missing
        self._passages = read_corpus(Path(corpus))
        self._index: Any = self._bm25s.BM25()
        self._index.index(self._tokens(self._passages), show_progress=False)
        self._top_k, self._max_passage_chars = top_k, max_passage_chars
        self._spec = search_spec(name, description)
        self._arguments = ArgumentsValidator(self._spec)

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """One tool, which takes `query`."""
        return (self._spec,)

    def session(self, reference: Reference | None = None) -> AbstractContextManager[ToolSession]:
        """Open a session; calls share nothing."""
        return nullcontext(ToolSession(run=self._run))

    def _tokens(self, texts: list[str]) -> list[list[str]]:
        return self._bm25s.tokenize(texts, return_ids=False, show_progress=False)

    def _run(self, call: ToolCall) -> ToolResult:
        if refusal := refused(call, (self._spec.name,)):
            return refusal
        if complaint := self._arguments.complaint(call.arguments):
            return failed(call, f"{call.name}: {complaint}")
        start = time.perf_counter()
        found = self._find(call.arguments["query"])
        return passages_result(call, found, self._max_passage_chars, time.perf_counter() - start)

    def _find(self, query: str) -> list[str]:
        tokens = [token for token in self._tokens([query])[0] if token in self._index.vocab_dict]
        if not tokens:
            return []
        scores = self._index.get_scores(tokens)
        matching = scores.nonzero()[0]
        best = matching[(-scores[matching]).argsort(kind="stable")][: self._top_k]
        return [self._passages[int(i)] for i in best]


def search_spec(name: str, description: str) -> ToolSpec:
    """Describe a search tool to a model."""
    query = {"type": "string", "description": "What to look for."}
    return ToolSpec(
        name=name,
        description=description,
        parameters={"type": "object", "properties": {"query": query}, "required": ["query"]},
    )


def passages_result(call: ToolCall, passages: list[str], max_chars: int, duration_s: float) -> ToolResult:
    """Show passages, numbered, each cut at `max_chars`."""
    shown = [
        f"[{i}] {text if len(text) <= max_chars else text[:max_chars] + ' …'}"
        for i, text in enumerate(passages, start=1)
    ]
    return ToolResult(
        call_id=call.call_id,
        content="\n\n".join(shown) or "[nothing found]",
        duration_s=duration_s,
        output_chars=sum(map(len, passages)),
    )


def passage_text(row: object) -> str | None:
    """Return the text of a corpus row or retrieved document; None where it has none."""
    if not isinstance(row, dict):
        return row if isinstance(row, str) else None
    fields = cast("dict[str, Any]", row)
    if isinstance(fields.get("document"), dict):  # Search-R1 wraps documents beside their scores
        return passage_text(fields["document"])
    if isinstance(contents := fields.get("contents"), str):
        return contents
    parts = [fields.get("title"), fields.get("text")]
    return "\n".join(part for part in parts if isinstance(part, str)) if isinstance(parts[1], str) else None


def read_corpus(path: Path) -> list[str]:
    """Read the passages of a JSON Lines corpus.

    Raises:
        ConfigError: The file does not exist.
        DataFileError: A line is not an object with `contents` or `text`, or there is no line.
    """
    if not path.is_file():
        raise ConfigError(f"Search.corpus: the file {str(path)!r} does not exist; paths are relative to {Path.cwd()}")
    passages: list[str] = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                text = passage_text(json.loads(line))
            except json.JSONDecodeError as wrong:
                raise DataFileError(f"{path}:{number}: not JSON: {wrong.msg} at column {wrong.colno}") from wrong
            if text is None:
                raise DataFileError(
                    f"{path}:{number}: expected an object with `contents`, or with `text`; found {line.strip():.80}"
                )
            passages.append(text)
    if not passages:
        raise DataFileError(f"{path}:1: the corpus is empty")
    return passages
