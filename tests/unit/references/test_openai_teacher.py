import gzip
import importlib.util
import json
import sys
import threading
import tracemalloc
from pathlib import Path

import pytest

from mentor_pl.errors import ConfigError
from mentor_pl.messages import Message
from mentor_pl.reference import Reference
from mentor_pl.references.attempt import AttemptLimits, Endpoint
from mentor_pl.references.budget import Account, Budget, Spending
from mentor_pl.references.collect import Collector, Sampling
from mentor_pl.references.endpoint_solver import EndpointSolver
from mentor_pl.references.journal import Journal
from mentor_pl.references.openai_teacher import OpenAITeacher
from mentor_pl.references.teacher import ConversationRefusedError, Stopped, TeacherError, UnavailableError
from mentor_pl.rewards.correct import Correct
from mentor_pl.tools.toolbox import ToolBox

pytest.importorskip("openai")

_spec = importlib.util.spec_from_file_location(
    "misbehaving_endpoint", Path(__file__).with_name("misbehaving_endpoint.py")
)
assert _spec is not None and _spec.loader is not None
bad = sys.modules["misbehaving_endpoint"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(bad)

KEY = "sk-SECRETKEY123456"
PROMPT = [Message(role="user", content="1 + 2?")]
WHOLE = json.dumps(bad.completion()).encode()


def teacher(url, monkeypatch=None, **settings):
    if monkeypatch:
        monkeypatch.setenv("TEACHER_KEY", KEY)
    options = {"timeout_s": 0.4, "max_retries": 1, "max_backoff_s": 0.01, "max_reply_bytes": 100_000, **settings}
    return OpenAITeacher(model="m", base_url=url, api_key_env="TEACHER_KEY" if monkeypatch else "", **options)


def ask(act, monkeypatch=None, **settings):
    """Return what came of one question, and how often it was asked."""
    with bad.endpoint(act) as server:
        try:
            outcome = teacher(server.url, monkeypatch, **settings).reply(PROMPT, [], sample_index=0, key="k")
        except TeacherError as failure:
            outcome = failure
        return outcome, len(server.requests)


@pytest.mark.parametrize(
    ("act", "kind", "words", "asked"),
    [
        (bad.endless, ConversationRefusedError, "the reply is larger than 100000 bytes", 1),
        (
            bad.packed(WHOLE, "gzip", "br"),
            UnavailableError,
            "has Content-Encoding 'br'; gzip, deflate were asked for",
            2,
        ),
        (bad.packed(WHOLE, "gzip", "gzip, gzip"), UnavailableError, "has Content-Encoding 'gzip, gzip'", 2),
        (bad.says(WHOLE, Content_Encoding="gzip"), UnavailableError, "the reply's body is no gzip", 2),
        (
            bad.says(gzip.compress(WHOLE)[:-20], Content_Encoding="gzip"),
            UnavailableError,
            "ends before its gzip does",
            2,
        ),
        (bad.says(bad.completion({"content": "x" * 200_000})), ConversationRefusedError, "larger than 100000", 1),
        (bad.drips, UnavailableError, "time-out", 2),
        (bad.silent, UnavailableError, "time-out", 2),
        (bad.cut, UnavailableError, "connection lost", 2),
        (bad.no_http, UnavailableError, "connection lost", 2),
        (bad.says(b"<html>Please log in</html>"), UnavailableError, "unreadable reply: Please log in", 2),
        (
            bad.says({"code": "Busy", "message": "come back later"}),
            UnavailableError,
            "unreadable reply: come back later",
            2,
        ),
        (bad.says(b"\xff\xfe"), UnavailableError, "unreadable reply", 2),
        (bad.says(("[" * 5000).encode()), UnavailableError, "unreadable reply", 2),
        (bad.says([bad.completion()]), UnavailableError, "unreadable reply", 2),
        (bad.says(None), UnavailableError, "unreadable reply", 2),
        (bad.says({"choices": []}), UnavailableError, "unreadable reply", 2),
        (bad.says(b"", 204), UnavailableError, "unreadable reply", 2),
        (bad.says({"error": {"message": "overloaded"}}), UnavailableError, "HTTP 500: overloaded", 2),
        (bad.says(bad.completion(finish_reason="error")), UnavailableError, "broken off by the endpoint (error)", 2),
        (bad.says({"error": {"message": "busy now"}}, 503), UnavailableError, "HTTP 503: busy now", 2),
        (bad.says({"error": {"message": "one at a time"}}, 429, Retry_After="0"), UnavailableError, "one at a time", 2),
        (
            bad.says({"error": {"message": "wait"}}, 429, Retry_After="86400"),
            TeacherError,
            "wait, and asks to wait 86400 s",
            1,
        ),
        (
            bad.says({"error": {"message": "wait"}}, 429, Retry_After="inf"),
            TeacherError,
            "asks to wait practically for ever",
            1,
        ),
        (
            bad.says({"error": {"message": "wait"}}, 429, Retry_After="1e20"),
            TeacherError,
            "asks to wait practically for ever",
            1,
        ),
        (bad.says({"error": {"message": "Insufficient Balance"}}, 402), TeacherError, "Insufficient Balance", 1),
        (bad.says({"error": {"message": "no POST"}}, 405), TeacherError, "no POST", 1),
        (bad.says({"detail": "no such field"}, 422), ConversationRefusedError, "HTTP 422: no such field", 1),
        (
            bad.says(b"", 307, Location="http://localhost:9/v1/chat/completions"),
            TeacherError,
            "redirects to 'http://localhost:9/",
            1,
        ),
        (bad.says(b"", 307, Location="file:///etc/passwd"), TeacherError, "redirects to 'file:///etc/passwd'", 1),
    ],
)
def test_an_endpoint_that_misbehaves_is_bounded_and_its_words_are_shown(act, kind, words, asked):
    outcome, requests = ask(act, timeout_s=0.3 if act in (bad.drips, bad.silent) else 20.0)
    assert type(outcome) is kind, outcome
    assert words in str(outcome)
    assert requests == asked


@pytest.mark.parametrize(
    "act",
    [bad.packed(WHOLE, "gzip"), bad.packed(WHOLE, "deflate"), bad.packed(WHOLE, "raw deflate"), bad.in_chunks(WHOLE)],
)
def test_packed_replies_are_read(act):
    outcome, requests = ask(act, timeout_s=20.0)
    assert (outcome.message.content, requests) == ("\\boxed{3}", 1)


_BOMB = b" " * 30_000_000


@pytest.mark.parametrize(
    "act",
    [bad.packed(_BOMB, "gzip"), bad.packed(_BOMB, "deflate"), bad.packed(_BOMB, "raw deflate"), bad.in_chunks(_BOMB)],
)
def test_a_small_body_that_unpacks_to_a_large_one_takes_little_memory(act):
    tracemalloc.start()
    try:
        outcome, requests = ask(act, timeout_s=20.0)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "the reply is larger than 100000 bytes" in str(outcome)
    assert requests == 1
    assert peak_bytes < 5_000_000


@pytest.mark.parametrize(
    "usage", [None, {"prompt_tokens": -5, "completion_tokens": -7}, {"prompt_tokens": "a", "completion_tokens": True}]
)
def test_usage_that_makes_no_sense_is_estimated(usage):
    outcome, _ = ask(bad.says({**bad.completion(), "usage": usage}))
    assert outcome.message.content == "\\boxed{3}"
    assert outcome.prompt_tokens > 0 and outcome.completion_tokens > 0


def test_numbers_that_json_does_not_know_do_not_cost_the_reply():
    body = json.dumps(bad.completion()).replace('"completion_tokens": 5', '"completion_tokens": NaN').encode()
    outcome, requests = ask(bad.says(body))
    assert (outcome.message.content, outcome.prompt_tokens, requests) == ("\\boxed{3}", 10, 1)


def test_the_key_is_masked_before_words_are_cut(monkeypatch):
    outcome, _ = ask(bad.says({"error": {"message": "x" * 290 + KEY}}, 401), monkeypatch)
    assert "***" in str(outcome)
    assert KEY[:8] not in str(outcome)


def test_temperature_can_be_left_out():
    with bad.endpoint(bad.says(bad.completion())) as server:
        teacher(server.url, temperature=None).reply(PROMPT, [], sample_index=0, key="k")
        teacher(server.url).reply(PROMPT, [], sample_index=0, key="k")
        assert ["temperature" in request for request in server.requests] == [False, True]


@pytest.mark.parametrize("act", [bad.silent, bad.says({"error": {"message": "wait"}}, 429, Retry_After="500")])
def test_stopping_ends_what_is_under_way(act):
    ended = []
    with bad.endpoint(act) as server:
        asked = teacher(server.url, timeout_s=500.0)

        def run():
            try:
                asked.reply(PROMPT, [], sample_index=0, key="k")
            except Stopped:
                ended.append(True)

        thread = threading.Thread(target=run)
        thread.start()
        bad.wait_until(lambda: len(server.requests) == 1)
        asked.stop()
        thread.join(30)
        assert ended == [True]
        with pytest.raises(Stopped):
            asked.reply(PROMPT, [], sample_index=0, key="k")


def test_settings_without_a_bound_are_refused():
    with pytest.raises(ConfigError, match="OpenAITeacher.timeout_s is inf; it must be above 0 and finite"):
        teacher("http://127.0.0.1:9/v1", timeout_s=float("inf"))


def prompts(count):
    question = (Message(role="user", content="1 + 2?"),)
    return [Reference(reference_id=f"p{n}", prompt=question, answer="3", tools=()) for n in range(count)]


def collect(act, folder, count=12, **settings):
    """Return the references, the report, and the number of requests."""
    with bad.endpoint(act) as server:
        journal = Journal(folder / "journal.jsonl")
        try:
            account = Account(Budget(), Spending())
            toolbox, sampling = ToolBox([]), Sampling(concurrency=2)
            asked = teacher(server.url, **settings)
            solver = EndpointSolver(
                Endpoint(asked, journal, account), toolbox, sampling, AttemptLimits(max_tool_calls=4)
            )
            collector = Collector(solver, "m", [Correct(judge="exact")], sampling)
            return list(collector.references(prompts(count))), collector.report, len(server.requests)
        finally:
            journal.close()


@pytest.mark.parametrize("status", [400, 413, 422])
def test_refusals_in_a_row_end_the_collection_with_the_endpoints_words(tmp_path, status):
    with pytest.raises(TeacherError, match=rf"HTTP {status}: only that temperature; 5 attempts in a row were refused"):
        collect(bad.says({"error": {"message": "only that temperature"}}, status), tmp_path, 40)


def test_a_collection_that_is_refused_every_prompt_fails_however_few_there_are(tmp_path):
    said = {"error": {"message": "maximum context length is 10", "code": "context_length_exceeded"}}
    with pytest.raises(TeacherError, match="took no prompt: HTTP 400: maximum context length is 10"):
        collect(bad.says(said, 400), tmp_path, 8)


def test_single_refusals_are_counted_with_their_words(tmp_path):
    def act(handler):
        if len(handler.server.requests) == 2:
            return handler.send({"error": {"message": "filtered", "code": "content_filter"}}, 400)
        return handler.send(bad.completion())

    references, report, requests = collect(act, tmp_path, 4)
    assert (len(references), requests) == (3, 4)
    assert report.causes == {"refused by the endpoint (HTTP 400: filtered)": 1}


def test_a_reply_that_was_withheld_is_no_answer_and_is_not_paid_twice(tmp_path):
    act = bad.says(bad.completion(finish_reason="content_filter"))
    for asked in (3, 0):
        references, report, requests = collect(act, tmp_path, 3)
        assert (references, requests) == ([], asked)
        assert report.causes == {"broken off by the endpoint (content_filter)": 3}


def test_ten_thousand_calls_in_one_reply_are_read_once_and_not_run(tmp_path):
    calls = [{"id": f"c{n}", "type": "function", "function": {"name": "add", "arguments": "{}"}} for n in range(10_000)]
    act = bad.says(bad.completion({"content": None, "tool_calls": calls}))
    references, report, requests = collect(act, tmp_path, 1, max_reply_bytes=4_000_000, timeout_s=60.0)
    assert (references, requests) == ([], 1)
    assert report.causes == {"not finished (max_tool_calls)": 1}


def test_half_a_surrogate_pair_does_not_poison_the_journal(tmp_path):
    act = bad.says(bad.completion({"content": "\\boxed{3} \ud800"}))
    for asked in (2, 0):
        references, _, requests = collect(act, tmp_path, 2)
        assert ([r.messages[-1].content for r in references], requests) == (["\\boxed{3} \ufffd"] * 2, asked)
