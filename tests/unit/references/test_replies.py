import json

import pytest

from mentor_pl.errors import DataFileError
from mentor_pl.messages import Message, ToolCall
from mentor_pl.references.refusals import read_refusal, refusal_in_reply, retry_after_s
from mentor_pl.references.replies import (
    as_it_came,
    kind_of_end,
    message_from_reply,
    to_be_sent,
    with_own_ids,
    without_extra,
)

FUNCTION = {"name": "add", "arguments": '{"a":1}'}
CALL = {"id": "x9", "type": "function", "function": FUNCTION}


@pytest.mark.parametrize(
    "row",
    [
        {"content": None, "tool_calls": [CALL]},
        {"role": "", "tool_calls": [{**CALL, "type": ""}]},
        {"role": "model", "tool_calls": CALL},
        {"role": "assistant", "function_call": FUNCTION, "tool_calls": None},
        {"role": "assistant", "tool_calls": [{"function": {"name": "add", "arguments": {"a": 1}}}]},
    ],
)
def test_harmless_liberties_are_taken_in(row):
    message = message_from_reply(row, "reply")
    assert (message.role, message.content) == ("assistant", "")
    assert [(call.name, call.arguments, call.parse_error) for call in message.tool_calls] == [("add", {"a": 1}, None)]


@pytest.mark.parametrize("item", [{"function": None}, {"type": "custom", "custom": {"name": "add"}}, None, 5])
def test_a_call_that_cannot_be_understood_is_a_malformed_call(item):
    (call,) = message_from_reply({"tool_calls": [item]}, "reply").tool_calls
    assert call.parse_error


@pytest.mark.parametrize("value", [None, "text", [], 5])
def test_what_is_no_message_is_refused(value):
    with pytest.raises(DataFileError):
        message_from_reply(value, "reply")


RICH = {
    "role": "assistant",
    "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Now"}, {"type": "image_url"}],
    "reasoning_details": [{"type": "reasoning.encrypted", "data": "c2ln", "id": "x9"}],
    "tool_calls": [
        {**CALL, "extra_content": {"google": {"thought_signature": "c2ln"}}, "index": 0},
        {"id": "x10", "type": "function", "function": {"name": "ad", "arguments": "{", "signature": "s"}},
    ],
}


def test_what_an_endpoint_gave_beside_is_journalled_and_sent_back_as_it_came():
    message = message_from_reply(RICH, "reply")
    assert (message.content, message.reasoning) == ("Now", "hm")
    journalled = json.loads(json.dumps(as_it_came(message)))
    assert message_from_reply(journalled, "journal") == message
    own = with_own_ids(message, 3)
    assert [call.call_id for call in own.tool_calls] == ["call00003", "call00004"]
    told = Message(role="tool", content="3", tool_call_id="call00003", name="add")
    sent = to_be_sent([Message(role="user", content="q"), own, told])
    assert sent[1] == {
        **RICH,
        "tool_calls": [
            RICH["tool_calls"][0],
            {**RICH["tool_calls"][1], "function": {"name": "ad", "arguments": "{}", "signature": "s"}},
        ],
    }
    assert sent[2] == {"role": "tool", "content": "3", "tool_call_id": "x9"}


@pytest.mark.parametrize(("content", "sent"), [(None, None), ("", ""), ("Now", "Now")])
def test_a_turn_of_calls_only_goes_back_with_the_content_that_it_had(content, sent):
    message = message_from_reply({"role": "assistant", "content": content, "tool_calls": [CALL]}, "reply")
    assert to_be_sent([message])[0]["content"] == sent


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking"])
def test_reasoning_goes_back_in_the_field_that_it_came_in(name):
    message = message_from_reply({"content": "4", name: "2 + 2"}, "reply")
    assert message.reasoning == "2 + 2"
    assert to_be_sent([message]) == [{"role": "assistant", "content": "4", name: "2 + 2"}]
    assert without_extra(message) == Message(role="assistant", content="4", reasoning="2 + 2")


def test_ids_that_repeat_in_a_turn_are_replaced_by_ours():
    message = with_own_ids(message_from_reply({"tool_calls": [CALL, CALL]}, "reply"), 0)
    assert [item["id"] for item in to_be_sent([message])[0]["tool_calls"]] == ["call00000", "call00001"]


def test_half_surrogate_pairs_are_replaced_wherever_they_stand():
    row = {"content": "\ud83d so \ud83d\ude00", "reasoning": "\udc00", "tool_calls": [{**CALL, "note": ["\ud800"]}]}
    message = message_from_reply(row, "reply")
    assert message.content == "\ufffd so 😀"
    json.dumps(as_it_came(message), ensure_ascii=False).encode("utf-8")
    json.dumps(to_be_sent([Message(role="tool", content="\ud800", tool_call_id="c")]), ensure_ascii=False).encode(
        "utf-8"
    )


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        *[(reason, "finished") for reason in ("stop", "STOP", "tool_calls", "end_turn", None, "")],
        *[(reason, "length") for reason in ("length", "MAX_TOKENS", "model_length")],
        *[(reason, "broken") for reason in ("error", "insufficient_system_resource", "abort")],
        *[(reason, "withheld") for reason in ("content_filter", "SAFETY", "never heard of", 5)],
    ],
)
def test_nothing_broken_off_is_taken_for_an_answer(reason, kind):
    assert kind_of_end(reason) == kind


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (402, {"message": "Insufficient Balance"}, "fatal"),
        (429, {"message": "pay", "code": "insufficient_quota"}, "fatal"),
        (
            400,
            {"message": "Your credit balance is too low to access the API", "type": "invalid_request_error"},
            "fatal",
        ),
        (400, {"message": "API key not valid. Please pass a valid API key.", "status": "INVALID_ARGUMENT"}, "fatal"),
        (405, "Method Not Allowed", "fatal"),
        (400, {"message": "The model `m` does not exist"}, "fatal"),
        (403, {"message": "your input was flagged by moderation"}, "conversation"),
        (429, {"message": "Rate limit reached; see https://x/account/billing"}, "passing"),
        (503, "<html><b>busy</b></html>", "passing"),
        (400, {"message": "only the default temperature is supported", "code": "unsupported_value"}, "request"),
        (422, {"detail": "no such field"}, "request"),
        (413, "too large", "request"),
        (400, {"message": "too long", "code": "context_length_exceeded"}, "conversation"),
        (400, {"message": "filtered", "code": "content_filter"}, "conversation"),
    ],
)
def test_what_an_error_means_for_the_collection(status, error, kind):
    refusal = read_refusal(status, json.dumps({"error": error}).encode())
    assert refusal.kind == kind
    said = error if isinstance(error, str) else error.get("message", error.get("detail"))
    assert said.replace("<html><b>", "").replace("</b></html>", "") in str(refusal)


def test_a_redirect_is_named_and_not_followed():
    refusal = read_refusal(307, b"", "http://elsewhere/v1")
    assert refusal.kind == "fatal"
    assert (
        str(refusal) == "HTTP 307: it redirects to 'http://elsewhere/v1'; put the address that is meant into base_url"
    )


def test_an_error_that_came_with_status_200_is_an_error():
    assert refusal_in_reply({"choices": [{}], "error": None}) is None
    found = refusal_in_reply({"error": {"message": "no credits", "code": 402}})
    assert found is not None and (found.status, found.kind) == (402, "fatal")
    found = refusal_in_reply({"error": {"message": "overloaded", "code": "server_error"}})
    assert found is not None and (found.kind, found.words) == ("passing", "overloaded")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after": "inf"}, float("inf")),
        ({"retry-after": "1e20"}, 1e20),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({}, None),
    ],
)
def test_waits_that_an_endpoint_asks_for(headers, seconds):
    assert retry_after_s(headers) == seconds


def test_a_wait_until_the_year_9999_is_a_number():
    wait_s = retry_after_s({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"})
    assert wait_s is None or wait_s > 1e9


def test_a_call_equal_to_ours_needs_no_text_of_its_own():
    message = message_from_reply(
        {"tool_calls": [{"id": "a", "function": {"name": "add", "arguments": '{"a": 1}'}}]}, "r"
    )
    assert message.tool_calls == (ToolCall(call_id="a", name="add", arguments={"a": 1}, extra={"id": "a"}),)
