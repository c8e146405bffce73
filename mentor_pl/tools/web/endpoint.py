"""An endpoint as a tool: where each argument goes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from mentor_pl.errors import ConfigError
from mentor_pl.messages import ToolSpec
from mentor_pl.tools.schema import short_schema
from mentor_pl.tools.web.request import Request, check_url

_METHODS = ("GET", "HEAD", "DELETE", "POST", "PUT", "PATCH")
_WITH_BODY = ("POST", "PUT", "PATCH")
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


class UnfitArgument(Exception):
    """An argument's value cannot stand where it has to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One URL as a tool.

    Attributes:
        name: Name of the tool.
        url: Address; `{argument}` in its path takes that argument's value.
        description: What the model reads about it.
        method: One of GET, HEAD, DELETE, POST, PUT, PATCH.
        parameters: JSON Schema of the arguments object; by default each placeholder is a required
            string.
        query: Arguments that go into the query string. By default those not in the path do for GET,
            HEAD and DELETE, and for the others form a JSON object as the body.
        body: The argument that is the whole body; None: an object of those that go nowhere else.
    """

    name: str
    url: str
    description: str = ""
    method: str = "GET"
    parameters: dict[str, Any] = field(default_factory=dict[str, Any])
    query: list[str] | None = None
    body: str | None = None

    def __post_init__(self) -> None:
        if self.method not in _METHODS:
            raise ConfigError(
                f"endpoint {self.name!r} has the method {self.method!r}; it must be one of {', '.join(_METHODS)}"
            )
        check_url(self.url)
        if _PLACEHOLDER.search(urlsplit(self.url).netloc):
            raise ConfigError(
                f"endpoint {self.name!r}: an argument cannot choose the host; only the path may hold placeholders"
            )
        known = self.spec.parameters["properties"]
        for name in (*_PLACEHOLDER.findall(self.url), *(self.query or ()), *([self.body] if self.body else ())):
            if name not in known:
                raise ConfigError(
                    f"endpoint {self.name!r} places {name!r}, which is not among its parameters: {', '.join(known) or 'none'}"
                )

    @property
    def host(self) -> str:
        """The only host that its calls go to."""
        return check_url(self.url)

    @property
    def spec(self) -> ToolSpec:
        """The endpoint as it is offered to a model."""
        placeholders = _PLACEHOLDER.findall(self.url)
        given: Mapping[str, Any] = self.parameters or {
            "properties": {name: {"type": "string"} for name in placeholders},
            "required": placeholders,
        }
        try:
            parameters: dict[str, Any] = {"type": "object", "properties": {}, **short_schema(given)}
        except ValueError as wrong:
            raise ConfigError(f"endpoint {self.name!r}: {wrong}") from wrong
        return ToolSpec(
            name=self.name, description=self.description or f"{self.method} {self.url}", parameters=parameters
        )

    def request(self, arguments: Mapping[str, Any], headers: Mapping[str, str]) -> Request:
        """Build the request of one call.

        Args:
            arguments: Validated against the spec.
            headers: To be sent along.

        Raises:
            UnfitArgument: A value would change the path's meaning.
        """
        left = dict(arguments)
        url = _PLACEHOLDER.sub(lambda match: _path_segment(match[1], left.pop(match[1], "")), self.url)
        in_query = self.query if self.query is not None else list(left) if self.method not in _WITH_BODY else []
        if pairs := {name: left.pop(name) for name in in_query if name in left}:
            url += ("&" if urlsplit(url).query else "?") + urlencode(
                {k: _plain(v) for k, v in pairs.items()}, doseq=True
            )
        payload = left.get(self.body) if self.body else left
        if self.method not in _WITH_BODY:
            return Request(method=self.method, url=url, headers=headers)
        body = json.dumps(payload, ensure_ascii=True).encode()
        return Request(method=self.method, url=url, headers={**headers, "Content-Type": "application/json"}, body=body)


def _plain(value: Any) -> Any:
    """Write a value as query strings do: JSON's true, not Python's True; a list becomes repeated keys."""
    if isinstance(value, list):
        return [_plain(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return value.encode("utf-8", "replace") if isinstance(value, str) else json.dumps(value)


def _path_segment(name: str, value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    if text in ("", ".", ".."):
        raise UnfitArgument(f"{name!r} cannot be {text!r}")
    return quote(text.encode("utf-8", "replace"), safe="")
