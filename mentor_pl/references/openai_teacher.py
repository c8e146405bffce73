"""A teacher behind an OpenAI-compatible endpoint, through the official client (extra `collect`)."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from typing import Any, Literal

from mentor_pl.errors import ConfigError, DataFileError
from mentor_pl.messages import Message, ToolSpec
from mentor_pl.references.refusals import Refusal, read_refusal, refusal_in_reply, retry_after_s, words_in
from mentor_pl.references.replies import (
    UnreadableReplyError,
    count_tokens,
    kind_of_end,
    loads_reply,
    message_from_reply,
    to_be_sent,
)
from mentor_pl.references.teacher import (
    ChatTeacher,
    ConversationRefusedError,
    Reply,
    Stopped,
    TeacherError,
    UnavailableError,
)

_log = logging.getLogger(__name__)

_FIRST_BACKOFF_S = 0.5
_LONG_WAIT_S = 30.0
_GRACE_S = 0.5
"""How long a reply that is under way, and so paid for, is waited for when the collection is stopped."""


class _Passing(Exception):
    """A fault that may be gone when the request is sent again."""

    def __init__(self, problem: str, words: str = "", wait_s: float | None = None) -> None:
        super().__init__(problem)
        self.words, self.wait_s = words, wait_s


class OpenAITeacher(ChatTeacher):
    """Asks an endpoint that speaks OpenAI's chat completions: a provider's, or vLLM's, llama.cpp's, `transformers serve`'s.

    The key is read from the environment and appears in no file, log or error. Faults (429, 5xx,
    time-outs, cut connections, replies that are no JSON) are retried with growing waits; a
    `Retry-After` is honoured by all threads.

    Args:
        model: The model's name at the endpoint.
        base_url: Where it is, for example `http://localhost:8000/v1`; the provider's own address
            unless given.
        api_key_env: Environment variable with the key. "" sends none, for a server of your own.
        temperature: 0 for the likeliest solution; above 0 where several are sampled of each prompt;
            null sends none, for models that take no other than their own.
        max_completion_tokens: Of one reply.
        token_limit_field: How the endpoint calls that limit; older ones only know `max_tokens`.
        seed: Sent (plus the sample's index) where given and the endpoint knows seeds.
        timeout_s: For one request, from its first byte to the last of its reply.
        max_retries: Tries after the first.
        max_backoff_s: Longest wait between tries, where the endpoint names none.
        max_retry_after_s: Longest wait that the endpoint may ask for; a longer one ends the
            collection.
        max_reply_bytes: Larger replies are broken off, and their prompts given up.
        extra_body: Further fields of the request, for example `{"reasoning_effort": "low"}`.

    Raises:
        ConfigError: The client is not installed, the key is not in the environment, or the address
            holds a password.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        api_key_env: str = "OPENAI_API_KEY",
        temperature: float | None = 0.0,
        max_completion_tokens: int = 1024,
        token_limit_field: Literal["max_completion_tokens", "max_tokens"] = "max_completion_tokens",
        seed: int | None = None,
        timeout_s: float = 120.0,
        max_retries: int = 8,
        max_backoff_s: float = 30.0,
        max_retry_after_s: float = 600.0,
        max_reply_bytes: int = 4_000_000,
        extra_body: dict[str, Any] | None = None,
    ) -> None:
        try:
            import openai

            from mentor_pl.references.bounded_http import BoundedClient, ReplyTooLargeError, UndecodableReplyError
        except ImportError:
            raise ConfigError("OpenAITeacher needs the openai client; install 'mentor-pl[collect]'") from None
        for name, value in (("timeout_s", timeout_s), ("max_reply_bytes", max_reply_bytes)):
            if not 0 < value < math.inf:
                raise ConfigError(f"OpenAITeacher.{name} is {value}; it must be above 0 and finite")
        if base_url is not None and "@" in base_url:
            raise ConfigError("OpenAITeacher.base_url holds a password; put the key into the environment instead")
        self._key = os.environ.get(api_key_env, "") if api_key_env else ""
        if api_key_env and not self._key:
            raise ConfigError(
                f"OpenAITeacher: the environment variable {api_key_env} is not set; put the endpoint's key there, or set "
                "api_key_env to '' for a server that wants none"
            )
        self._openai, self._too_large, self._undecodable = openai, ReplyTooLargeError, UndecodableReplyError
        http_client = BoundedClient(max_reply_bytes=max_reply_bytes, timeout_s=timeout_s)
        # The client's own retries know neither unreadable replies nor a wait that all threads share.
        self._client = openai.AsyncOpenAI(
            api_key=self._key or "none", base_url=base_url, timeout=timeout_s, max_retries=0, http_client=http_client
        )
        self.max_completion_tokens = max_completion_tokens
        self.faults: Counter[str] = Counter()
        self._model, self._temperature, self._seed = model, temperature, seed
        self._limit_field, self._timeout_s = token_limit_field, timeout_s
        self._max_retries, self._max_backoff_s = max_retries, max_backoff_s
        self._max_retry_after_s = max_retry_after_s
        self._extra_body = extra_body or {}
        self._lock = threading.Lock()
        self._not_before_s = 0.0
        self._stopped = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._under_way: set[Future[Any]] = set()

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

    def stop(self) -> None:
        """Send nothing more, and break off what is still under way after half a second."""
        self._stopped.set()
        deadline_s = time.monotonic() + _GRACE_S
        while self._under_way and time.monotonic() < deadline_s:
            time.sleep(0.02)
        for future in list(self._under_way):
            future.cancel()

    def reply(self, messages: Sequence[Message], tools: Sequence[ToolSpec], *, sample_index: int, key: str) -> Reply:
        """Ask the endpoint, again and again where that makes sense."""
        request = self._request(messages, tools, sample_index)
        last = _Passing("")
        for attempt in range(self._max_retries + 1):
            self._wait_for_turn()
            try:
                return self._run(self._ask(request, key))
            except _Passing as failure:
                last = failure
            with self._lock:
                self.faults[str(last)] += 1
                if last.wait_s is not None:
                    self._not_before_s = max(self._not_before_s, time.monotonic() + last.wait_s)
            if last.wait_s is None and attempt < self._max_retries:
                longest = min(self._max_backoff_s, _FIRST_BACKOFF_S * 2**attempt)
                self._stopped.wait(longest * random.uniform(0.5, 1.0))  # so that threads do not come back all at once
        words = f": {last.words}" if last.words else ""
        raise UnavailableError(
            f"teacher {self._model!r} did not answer in {self._max_retries + 1} tries; the last: {last}{words}"
        )

    def _wait_for_turn(self) -> None:
        while (wait_s := self._not_before_s - time.monotonic()) > 0 and not self._stopped.is_set():
            self._stopped.wait(min(wait_s, threading.TIMEOUT_MAX))
        if self._stopped.is_set():
            raise Stopped

    def _run(self, asking: Coroutine[Any, Any, Reply]) -> Reply:
        """Wait for a request on the loop that all threads share; there, one deadline covers all of it."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="endpoint", daemon=True).start()
            future = asyncio.run_coroutine_threadsafe(asking, self._loop)
            self._under_way.add(future)
        try:
            return future.result()
        except CancelledError:
            raise Stopped from None
        finally:
            self._under_way.discard(future)

    def _request(self, messages: Sequence[Message], tools: Sequence[ToolSpec], sample_index: int) -> dict[str, Any]:
        request: dict[str, Any] = {
            "model": self._model,
            "messages": to_be_sent(messages),
            self._limit_field: self.max_completion_tokens,
        }
        if self._temperature is not None:
            request["temperature"] = self._temperature
        if tools:
            request["tools"] = [tool.to_openai() for tool in tools]
        if self._seed is not None:
            request["seed"] = self._seed + sample_index
        return request

    async def _ask(self, request: Mapping[str, Any], key: str) -> Reply:
        create: Any = self._client.chat.completions.with_raw_response.create
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await create(**request, extra_body=self._extra_body, extra_headers={"Idempotency-Key": key})
            response = answer.http_response
            encoding = response.charset_encoding or "utf-8"
            body = self._without_key(response.content)
            try:
                return self._read(loads_reply(body, encoding), request)
            except UnreadableReplyError:
                raise _Passing("unreadable reply", words_in(body[:5000])) from None
        except self._openai.APIStatusError as failure:
            response = failure.response
            body = self._without_key(response.content)
            refusal = read_refusal(failure.status_code, body, response.headers.get("location", ""))
            raise self._error(refusal, retry_after_s(response.headers)) from None
        except (TimeoutError, self._openai.APITimeoutError):
            raise _Passing("time-out") from None
        except (self._too_large, self._undecodable, self._openai.APIConnectionError) as failure:
            # Older clients wrap what they do not know.
            cause = failure.__cause__ if isinstance(failure, self._openai.APIConnectionError) else failure
            if isinstance(cause, self._too_large):
                raise ConversationRefusedError(f"{cause} (max_reply_bytes)", common=True) from None
            raise _Passing(str(cause) if isinstance(cause, self._undecodable) else "connection lost") from None

    def _without_key(self, body: bytes) -> bytes:
        return body.replace(self._key.encode(), b"***") if self._key else body

    def _read(self, answer: Any, request: Mapping[str, Any]) -> Reply:
        if (refusal := refusal_in_reply(answer)) is not None:
            raise self._error(refusal, None)
        try:
            choice = answer["choices"][0]
            message = message_from_reply(choice["message"], "reply")
        except (KeyError, TypeError, IndexError, RecursionError, DataFileError):
            raise UnreadableReplyError from None
        finish_reason = choice.get("finish_reason")
        if kind_of_end(finish_reason) == "broken":
            raise _Passing(f"broken off by the endpoint ({finish_reason})", _words_of(choice))
        usage = answer.get("usage")
        return Reply(
            message=message,
            finish_reason=finish_reason if isinstance(finish_reason, str) else "stop",
            prompt_tokens=count_tokens(usage, "prompt_tokens", str(request["messages"])),
            completion_tokens=count_tokens(usage, "completion_tokens", str(message)),
        )

    def _error(self, refusal: Refusal, wait_s: float | None) -> Exception:
        said = str(refusal)
        if refusal.kind == "fatal":
            return TeacherError(f"teacher {self._model!r} answers {said}")
        if refusal.kind != "passing":
            return ConversationRefusedError(said, common=refusal.kind == "request")
        if wait_s is not None and wait_s > self._max_retry_after_s:
            wait = f"{wait_s:.0f} s" if wait_s < 1e7 else "practically for ever"
            return TeacherError(
                f"teacher {self._model!r} answers {said}, and asks to wait {wait}; that is more than max_retry_after_s "
                f"({self._max_retry_after_s:g}). Nothing paid for is lost: start again with the same journal then"
            )
        if wait_s is not None and wait_s > _LONG_WAIT_S:
            _log.warning("the endpoint asks to wait %.0f s (%s)", wait_s, said)
        return _Passing(f"HTTP {refusal.status}", said.partition(": ")[2], wait_s)


def _words_of(choice: Mapping[str, Any]) -> str:
    error = choice.get("error")
    return str(error)[:300] if error else ""
