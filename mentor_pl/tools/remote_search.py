"""Search by a retriever behind HTTP, in the form that FlashRAG's server has made common."""

from __future__ import annotations

import json
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

from mentor_pl.errors import ConfigError, ToolBackendError
from mentor_pl.messages import ToolCall, ToolResult, ToolSpec, ToolStatus
from mentor_pl.reference import Reference
from mentor_pl.tools.arguments import ArgumentsValidator
from mentor_pl.tools.base import ToolBackend, ToolSession
from mentor_pl.tools.results import failed, refused
from mentor_pl.tools.search import passage_text, passages_result, search_spec
from mentor_pl.tools.web.request import Request, check_url, fetch

_MAX_BYTES = 8 << 20


class RemoteSearch(ToolBackend):
    """Asks a retrieval server: `POST url` with `{"query", "top_n", "return_score": false}`, answered by a list of documents.

    A document is an object with `contents`, or with `text` and perhaps `title`; a list under
    `result` is taken as well.

    Args:
        url: Address of the search endpoint, for example `http://localhost:8000/search`. Its host
            may be private: it is named here.
        top_k: How many passages to show.
        max_passage_chars: Where a passage is cut.
        timeout_s: Seconds for the whole of a call.
        name: The tool's name.
        description: What the model reads about it.

    Raises:
        ConfigError: The URL is not one, or a limit is not above 0.
    """

    slow = True
    parallel = True

    def __init__(
        self,
        url: str,
        top_k: int = 3,
        max_passage_chars: int = 1000,
        timeout_s: float = 10.0,
        name: str = "search",
        description: str = "Search a collection of texts for passages about a query.",
    ) -> None:
        for key, value in (("top_k", top_k), ("max_passage_chars", max_passage_chars), ("timeout_s", timeout_s)):
            if value <= 0:
                raise ConfigError(f"RemoteSearch.{key} is {value}; it must be above 0")
        self._url, self._host = url, check_url(url)
        self._top_k, self._max_passage_chars, self._timeout_s = top_k, max_passage_chars, timeout_s
        self._spec = search_spec(name, description)
        self._arguments = ArgumentsValidator(self._spec)

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """One tool, which takes `query`."""
        return (self._spec,)

    def session(self, reference: Reference | None = None) -> AbstractContextManager[ToolSession]:
        """Open a session; calls share nothing."""
        return nullcontext(ToolSession(run=self._run))

    def _run(self, call: ToolCall) -> ToolResult:
        if refusal := refused(call, (self._spec.name,)):
            return refusal
        if complaint := self._arguments.complaint(call.arguments):
            return failed(call, f"{call.name}: {complaint}")
        start = time.perf_counter()
        try:
            passages = self._ask(call.arguments["query"])
        except TimeoutError:
            text = f"{call.name} took longer than {self._timeout_s:g} s"
            return failed(call, text, status=ToolStatus.TIMEOUT, duration_s=time.perf_counter() - start)
        return passages_result(call, passages, self._max_passage_chars, time.perf_counter() - start)

    def _ask(self, query: str) -> list[str]:
        question = {"query": query, "top_n": self._top_k, "return_score": False}
        request = Request(
            method="POST",
            url=self._url,
            headers={"Content-Type": "application/json"},
            body=json.dumps(question).encode(),
        )
        response = fetch(request, timeout_s=self._timeout_s, max_bytes=_MAX_BYTES, private_hosts=(self._host,))
        # The query is any text, so that whatever goes wrong is the server's and not the student's.
        if response.status != 200:
            raise ToolBackendError(
                f"{self._url} answered HTTP {response.status}: {response.body[:200].decode('utf-8', 'replace')}"
            )
        try:
            answer = json.loads(response.body)
        except ValueError as wrong:
            raise ToolBackendError(f"{self._url} answered what is not JSON: {response.body[:80]!r}") from wrong
        documents = cast("dict[str, Any]", answer).get("result") if isinstance(answer, dict) else answer
        texts = (
            [passage_text(document) for document in cast("list[object]", documents)]
            if isinstance(documents, list)
            else [None]
        )
        if None in texts:
            raise ToolBackendError(f"{self._url} answered no list of documents with `contents`: {response.body[:80]!r}")
        return [text for text in texts if text is not None][: self._top_k]
