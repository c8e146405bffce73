from __future__ import annotations

import json
from pathlib import Path

import pytest

from mentor_pl.errors import ConfigError, DataFileError, ToolBackendError
from mentor_pl.messages import ToolCall, ToolResult, ToolStatus
from mentor_pl.testing import check_tool_backend
from mentor_pl.tools.base import ToolBackend
from mentor_pl.tools.remote_search import RemoteSearch
from mentor_pl.tools.search import Search, read_corpus
from tests.unit.tools.local_server import local_server

ROWS = [
    {"id": "0", "contents": "Paris\nParis is the capital of France."},
    {"id": "1", "title": "Lyon", "text": "Lyon is a city in France."},
    {"id": "2", "text": "A cat sat on the mat."},
    {"id": "3", "text": "A cat sat on the mat."},
]


def ask(backend: ToolBackend, **arguments: object) -> ToolResult:
    with backend.session() as session:
        return session(ToolCall(call_id="q", name="search", arguments=arguments))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


class TestLocal:
    @pytest.fixture(autouse=True)
    def _needs_bm25s(self) -> None:
        pytest.importorskip("bm25s")

    def test_the_best_passage_comes_first(self, corpus: Path) -> None:
        result = ask(Search(str(corpus)), query="What is the capital of France?")
        assert result.content == "[1] Paris\nParis is the capital of France.\n\n[2] Lyon\nLyon is a city in France."
        assert result.ok and result.output_chars == len(
            "Paris\nParis is the capital of France.Lyon\nLyon is a city in France."
        )

    def test_equal_scores_keep_the_order_of_the_file(self, corpus: Path) -> None:
        backend = Search(str(corpus), top_k=1)
        assert {ask(backend, query="cat").content for _ in range(5)} == {"[1] A cat sat on the mat."}

    @pytest.mark.parametrize("query", ["zebra", "", "the", "?!"])
    def test_nothing_found_is_said(self, corpus: Path, query: str) -> None:
        assert ask(Search(str(corpus)), query=query).content == "[nothing found]"

    def test_long_passages_are_cut(self, corpus: Path) -> None:
        assert ask(Search(str(corpus), top_k=1, max_passage_chars=9), query="capital").content == "[1] Paris\nPar …"

    def test_the_contract_of_the_door(self, corpus: Path) -> None:
        check_tool_backend(Search(str(corpus)), [ToolCall(call_id="1", name="search", arguments={"query": "cat"})])

    @pytest.mark.parametrize(
        ("arguments", "content"),
        [
            ({}, "Error: search: 'query' is missing"),
            ({"query": 3}, "Error: search: 'query': 3 is not of type 'string'"),
            ({"query": "a", "k": 3}, "Error: search: 'k' is not an argument; the arguments are query"),
        ],
    )
    def test_wrong_arguments(self, corpus: Path, arguments: dict[str, object], content: str) -> None:
        assert ask(Search(str(corpus)), **arguments).content == content


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"contents": "a"}\n\n{"contents": "b"', ":3: not JSON: Expecting ',' delimiter at column 17"),
        (
            '{"contents": "a"}\n{"title": "b"}\n',
            ':2: expected an object with `contents`, or with `text`; found {"title": "b"}',
        ),
        ("\n", ":1: the corpus is empty"),
    ],
)
def test_a_broken_corpus_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text(text)
    with pytest.raises(DataFileError) as caught:
        read_corpus(path)
    assert str(caught.value) == f"{path}{message}"


def test_a_corpus_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"Search.corpus: the file 'nowhere.jsonl' does not exist"):
        read_corpus(Path("nowhere.jsonl"))


def test_a_remote_retriever_is_asked() -> None:
    with local_server() as server:
        backend = RemoteSearch(f"{server.url}/search", top_k=2)
        assert backend.slow
        assert ask(backend, query="cat").content == "[1] Title 0\ncat 0\n\n[2] Title 1\ncat 1"
        assert ask(RemoteSearch(f"{server.url}/wrapped"), query="cat").content == "[1] T\nwrapped"
        check_tool_backend(backend, [ToolCall(call_id="1", name="search", arguments={"query": "cat"})])


@pytest.mark.parametrize("path", ["/status/500", "/long", "/echo"])
def test_a_retriever_that_fails_is_infrastructure(path: str) -> None:
    with local_server() as server, pytest.raises(ToolBackendError, match=server.url):
        ask(RemoteSearch(server.url + path), query="cat")


def test_a_retriever_that_hangs_or_is_away() -> None:
    with local_server() as server:
        result = ask(RemoteSearch(f"{server.url}/hang", timeout_s=0.2), query="cat")
        assert (result.status, result.content) == (ToolStatus.TIMEOUT, "Error: search took longer than 0.2 s")
    with pytest.raises(ToolBackendError, match="127.0.0.1 does not answer: ConnectionRefusedError"):
        ask(RemoteSearch(f"{server.url}/search"), query="cat")
