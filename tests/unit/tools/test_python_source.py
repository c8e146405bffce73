from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from mentor_pl.errors import DataFileError, ToolBackendError
from mentor_pl.messages import Message, ToolCall, ToolSpec, ToolStatus
from mentor_pl.reference import Reference
from mentor_pl.testing import check_tool_backend
from mentor_pl.tools.python_source import PythonSource
from mentor_pl.tools.sandbox import kernel
from mentor_pl.tools.toolbox import ToolBox

pytestmark = pytest.mark.skipif(
    kernel.unsupported() is not None, reason=f"this machine cannot confine: {kernel.unsupported()}"
)

SOURCE = '''
import math
balance = {"ana": 3}

def pay(name: str, amount: int):
    """Pay an amount in."""
    if amount < 0:
        raise ValueError("an amount is not negative")
    balance[name] = balance.get(name, 0) + amount
    return balance

def area(radius):
    print("thinking")
    return round(math.pi * radius ** 2, 2)

def greet(name):
    print("Hello " + name)
'''
AMOUNT = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "amount": {"type": "integer"}},
    "required": ["name", "amount"],
}
TOOLS = (ToolSpec(name="pay", description="Pay.", parameters=AMOUNT), ToolSpec(name="area"), ToolSpec(name="greet"))


def prompt(source: Any = SOURCE, tools: tuple[ToolSpec, ...] = TOOLS) -> Reference:
    asked = (Message(role="user", content="?"),)
    return Reference(reference_id="p", prompt=asked, answer="", tools=tools, fields={"env": source})


def call(tool: str, /, **arguments: Any) -> ToolCall:
    return ToolCall(call_id="c", name=tool, arguments=arguments)


@pytest.fixture(scope="module")
def backend() -> Iterator[PythonSource]:
    source = PythonSource(timeout_s=2.0)
    yield source
    source.close()


def test_a_prompts_own_functions_are_its_tools_and_keep_state(backend: PythonSource) -> None:
    with backend.session(prompt()) as session:
        assert session(call("pay", name="ana", amount=2)).content == '{"ana": 5}'
        assert session(call("pay", name="Zoë's \"\n", amount=1)).content == '{"ana": 5, "Zoë\'s \\"\\n": 1}'
        assert session(call("area", radius=2)).content == "12.57"
        assert session(call("greet", name="Ana")).content == "Hello Ana"
    with backend.session(prompt()) as session:  # another trajectory begins anew
        assert session(call("pay", name="ana", amount=0)).content == '{"ana": 3}'


def test_what_the_student_gets_wrong_is_an_error_to_read(backend: PythonSource) -> None:
    with backend.session(prompt()) as session:
        for wrong, said in (
            (call("pay", name="ana", amount=-1), "ValueError: an amount is not negative"),
            (call("pay", name="ana", amount="2"), "pay: 'amount': '2' is not of type 'integer'"),
            (call("area", diameter=2), "TypeError: area() got an unexpected keyword argument 'diameter'"),
            (call("open", file="/etc/passwd"), "open"),
        ):
            result = session(wrong)
            assert result.status is ToolStatus.ERROR
            assert said in result.content
        assert session(call("pay", name="ana", amount=0)).content == '{"ana": 3}'  # nothing was lost by it


def test_the_source_is_confined_and_limited(backend: PythonSource) -> None:
    hostile = (
        "def look(path):\n    return open(path).read()\n"
        "def spin():\n    while True: pass\n"
        "def call():\n    import socket; socket.create_connection(('127.0.0.1', 80))\n"
    )
    tools = tuple(ToolSpec(name=name) for name in ("look", "spin", "call"))
    for wrong, status in (
        (call("look", path="/etc/hostname"), ToolStatus.ERROR),
        (call("call"), ToolStatus.ERROR),
        (call("spin"), ToolStatus.TIMEOUT),
    ):
        with backend.session(prompt(hostile, tools)) as session:
            assert session(wrong).status is status


def test_several_prompts_side_by_side_and_prompts_without_source(backend: PythonSource) -> None:
    box = ToolBox([backend])
    other = prompt("def area(radius):\n    return 'another'", (ToolSpec(name="area"),))
    assert box.missing(prompt()) == [] and box.missing(prompt(None)) == ["pay", "area", "greet"]
    assert box.missing(prompt("def pay(name, amount): pass")) == ["area", "greet"]
    with box.session(prompt()) as one, box.session(other) as two:
        assert (one(call("area", radius=1)).content, two(call("area", radius=1)).content) == ("3.14", "another")


def test_faults_of_the_source_are_told_with_their_reference(backend: PythonSource) -> None:
    with pytest.raises(DataFileError, match="reference 'p': env cannot be read as Python"):
        backend.specs_for(prompt("def pay(:"))
    with pytest.raises(DataFileError, match="reference 'p': env is 5"):
        backend.specs_for(prompt(5))
    with (
        backend.session(prompt("import no_such_module\ndef area(radius): pass")) as session,
        pytest.raises(ToolBackendError, match="env of reference 'p' cannot be run: ModuleNotFoundError"),
    ):
        session(call("area", radius=1))


def test_it_keeps_the_contract() -> None:
    check_tool_backend(PythonSource(), [call("pay", name="Ana", amount=1)], prompt(tools=TOOLS[:1]))
