from __future__ import annotations

import copy
import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mentor_pl.errors import ConfigError, ToolBackendError
from mentor_pl.messages import ToolCall, ToolResult, ToolStatus
from mentor_pl.reference import Reference
from mentor_pl.testing import check_tool_backend
from mentor_pl.tools.base import ToolBackend
from mentor_pl.tools.functions import PythonFunctions
from mentor_pl.tools.toolbox import ToolBox

HERE = Path(__file__).parent
_ids = itertools.count()


def run(backend: ToolBackend, name: str, **arguments: Any) -> ToolResult:
    with backend.session() as session:
        return session(ToolCall(call_id=str(next(_ids)), name=name, arguments=arguments))


@pytest.fixture(scope="module")
def faulty() -> Iterator[PythonFunctions]:
    backend = PythonFunctions(str(HERE / "faulty_tools.py"), timeout_s=1.0, workers=1, max_output_chars=200)
    yield backend
    backend.close()


@pytest.fixture(scope="module")
def arithmetic() -> Iterator[PythonFunctions]:
    backend = PythonFunctions("mentor_pl.tools.arithmetic")
    yield backend
    backend.close()


@pytest.fixture(scope="module")
def carts() -> Iterator[PythonFunctions]:
    backend = PythonFunctions(f"{HERE / 'shop.py'}:Cart", timeout_s=0.5)
    yield backend
    backend.close()


def test_signature_and_docstring_become_a_spec(faulty: PythonFunctions) -> None:
    spec = next(spec for spec in faulty.specs if spec.name == "distance")
    point = {
        "type": "object",
        "properties": {"x": {"type": "integer"}, "y": {"type": "integer", "default": 0}},
        "required": ["x"],
    }
    assert spec.description == "Measure the distance between two points.\nThe king moves diagonally too."
    parameters = copy.deepcopy(spec.parameters)
    for name in ("a", "b"):
        parameters["properties"][name].pop("additionalProperties", None)  # pydantic adds it from 2.14 on
    assert parameters == {
        "type": "object",
        "properties": {
            "a": {**point, "description": "From."},
            "b": {**point, "description": "To."},
            "mode": {"type": "string", "enum": ["city", "king"], "default": "city", "description": "How to move."},
        },
        "required": ["a", "b"],
    }


def test_the_twelve_arithmetic_tools(arithmetic: PythonFunctions) -> None:
    from mentor_pl.tools.arithmetic import __all__ as names

    assert [spec.name for spec in arithmetic.specs] == names
    assert len(names) == 12
    add = next(spec for spec in arithmetic.specs if spec.name == "add")
    assert add.to_openai() == {
        "type": "function",
        "function": {
            "name": "add",
            "description": "Return a + b.",
            "parameters": {
                "type": "object",
                "properties": {
                    "a": {"type": "number", "description": "First summand."},
                    "b": {"type": "number", "description": "Second summand."},
                },
                "required": ["a", "b"],
            },
        },
    }


@pytest.mark.parametrize(
    ("name", "arguments", "content"),
    [
        ("add", {"a": 2, "b": 3}, "5"),
        ("subtract", {"a": 2, "b": 2}, "0"),
        ("multiply", {"a": 0.1, "b": 3}, "0.3"),
        ("divide", {"a": 7, "b": 2}, "3.5"),
        ("sum_numbers", {"numbers": [1, 2.5, 3]}, "6.5"),
        ("floor", {"x": -1.5}, "-2"),
        ("ceil", {"x": -1.5}, "-1"),
        ("round_number", {"x": 2.345, "decimals": 1}, "2.3"),
        ("round_number", {"x": 2.6}, "3"),
        ("power", {"base": 2, "exponent": 10}, "1024"),
        ("sqrt", {"x": 9}, "3"),
        ("abs_value", {"x": -4}, "4"),
        ("modulo", {"a": -7, "b": 3}, "2"),
    ],
)
def test_arithmetic(arithmetic: PythonFunctions, name: str, arguments: dict[str, Any], content: str) -> None:
    result = run(arithmetic, name, **arguments)
    assert (result.status, result.content, result.output_chars) == (ToolStatus.OK, content, len(content))
    assert result.duration_s > 0


@pytest.mark.parametrize(
    ("name", "arguments", "status", "content"),
    [
        ("raises", {"text": "no such key"}, "error", "Error: raises: LookupError: no such key"),
        ("hangs", {"seconds": 60}, "timeout", "Error: hangs took longer than 1 s and was stopped"),
        ("hangs_in_c", {}, "timeout", "Error: hangs_in_c took longer than 1 s and was stopped"),
        (
            "not_json",
            {},
            "error",
            "Error: not_json returned a dict that is not JSON (Object of type set is not JSON serializable); "
            "a tool returns text, numbers, lists or dicts",
        ),
        ("crashes", {"status": 7}, "error", "Error: crashes crashed its process"),
        ("exits", {}, "error", "Error: exits: SystemExit: 3"),
        ("raises", {}, "error", "Error: raises: 'text' is missing"),
        ("raises", {"text": "x", "times": 2}, "error", "Error: raises: 'times' is not an argument"),
        ("hangs", {"seconds": "60"}, "error", "Error: hangs: 'seconds' should be a valid number"),
        ("hangs", {"seconds": float("inf")}, "error", "Error: hangs: 'seconds' should be a finite number"),
        ("nope", {}, "error", "Error: unknown tool 'nope'; the tools are raises, hangs, "),
        ("__import__", {}, "error", "Error: unknown tool '__import__'"),
        ("open('/etc/hostname').read", {}, "error", "Error: unknown tool \"open('/etc/hostname').read\""),
        ("_private", {}, "error", "Error: unknown tool '_private'"),
        (
            "distance",
            {"a": {"x": 1}, "b": {"x": 1, "y": "3"}, "mode": "fly"},
            "error",
            "Error: distance: 'b.y' should be a valid integer; 'mode' should be 'city' or 'king'",
        ),
        ("distance", {"a": {"y": 1}, "b": {"x": 1}}, "error", "Error: distance: 'a.x' is missing"),
    ],
)
def test_a_call_that_fails_says_why(
    faulty: PythonFunctions, name: str, arguments: dict[str, Any], status: str, content: str
) -> None:
    result = run(faulty, name, **arguments)
    assert result.status.value == status
    assert result.content.startswith(content)
    # and the next one meets a working worker
    assert run(faulty, "zero").content == "0"


def test_union_members_are_listed_once(arithmetic: PythonFunctions) -> None:
    result = run(arithmetic, "sum_numbers", numbers=[1, "2"])
    assert result.content == "Error: sum_numbers: 'numbers[1]' should be a valid integer or a valid number"


def test_arguments_are_converted_to_the_annotated_types(faulty: PythonFunctions) -> None:
    assert run(faulty, "distance", a={"x": 0}, b={"x": 2, "y": 3}).content == "5"
    assert run(faulty, "distance", a={"x": 0}, b={"x": 2, "y": 3}, mode="king").content == "3"


def test_long_output_is_cut_and_says_so(faulty: PythonFunctions) -> None:
    result = run(faulty, "floods", chars=250)
    assert result.content == "x" * 200 + "\n[truncated: 200 of 250 characters shown]"
    assert result.output_chars == 250


def test_what_a_tool_prints_reaches_nobody(faulty: PythonFunctions) -> None:
    assert run(faulty, "prints", text="said").content == "said"


def test_coroutines_are_awaited_and_text_is_not_quoted(faulty: PythonFunctions) -> None:
    assert run(faulty, "waits", text="grün 🌿").content == "grün 🌿"


def test_half_a_surrogate_pair_is_replaced(faulty: PythonFunctions) -> None:
    assert run(faulty, "surrogate").content == "a?b"


def test_a_malformed_call_is_answered_with_its_parse_error(faulty: PythonFunctions) -> None:
    with faulty.session() as session:
        result = session(ToolCall(call_id="1", name="zero", parse_error="the arguments are not valid JSON"))
    assert result.content == "Error: the arguments are not valid JSON"
    assert result.status is ToolStatus.ERROR


def test_many_threads_share_the_workers(arithmetic: PythonFunctions) -> None:
    got: dict[int, str] = {}

    def work(k: int) -> None:
        for i in range(50):
            got[k * 50 + i] = run(arithmetic, "add", a=k * 50, b=i).content

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {i: str(i) for i in range(400)}


def test_a_worker_that_died_between_calls_is_replaced() -> None:
    backend = PythonFunctions(str(HERE / "faulty_tools.py"), functions=["pid"], workers=1)
    first = int(run(backend, "pid").content)
    os.kill(first, 9)
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
    second = run(backend, "pid")
    assert second.ok and int(second.content) != first
    backend.close()
    with pytest.raises(ProcessLookupError):
        os.kill(int(second.content), 0)


def test_a_class_has_one_instance_per_session(carts: PythonFunctions) -> None:
    with carts.session() as one, carts.session() as other:
        put = ToolCall(call_id="1", name="put", arguments={"item": "egg"})
        show = ToolCall(call_id="2", name="show")
        one(put)
        assert one(put).content == '{"egg": 2}'
        assert other(show).content == "{}"
    assert run(carts, "show").content == "{}"


@pytest.mark.parametrize("way", ["hang", "crash"])
def test_losing_one_session_leaves_the_others_alone(carts: PythonFunctions, way: str) -> None:
    with carts.session() as one, carts.session() as other:
        one(ToolCall(call_id="1", name="put", arguments={"item": "egg"}))
        lost = other(ToolCall(call_id="2", name=way))
        assert lost.status is (ToolStatus.TIMEOUT if way == "hang" else ToolStatus.ERROR)
        after = other(ToolCall(call_id="3", name="show"))
        assert after.content == "Error: the tools' state was lost when an earlier call was stopped"
        assert one(ToolCall(call_id="4", name="show")).content == '{"egg": 1}'


def test_a_class_that_cannot_be_made_is_an_infrastructure_failure() -> None:
    backend = PythonFunctions(f"{HERE / 'shop.py'}:Broken")
    with pytest.raises(ToolBackendError, match="RuntimeError: no stock"):
        run(backend, "show")
    backend.close()


@pytest.mark.parametrize(
    ("module", "functions", "message"),
    [
        (
            "no_such_module_anywhere",
            None,
            "tools module 'no_such_module_anywhere' cannot be imported: ModuleNotFoundError",
        ),
        ("no_such_file.py", None, "tools file 'no_such_file.py' does not exist; paths are relative to"),
        (f"{HERE / 'shop.py'}:Till", None, "has no class 'Till'"),
        (
            "mentor_pl.tools.arithmetic",
            ["add", "ad"],
            "'mentor_pl.tools.arithmetic' has no function 'ad'; it has abs_value, add",
        ),
        ("SOURCE:def f(x): ...", None, "tool 'f': parameter 'x' has no type hint; annotate it"),
        ("SOURCE:def f(*x: int): ...", None, "tool 'f': parameter '*x: int' cannot be passed by name"),
        ("SOURCE:class A: ...\ndef f(x: A): ...", None, "tool 'f': a type hint has no JSON Schema"),
        ("SOURCE:def f(x: 'Nowhere'): ...", None, "tool 'f': a type hint cannot be resolved: name 'Nowhere'"),
        ("SOURCE:1/0", None, "cannot be imported: ZeroDivisionError"),
        ("SOURCE:x = 1", None, "has no public function to offer; list them in `functions`"),
    ],
)
def test_a_module_that_cannot_be_offered_is_refused_at_once(
    tmp_path: Path, module: str, functions: list[str] | None, message: str
) -> None:
    if module.startswith("SOURCE:"):
        path = tmp_path / "mine.py"
        path.write_text(module.removeprefix("SOURCE:"))
        module = str(path)
    with pytest.raises(ConfigError) as caught:
        PythonFunctions(module, functions)
    assert message in str(caught.value)


def test_the_contract_of_the_door(arithmetic: PythonFunctions, carts: PythonFunctions) -> None:
    check_tool_backend(arithmetic, [ToolCall(call_id="1", name="add", arguments={"a": 1, "b": 2})])
    check_tool_backend(carts, [ToolCall(call_id="1", name="show")])


def test_a_limit_that_is_no_limit_is_refused() -> None:
    with pytest.raises(ConfigError, match="PythonFunctions.timeout_s is 0; it must be above 0"):
        PythonFunctions("mentor_pl.tools.arithmetic", timeout_s=0)


@pytest.mark.parametrize("workers", [0, 10**20])
def test_a_number_of_workers_that_cannot_be_is_refused(workers: int) -> None:
    with pytest.raises(ConfigError, match=f"PythonFunctions.workers is {workers}; it must be above 0 and at most 1024"):
        PythonFunctions("mentor_pl.tools.arithmetic", workers=workers)


def test_tools_and_their_workers_do_without_torch() -> None:
    modules = "mentor_pl.tools.functions, mentor_pl.tools.toolbox, mentor_pl.tools.workers.serve"
    script = f"import sys, {modules}; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_an_instance_starts_from_the_references_state_tells_its_own_and_judges_it() -> None:
    backend = PythonFunctions(f"{HERE / 'shop.py'}:Shelf", timeout_s=1.0)
    take = ToolCall(call_id="1", name="take", arguments={"item": "egg"})
    prompt = Reference(reference_id="p", prompt=(), answer="", tools=backend.specs, initial_state={"egg": 1})
    try:
        assert [spec.name for spec in backend.specs] == ["take", "hang"]
        assert (backend.tells_state, backend.parallel) == (True, False)
        with ToolBox([backend]).session(prompt) as session:
            assert (session.state(), session.score()) == ({"egg": 1}, 0.0)
            assert session(take).content == "0"
            assert (session.state(), session.score()) == ({"egg": 0}, 1.0)
        with backend.session() as session:
            assert session(take).content == "2"
            session(ToolCall(call_id="2", name="hang"))
            assert session.state is not None and session.score is not None
            assert (session.state(), session.score()) == (None, 0.0)  # what was lost is worth nothing
        check_tool_backend(backend, [take])
    finally:
        backend.close()
