"""HTTP endpoints as tools, declared in YAML or taken from an OpenAPI file."""

from __future__ import annotations

import os
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from mentor_pl.errors import ConfigError, ToolBackendError
from mentor_pl.messages import ToolCall, ToolResult, ToolSpec, ToolStatus
from mentor_pl.reference import Reference
from mentor_pl.tools.arguments import ArgumentsValidator
from mentor_pl.tools.base import ToolBackend, ToolSession
from mentor_pl.tools.results import failed, refused, truncated
from mentor_pl.tools.schema import with_integers
from mentor_pl.tools.web.endpoint import Endpoint, UnfitArgument
from mentor_pl.tools.web.openapi import read_openapi
from mentor_pl.tools.web.request import Refused, Response, fetch, is_private_by_name

_MAX_ERROR_CHARS = 500
# Of the server or what stands before it, whatever was asked; a 500 may well be the caller's doing and is shown to it.
_INFRASTRUCTURE = (429, 502, 503, 504)
_REMEDY = "list the host in HTTP.private_hosts if that is meant"


class HTTP(ToolBackend):
    """Calls fixed endpoints. The student chooses arguments, never a host: what is not declared here cannot be reached.

    A host whose address is private, loopback or link-local is refused unless listed, redirects are
    not followed, proxies from the environment are not used, and one deadline covers the whole of a
    call.

    Args:
        endpoints: One tool each.
        openapi: OpenAPI 3 file, JSON or YAML, whose operations become tools too.
        operations: Which operations of it, by `operationId`; all by default.
        base_url: In place of the first server that the file names.
        headers_from_env: Header name to environment variable, for keys. They go to every endpoint
            and are never shown.
        private_hosts: Hosts that may have private addresses, for example `localhost`.
        timeout_s: Seconds for the whole of a call.
        max_bytes: Where reading an answer stops.
        max_output_chars: Longer output is cut, with a line that says so.

    Raises:
        ConfigError: Nothing is declared, a declaration is wrong, or an environment variable is not
            set.
    """

    slow = True

    def __init__(
        self,
        endpoints: list[Endpoint] | None = None,
        openapi: str | None = None,
        operations: list[str] | None = None,
        base_url: str | None = None,
        headers_from_env: dict[str, str] | None = None,
        private_hosts: list[str] | None = None,
        timeout_s: float = 10.0,
        max_bytes: int = 1_000_000,
        max_output_chars: int = 10_000,
    ) -> None:
        for key, value in (("timeout_s", timeout_s), ("max_bytes", max_bytes), ("max_output_chars", max_output_chars)):
            if value <= 0:
                raise ConfigError(f"HTTP.{key} is {value}; it must be above 0")
        declared = list(endpoints or ())
        if openapi is not None:
            declared += read_openapi(Path(openapi), base_url, operations)
        if not declared:
            raise ConfigError("HTTP offers no tool; give it `endpoints` or an `openapi` file")
        self._endpoints = {endpoint.name: endpoint for endpoint in declared}
        if len(self._endpoints) < len(declared):
            raise ConfigError(f"HTTP declares a name twice among {', '.join(endpoint.name for endpoint in declared)}")
        self._specs = tuple(endpoint.spec for endpoint in declared)
        self.parallel = all(endpoint.method == "GET" for endpoint in declared)  # others may depend on their order
        self._parameters = {spec.name: spec.parameters for spec in self._specs}
        self._validators = {spec.name: ArgumentsValidator(spec) for spec in self._specs}
        self._headers: dict[str, str] = {}
        for header, variable in (headers_from_env or {}).items():
            if (secret := os.environ.get(variable)) is None:
                raise ConfigError(
                    f"HTTP.headers_from_env: the environment variable {variable!r} for {header!r} is not set"
                )
            self._headers[header] = secret
        self._private_hosts = frozenset(host.lower() for host in private_hosts or ())
        for endpoint in declared:
            # Other names are looked up, and judged, with each call: what they stand for can change.
            if endpoint.host not in self._private_hosts and is_private_by_name(endpoint.host):
                raise ConfigError(f"endpoint {endpoint.name!r}: {endpoint.host} is not a public address; {_REMEDY}")
        self._timeout_s, self._max_bytes, self._max_output_chars = timeout_s, max_bytes, max_output_chars

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """One tool for each endpoint."""
        return self._specs

    def session(self, reference: Reference | None = None) -> AbstractContextManager[ToolSession]:
        """Open a session; calls share nothing."""
        return nullcontext(ToolSession(run=self._run))

    def _run(self, call: ToolCall) -> ToolResult:
        if refusal := refused(call, self._endpoints):
            return refusal
        if complaint := self._validators[call.name].complaint(call.arguments):
            return failed(call, f"{call.name}: {complaint}")
        start = time.perf_counter()
        try:
            arguments = with_integers(dict(call.arguments), self._parameters[call.name])
            request = self._endpoints[call.name].request(arguments, self._headers)
            response = fetch(
                request,
                timeout_s=self._timeout_s,
                max_bytes=self._max_bytes,
                private_hosts=self._private_hosts,
            )
        except UnfitArgument as wrong:
            return failed(call, f"{call.name}: {wrong}")
        except Refused as reason:
            raise ConfigError(
                f"endpoint {call.name!r}: {reason}; list the host in HTTP.private_hosts if that is meant"
            ) from reason
        except TimeoutError:
            text = f"{call.name} took longer than {self._timeout_s:g} s"
            return failed(call, text, status=ToolStatus.TIMEOUT, duration_s=time.perf_counter() - start)
        return self._result(call, response, time.perf_counter() - start)

    def _result(self, call: ToolCall, response: Response, duration_s: float) -> ToolResult:
        if response.status in _INFRASTRUCTURE:
            raise ToolBackendError(f"endpoint {call.name!r} answered HTTP {response.status}")
        text = _text(response)
        if 300 <= response.status < 400:
            return failed(
                call, f"{call.name}: HTTP {response.status}: redirects are not followed", duration_s=duration_s
            )
        if response.status >= 400:
            return failed(
                call, f"{call.name}: HTTP {response.status}: {text[:_MAX_ERROR_CHARS]}", duration_s=duration_s
            )
        shown = truncated(text, self._max_output_chars)
        if not response.complete and len(text) <= self._max_output_chars:
            shown += f"\n[truncated: the answer is longer than {self._max_bytes} bytes]"
        return ToolResult(call_id=call.call_id, content=shown, duration_s=duration_s, output_chars=len(text))


def _text(response: Response) -> str:
    if (
        response.content_type.startswith(("image/", "audio/", "video/", "application/octet-stream"))
        or b"\0" in response.body[:1024]
    ):
        return f"[{response.content_type or 'binary data'}, {len(response.body)} bytes]"
    return response.body.decode("utf-8", "replace")
