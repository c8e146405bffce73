"""A teacher behind an OpenAI-compatible endpoint, through the official client (extra `collect`)."""

from __future__ import annotations

import email.utils
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from mentor_pl.errors import ConfigError, DataFileError
from mentor_pl.files.conversation import message_from_row
from mentor_pl.messages import Message, ToolSpec
from mentor_pl.references.teacher import ChatTeacher, ConversationRefusedError, Reply, TeacherError, UnavailableError

if TYPE_CHECKING:
    from openai import APIStatusError

_FIRST_BACKOFF_S = 0.5
_FATAL_STATUS = {401: "the key is not accepted", 403: "the key may not use this", 404: "there is no such model or path"}
_RETRIED_STATUS = (408, 409, 425, 429)
_BYTES_PER_TOKEN = 3


class _Malformed(Exception):
    """The endpoint answered, but not with a chat completion."""


class OpenAITeacher(ChatTeacher):
    """Asks an endpoint that speaks OpenAI's chat completions: a provider's, or vLLM's, llama.cpp's, `transformers serve`'s.

    The key is read from the environment and appears in no file, log or error. Faults (429, 5xx, time-outs, cut connections, replies that
    are no JSON) are retried with growing waits; a `Retry-After` is honoured by all threads.

    Args:
        model: The model's name at the endpoint.
        base_url: Where it is, for example `http://localhost:8000/v1`; the provider's own address unless given.
        api_key_env: Environment variable with the key. "" sends none, for a server of your own.
        temperature: 0 for the likeliest solution; above 0 where several are sampled of each prompt.
        max_completion_tokens: Of one reply.
        token_limit_field: How the endpoint calls that limit; older ones only know `max_tokens`.
        seed: Sent (plus the sample's index) where given and the endpoint knows seeds.
        timeout_s: For one request.
        max_retries: Tries after the first.
        max_backoff_s: Longest wait between tries, where the endpoint names none.
        extra_body: Further fields of the request, for example `{"reasoning_effort": "low"}`.

    Raises:
        ConfigError: The client is not installed, the key is not in the environment, or the address holds a password.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        api_key_env: str = "OPENAI_API_KEY",
        temperature: float = 0.0,
        max_completion_tokens: int = 1024,
        token_limit_field: Literal["max_completion_tokens", "max_tokens"] = "max_completion_tokens",
        seed: int | None = None,
        timeout_s: float = 120.0,
        max_retries: int = 8,
        max_backoff_s: float = 30.0,
        extra_body: dict[str, Any] | None = None,
    ) -> None:
        try:
            import openai
        except ImportError:
            raise ConfigError("OpenAITeacher needs the openai client; install 'mentor-pl[collect]'") from None
        if base_url is not None and "@" in base_url:
            raise ConfigError("OpenAITeacher.base_url holds a password; put the key into the environment instead")
        self._key = os.environ.get(api_key_env, "") if api_key_env else ""
        if api_key_env and not self._key:
            raise ConfigError(
                f"OpenAITeacher: the environment variable {api_key_env} is not set; put the endpoint's key there, or set "
                "api_key_env to '' for a server that wants none"
            )
        self._openai = openai
        # The client's own retries know neither unreadable replies nor a wait that all threads share.
        self._client = openai.OpenAI(api_key=self._key or "none", base_url=base_url, timeout=timeout_s, max_retries=0)
        self.max_completion_tokens = max_completion_tokens
        self.faults: Counter[str] = Counter()
        self._model, self._temperature, self._seed = model, temperature, seed
        self._limit_field = token_limit_field
        self._max_retries, self._max_backoff_s = max_retries, max_backoff_s
        self._extra_body = extra_body or {}
        self._lock = threading.Lock()
        self._not_before_s = 0.0

    @property
    def name(self) -> str:
        """The model's name."""
        return self._model

    @property
    def identity(self) -> Mapping[str, Any]:
        """Model, sampling and further fields; not the address, which may change."""
        return {
            "model": self._model,
            "temperature": self._temperature,
            "max_completion_tokens": self.max_completion_tokens,
            "seed": self._seed,
            "extra_body": self._extra_body,
        }

    def reply(self, messages: Sequence[Message], tools: Sequence[ToolSpec], *, sample_index: int, key: str) -> Reply:
        """Ask the endpoint, again and again where that makes sense."""
        request = self._request(messages, tools, sample_index)
        problem = ""
        for attempt in range(self._max_retries + 1):
            self._wait_for_turn()
            wait_s: float | None = None
            try:
                return self._ask(request, key)
            except self._openai.APIStatusError as failure:
                problem = f"HTTP {failure.status_code}"
                self._raise_if_final(failure)
                wait_s = _retry_after_s(failure.response.headers)
            except self._openai.APITimeoutError:
                problem = "time-out"
            except self._openai.APIConnectionError:
                problem = "connection lost"
            except _Malformed as failure:
                problem = str(failure)
            with self._lock:
                self.faults[problem] += 1
                if wait_s is not None:
                    self._not_before_s = max(self._not_before_s, time.monotonic() + wait_s)
            if wait_s is None and attempt < self._max_retries:
                longest = min(self._max_backoff_s, _FIRST_BACKOFF_S * 2**attempt)
                time.sleep(longest * random.uniform(0.5, 1.0))  # so that threads do not come back all at once
        raise UnavailableError(
            f"teacher {self._model!r} did not answer in {self._max_retries + 1} tries; the last: {problem}"
        )

    def _wait_for_turn(self) -> None:
        while (wait_s := self._not_before_s - time.monotonic()) > 0:
            time.sleep(wait_s)

    def _request(self, messages: Sequence[Message], tools: Sequence[ToolSpec], sample_index: int) -> dict[str, Any]:
        request: dict[str, Any] = {
            "model": self._model,
            "messages": [_sendable(message) for message in messages],
            "temperature": self._temperature,
            self._limit_field: self.max_completion_tokens,
        }
        if tools:
            request["tools"] = [tool.to_openai() for tool in tools]
        if self._seed is not None:
            request["seed"] = self._seed + sample_index
        return request

    def _ask(self, request: Mapping[str, Any], key: str) -> Reply:
        try:
            answer: Any = self._client.chat.completions.create(
                **request, extra_body=self._extra_body, extra_headers={"Idempotency-Key": key}
            )
        except ValueError as failure:  # what the JSON decoder raises
            raise _Malformed("unreadable reply") from failure
        try:
            choice = answer.choices[0]
            message = message_from_row(choice.message.model_dump(exclude_none=True), "reply", "message", strict=False)
            finish_reason = choice.finish_reason or "stop"
        except (AttributeError, TypeError, IndexError, DataFileError) as failure:
            raise _Malformed("unreadable reply") from failure
        usage = answer.usage
        return Reply(
            message=Message(role="assistant", content=message.content, tool_calls=message.tool_calls),
            finish_reason=finish_reason,
            prompt_tokens=_count(usage, "prompt_tokens", str(request["messages"])),
            completion_tokens=_count(usage, "completion_tokens", str(message)),
        )

    def _raise_if_final(self, failure: APIStatusError) -> None:
        status = failure.status_code
        said = str(failure.message)
        if self._key:
            said = said.replace(self._key, "***")
        if status in _FATAL_STATUS or failure.code == "insufficient_quota":
            meaning = _FATAL_STATUS.get(status, "nothing is left on the account")
            raise TeacherError(f"teacher {self._model!r} answers HTTP {status}: {meaning}: {said:.300}") from None
        if status < 500 and status not in _RETRIED_STATUS:
            raise ConversationRefusedError(f"HTTP {status}: {said:.300}") from None


def _sendable(message: Message) -> dict[str, Any]:
    row = message.to_openai()
    for call in row.get("tool_calls", ()):
        call.pop("parse_error", None)
    row.pop("name", None)
    return row


def _count(usage: Any, field: str, text: str) -> int:
    """Return the tokens that the endpoint states, or an estimate where it states none, so that budgets hold there too."""
    stated = getattr(usage, field, None)
    return stated if isinstance(stated, int) else len(text.encode(errors="replace")) // _BYTES_PER_TOKEN + 1


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Read `Retry-After` (RFC 9110, 10.2.3), seconds or a date; None where there is none."""
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return None
