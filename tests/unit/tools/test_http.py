from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mentor_pl.errors import ConfigError, ToolBackendError
from mentor_pl.messages import ToolCall, ToolResult, ToolStatus
from mentor_pl.testing import check_tool_backend
from mentor_pl.tools.http import HTTP
from mentor_pl.tools.web.endpoint import Endpoint
from mentor_pl.tools.web.request import Refused, Request, _is_public, fetch
from tests.unit.tools.local_server import LocalServer, local_server

TEXT = {"type": "string"}


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with local_server() as running:
        yield running


def call(backend: HTTP, name: str = "tool", **arguments: Any) -> ToolResult:
    with backend.session() as session:
        return session(ToolCall(call_id="c", name=name, arguments=arguments))


def tool(server: LocalServer, path: str, timeout_s: float = 2.0, **fields: Any) -> HTTP:
    return HTTP(
        [Endpoint(name="tool", url=server.url + path, **fields)], private_hosts=["127.0.0.1"], timeout_s=timeout_s
    )


def test_arguments_go_to_path_and_query(server: LocalServer) -> None:
    parameters = {"properties": {"item": TEXT, "tag": {"type": "array", "items": TEXT}, "deep": {"type": "boolean"}}}
    backend = tool(server, "/items/{item}", parameters=parameters)
    said = json.loads(call(backend, item="a/b c?#ü", tag=["x", "y&z"], deep=True).content)
    assert said["path"] == "/items/a%2Fb%20c%3F%23%C3%BC"
    assert said["query"] == [["tag", "x"], ["tag", "y&z"], ["deep", "true"]]
    check_tool_backend(backend, [ToolCall(call_id="1", name="tool", arguments={"item": "a"})])


def test_arguments_go_to_the_body(server: LocalServer) -> None:
    parameters = {"properties": {"a": {"type": "integer"}, "b": TEXT}, "required": ["a"]}
    said = json.loads(
        call(tool(server, "/echo", method="POST", parameters=parameters, query=["b"]), a=1, b="x").content
    )
    assert (said["method"], said["query"], said["body"]) == ("POST", [["b", "x"]], '{"a": 1}')
    whole = tool(server, "/echo", method="PUT", parameters={"properties": {"rows": {"type": "array"}}}, body="rows")
    assert json.loads(call(whole, rows=[1, 2]).content)["body"] == "[1, 2]"


def test_a_key_from_the_environment_is_sent_and_not_shown(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MENTOR_TEST_KEY", "s3cret")
    endpoint = Endpoint(name="tool", url=server.url + "/echo")
    backend = HTTP([endpoint], private_hosts=["127.0.0.1"], headers_from_env={"X-Key": "MENTOR_TEST_KEY"})
    assert json.loads(call(backend).content)["key"] == "s3cret"
    assert "s3cret" not in repr(backend.specs) + repr(endpoint)
    with pytest.raises(ConfigError, match="the environment variable 'MENTOR_NO_KEY' for 'X-Key' is not set"):
        HTTP([endpoint], private_hosts=["127.0.0.1"], headers_from_env={"X-Key": "MENTOR_NO_KEY"})


@pytest.mark.parametrize(
    ("path", "status", "content"),
    [
        ("/status/404", "error", "Error: tool: HTTP 404: sorry"),
        ("/status/500", "error", "Error: tool: HTTP 500: sorry"),
        ("/status/302", "error", "Error: tool: HTTP 302: redirects are not followed"),
        ("/hang", "timeout", "Error: tool took longer than 0.5 s"),
        ("/drip", "timeout", "Error: tool took longer than 0.5 s"),
        ("/image", "ok", "[image/png, 5 bytes]"),
    ],
)
def test_how_a_call_ends(server: LocalServer, path: str, status: str, content: str) -> None:
    seen = len(server.seen)
    result = call(tool(server, path, timeout_s=0.5))
    assert (result.status.value, result.content) == (status, content)
    assert result.duration_s < 1.0  # half of the answer would take 1.5 s to drip
    assert server.seen[seen:] == [f"GET {path}"]  # a redirect was not followed


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_server_out_of_order_is_infrastructure(server: LocalServer, status: int) -> None:
    with pytest.raises(ToolBackendError, match=f"endpoint 'tool' answered HTTP {status}"):
        call(tool(server, f"/status/{status}"))


def test_long_answers_are_cut_twice(server: LocalServer) -> None:
    endpoint = Endpoint(name="tool", url=server.url + "/long")
    shown = call(HTTP([endpoint], private_hosts=["127.0.0.1"], max_output_chars=10))
    assert shown.content == "x" * 10 + "\n[truncated: 10 of 100000 characters shown]"
    read = call(HTTP([endpoint], private_hosts=["127.0.0.1"], max_bytes=20))
    assert read.content == "x" * 20 + "\n[truncated: the answer is longer than 20 bytes]"


@pytest.mark.parametrize("value", ["..", ".", ""])
def test_a_path_cannot_be_left(server: LocalServer, value: str) -> None:
    seen = len(server.seen)
    result = call(tool(server, "/items/{item}/x"), item=value)
    assert result.content == f"Error: tool: 'item' cannot be '{value}'"
    assert len(server.seen) == seen


def test_a_line_break_cannot_become_a_header(server: LocalServer) -> None:
    said = json.loads(call(tool(server, "/items/{item}"), item="a HTTP/1.1\r\nX-Key: forged\r\n\r\n").content)
    assert said["key"] is None
    assert said["path"] == "/items/a%20HTTP%2F1.1%0D%0AX-Key%3A%20forged%0D%0A%0D%0A"


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "::1", "fe80::1%eth0"]
    + ["fc00::1", "::ffff:127.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1", "::"],
)  # fmt: skip
def test_private_addresses_are_known(address: str) -> None:
    assert not _is_public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "64:ff9b::5db8:d822"])
def test_public_addresses_are_known(address: str) -> None:
    assert _is_public(address)


def test_a_private_host_must_be_listed(server: LocalServer) -> None:
    for host in ("localhost", "127.0.0.1", "[::1]", "169.254.169.254"):
        with pytest.raises(
            ConfigError, match="is not a public address; list the host in HTTP.private_hosts if that is meant"
        ):
            HTTP([Endpoint(name="tool", url=f"http://{host}/")])
    # a name that only turns out to be private when it is looked up
    with pytest.raises(Refused, match="localhost has the address .* which is not a public one"):
        fetch(Request(method="GET", url=server.url.replace("127.0.0.1", "localhost")), timeout_s=1, max_bytes=10)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"url": "ftp://example.org"}, "'ftp://example.org' is not an absolute http or https URL"),
        ({"url": "/relative"}, "is not an absolute http or https URL"),
        ({"url": "https://user:pw@example.org/"}, "the URL of 'example.org' carries credentials"),
        ({"url": "https://{host}.example.org/"}, "an argument cannot choose the host"),
        ({"url": "https://example.org/", "method": "get"}, "has the method 'get'; it must be one of GET, HEAD"),
        ({"url": "https://example.org/", "query": ["q"]}, "places 'q', which is not among its parameters: none"),
        (
            {"url": "https://example.org/", "parameters": {"$ref": "https://evil.example/s"}},
            "points outside its document",
        ),
    ],
)
def test_a_wrong_declaration_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Endpoint(name="tool", **fields)
    assert message in str(caught.value)


def test_nothing_and_twice_the_same_are_refused() -> None:
    with pytest.raises(ConfigError, match="HTTP offers no tool"):
        HTTP()
    twice = [Endpoint(name="a", url="https://example.org/"), Endpoint(name="a", url="https://example.org/b")]
    with pytest.raises(ConfigError, match="HTTP declares a name twice among a, a"):
        HTTP(twice)


DOCUMENT = {
    "openapi": "3.1.0",
    "servers": [{"url": "https://api.example.org/v1"}],
    "paths": {
        "/items/{item}": {
            "parameters": [{"$ref": "#/components/parameters/item"}],
            "get": {
                "operationId": "getItem",
                "summary": "Look an item up.",
                "parameters": [{"name": "lang", "in": "query", "schema": {"type": "string", "enum": ["de", "en"]}}],
            },
            "put": {
                "operationId": "put item!",
                "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Item"}}}},
            },
        },
        "/list": {
            "post": {
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": {"type": "array", "items": TEXT}}},
                },
            }
        },
        "/private": {"get": {"parameters": [{"name": "token", "in": "header", "required": True}]}},
    },
    "components": {
        "parameters": {
            "item": {"name": "item", "in": "path", "required": True, "description": "Which.", "schema": TEXT}
        },
        "schemas": {
            "Item": {
                "type": "object",
                "properties": {"size": {"$ref": "#/components/schemas/Size"}},
                "required": ["size"],
            },
            "Size": {"type": "integer", "title": "Size"},
        },
    },
}


@pytest.mark.parametrize("suffix", [".json", ".yaml"])
def test_operations_of_an_openapi_file_become_tools(server: LocalServer, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"api{suffix}"
    path.write_text(json.dumps(DOCUMENT) if suffix == ".json" else yaml.safe_dump(DOCUMENT))
    operations = ["getItem", "put_item", "post_list"]
    backend = HTTP(openapi=str(path), operations=operations, base_url=server.url, private_hosts=["127.0.0.1"])
    specs = {spec.name: spec for spec in backend.specs}
    assert list(specs) == operations
    assert specs["getItem"].description == "Look an item up."
    item = {"type": "string", "description": "Which."}
    assert specs["getItem"].parameters == {
        "type": "object",
        "properties": {"item": item, "lang": {"type": "string", "enum": ["de", "en"]}},
        "required": ["item"],
    }
    assert specs["put_item"].parameters == {
        "type": "object",
        "properties": {"item": item, "size": {"type": "integer"}},
        "required": ["item", "size"],
    }
    assert json.loads(call(backend, "getItem", item="a", lang="de").content)["query"] == [["lang", "de"]]
    assert json.loads(call(backend, "put_item", item="a", size=3).content)["body"] == '{"size": 3}'
    assert (
        call(backend, "getItem", item="a", lang="fr").content
        == "Error: getItem: 'lang': 'fr' is not one of ['de', 'en']"
    )
    assert specs["post_list"].parameters["required"] == ["body"]


def test_what_an_openapi_file_cannot_give_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "api.json"
    path.write_text(json.dumps(DOCUMENT))
    with pytest.raises(
        ConfigError, match="operation 'get_private' of .* requires the header 'token'; give it by `headers_from_env`"
    ):
        HTTP(openapi=str(path))
    with pytest.raises(ConfigError, match="has no operation 'gone'; it has getItem, put_item, post_list, get_private"):
        HTTP(openapi=str(path), operations=["gone"])
    path.write_text("[]")
    with pytest.raises(ConfigError, match="is not an OpenAPI document: it has no `paths`"):
        HTTP(openapi=str(path))


def test_time_is_up_for_a_server_that_is_not_reachable(server: LocalServer) -> None:
    result = call(tool(server, "/hang", timeout_s=0.2))
    assert result.status is ToolStatus.TIMEOUT
