"""OpenAPI 3 documents as endpoints (https://spec.openapis.org/oas/v3.1.0)."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import urljoin

import yaml

from mentor_pl.errors import ConfigError
from mentor_pl.tools.schema import short_schema
from mentor_pl.tools.web.endpoint import Endpoint

_METHODS = ("get", "head", "delete", "post", "put", "patch")


def read_openapi(path: Path, base_url: str | None, operations: Collection[str] | None) -> list[Endpoint]:
    """Read the operations of an OpenAPI file.

    Args:
        path: JSON or YAML.
        base_url: In place of the document's first server.
        operations: `operationId`s to offer; None offers all.

    Raises:
        ConfigError: The file cannot be read, an operation is unknown, or needs what a tool call
            cannot give.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))  # JSON is YAML
    except (OSError, yaml.YAMLError) as failure:
        raise ConfigError(f"the OpenAPI file {str(path)!r} cannot be read: {failure}") from failure
    if not isinstance(document, dict) or "paths" not in document:
        raise ConfigError(f"{str(path)!r} is not an OpenAPI document: it has no `paths`")
    root = cast("dict[str, Any]", document)
    servers = root.get("servers") or [{"url": ""}]
    base = base_url or servers[0]["url"]
    endpoints: dict[str, Endpoint] = {}
    known: list[str] = []
    for method, route, item, operation in _operations(root):
        name = re.sub(r"[\W_]+", "_", operation.get("operationId") or f"{method}_{route}").strip("_")
        known.append(name)
        if operations is None or name in operations:
            endpoints[name] = _endpoint(root, path, base, name, method, route, item, operation)
    if unknown := set(operations or ()) - set(known):
        raise ConfigError(f"{str(path)!r} has no operation {min(unknown)!r}; it has {', '.join(known) or 'none'}")
    return list(endpoints.values())


def _operations(root: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any], Mapping[str, Any]]]:
    for route, item in root["paths"].items():
        for method in _METHODS:
            if method in item:
                yield method, route, item, item[method]


def _endpoint(
    root: Mapping[str, Any],
    path: Path,
    base: str,
    name: str,
    method: str,
    route: str,
    item: Mapping[str, Any],
    operation: Mapping[str, Any],
) -> Endpoint:
    culprit = f"operation {name!r} of {str(path)!r}"
    properties: dict[str, Any] = {}
    required: list[str] = []
    query: list[str] = []

    def resolved(node: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return short_schema(node, root)
        except ValueError as wrong:
            raise ConfigError(f"{culprit}: {wrong}") from wrong

    for declared in (*item.get("parameters", ()), *operation.get("parameters", ())):
        parameter = resolved(declared)
        if parameter["in"] not in ("path", "query"):
            if parameter.get("required"):
                raise ConfigError(
                    f"{culprit} requires the {parameter['in']} {parameter['name']!r}; give it by `headers_from_env` or leave it out"
                )
            continue
        schema = {**parameter.get("schema", {})}
        if text := parameter.get("description"):
            schema.setdefault("description", text)
        properties[parameter["name"]] = schema
        if parameter["in"] == "query":
            query.append(parameter["name"])
        if parameter.get("required"):
            required.append(parameter["name"])
    body: str | None = None
    if "requestBody" in operation:
        request_body = resolved(operation["requestBody"])
        content = request_body.get("content", {})
        if "application/json" not in content:
            raise ConfigError(f"{culprit} takes {', '.join(content) or 'nothing'}; only application/json can be sent")
        schema = content["application/json"].get("schema", {})
        fields = schema.get("properties", {})
        if schema.get("type") == "object" and fields and not set(fields) & set(properties):
            properties |= fields
            required += schema.get("required", [])
        else:
            body = "body"
            properties[body] = schema
            required += [body] if request_body.get("required") else []
    parameters: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        parameters["required"] = required
    return Endpoint(
        name=name,
        url=urljoin(f"{base.rstrip('/')}/", route.lstrip("/")),
        description=(operation.get("description") or operation.get("summary") or "").strip(),
        method=method.upper(),
        parameters=json.loads(json.dumps(parameters, default=str)),
        query=query,
        body=body,
    )
