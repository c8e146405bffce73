from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from benchmarks.tools_hostile import descendants
from mentor_pl.errors import ConfigError, ToolBackendError
from mentor_pl.messages import ToolCall, ToolResult, ToolStatus
from mentor_pl.testing import check_tool_backend
from mentor_pl.tools.base import ToolBackend, ToolSession
from mentor_pl.tools.command_interpreter import CommandInterpreter
from mentor_pl.tools.interpreter import PythonInterpreter
from mentor_pl.tools.sandbox import kernel

needs_landlock = pytest.mark.skipif(
    kernel.unsupported() is not None, reason=f"this machine cannot confine: {kernel.unsupported()}"
)


def execute(session: ToolSession, code: str) -> ToolResult:
    return session(ToolCall(call_id="c", name="python", arguments={"code": code}))


def once(backend: ToolBackend, code: str) -> ToolResult:
    with backend.session() as session:
        return execute(session, code)


def execute_patiently(backend: ToolBackend, code: str) -> str:
    """As `ToolBox` does: failed infrastructure is tried twice."""
    try:
        return once(backend, code).content
    except ToolBackendError:
        return once(backend, code).content


@pytest.fixture(scope="module")
def python() -> Iterator[PythonInterpreter]:
    backend = PythonInterpreter(timeout_s=1.0, workers=1, max_output_chars=1000)
    yield backend
    backend.close()


@pytest.fixture(scope="module")
def sessions() -> Iterator[PythonInterpreter]:
    backend = PythonInterpreter(timeout_s=3.0, workers=1, keep_variables=True)
    yield backend
    backend.close()


@needs_landlock
@pytest.mark.parametrize(
    ("code", "content"),
    [
        ("1 + 1", "2"),
        ("x = 6\nx * 7", "42"),
        ("0", "0"),
        ("print('a')\n'b'", "a\n'b'"),
        ("x = 1", "[no output]"),
        ("None", "[no output]"),
        ("", "[no output]"),
        ("print('grün 🌿')", "grün 🌿"),
        ("import math, statistics, itertools; statistics.mean([1, 2, 6])", "3"),
        ("import sys; print('to stderr', file=sys.stderr)", "to stderr"),
        ("exit()", "[no output]"),
        ("import os; print('x', file=open(os.devnull, 'w'))", "[no output]"),
        ("with open('f', 'w') as f: f.write('x' * 5)\nimport os; os.listdir('.'), os.path.getsize('f')", "(['f'], 5)"),
        ("input()", "EOFError"),
    ],
)
def test_what_code_shows(python: PythonInterpreter, code: str, content: str) -> None:
    result = once(python, code)
    assert content in result.content if content == "EOFError" else result.content == content


@needs_landlock
def test_an_error_shows_the_students_own_lines_only(python: PythonInterpreter) -> None:
    result = once(python, "def f():\n    return 1 / 0\nf()")
    assert result.status is ToolStatus.ERROR
    lines = result.content.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == "ZeroDivisionError: division by zero"
    assert "    return 1 / 0" in lines
    assert "child.py" not in result.content


@needs_landlock
@pytest.mark.parametrize(
    ("code", "status", "ending"),
    [
        ("while True: pass", "timeout", "Error: the code ran longer than 1 s and was stopped"),
        ("print('x' * 3_000_000)", "error", "Error: the code printed more than a million bytes and was stopped"),
        ("import ctypes; ctypes.string_at(0)", "error", "or crashed the interpreter"),
        ("raise SystemExit(3)", "error", "Error: the code ended with a status that is not 0"),
        ("x = bytearray(10 ** 10)", "error", "MemoryError"),
        ("def f(:", "error", "SyntaxError: invalid syntax"),
    ],
)
def test_how_code_ends(python: PythonInterpreter, code: str, status: str, ending: str) -> None:
    result = once(python, code)
    assert result.status.value == status
    assert result.content.endswith(ending)


@needs_landlock
def test_long_output_is_cut_and_says_so(python: PythonInterpreter) -> None:
    result = once(python, "print('x' * 5000)")
    assert result.status is ToolStatus.OK
    assert result.content == "x" * 1000 + "\n[truncated: 1000 of 5000 characters shown]"
    assert result.output_chars == 5001


@needs_landlock
def test_calls_share_nothing_without_keep_variables(python: PythonInterpreter) -> None:
    with python.session() as session:
        execute(session, "x = 1; open('f', 'w').write('kept')")
        assert "NameError" in execute(session, "x").content
        assert execute(session, "import os; os.listdir('.')").content == "[]"
        born = execute(session, "import os; os.stat('.').st_mtime_ns").content
        execute(session, "import os; open('f', 'w').close(); os.unlink('f')")
        # not even the trace of a deleted file: the disk is another one
        seen = "import os; s = os.stat('.'); s.st_mtime_ns == s.st_ctime_ns != {}"
        assert execute(session, seen.format(born)).content == "True"


@needs_landlock
@pytest.mark.parametrize(
    ("arguments", "content"),
    [
        ({}, "Error: python: 'code' is missing"),
        ({"code": 3}, "Error: python: 'code' should be a string"),
        ({"code": "1", "timeout": 999}, "Error: python: 'timeout' is not an argument; it takes 'code'"),
    ],
)
def test_wrong_arguments_run_nothing(python: PythonInterpreter, arguments: dict[str, object], content: str) -> None:
    with python.session() as session:
        result = session(ToolCall(call_id="1", name="python", arguments=arguments))
    assert (result.status, result.content) == (ToolStatus.ERROR, content)


@needs_landlock
def test_sessions_keep_variables_and_files_apart(sessions: PythonInterpreter) -> None:
    with sessions.session() as one, sessions.session() as other:
        execute(one, "x = 1; import math")
        execute(other, "x = 2")
        execute(one, "open('f', 'w').write('mine')")
        assert execute(one, "x, math.floor(2.5), open('f').read()").content == "(1, 2, 'mine')"
        assert execute(other, "x").content == "2"
        assert "FileNotFoundError" in execute(other, "open('f')").content
        assert "ZeroDivisionError" in execute(one, "1 / 0").content
        assert execute(one, "x").content == "1"


@needs_landlock
@pytest.mark.parametrize(
    "last_words",
    ["while True: pass", "import os; os._exit(0)", "raise SystemExit", "import ctypes; ctypes.string_at(0)"],
)
def test_a_session_that_ends_takes_no_other_with_it(sessions: PythonInterpreter, last_words: str) -> None:
    with sessions.session() as one, sessions.session() as other:
        execute(one, "x = 1")
        execute(other, "x = 2")
        execute(one, last_words)
        assert execute(other, "x").content == "2"
        result = execute(one, "x")
        if last_words == "raise SystemExit":  # ends the call, as in a notebook
            assert result.content == "1"
        else:
            assert result.content == "Error: the variables were lost when an earlier call ended its process"
            assert result.status is ToolStatus.ERROR


@needs_landlock
def test_a_thread_left_behind_stands_still_between_calls(sessions: PythonInterpreter) -> None:
    with sessions.session() as session:
        execute(
            session,
            "import threading, itertools\nn = 0\ndef count():\n    global n\n    for n in itertools.count(): pass",
        )
        execute(session, "threading.Thread(target=count, daemon=True).start()")
        first = int(execute(session, "n").content)
        time.sleep(0.3)
        second = int(execute(session, "n").content)
        execute(session, "import time; time.sleep(0.3)")
        third = int(execute(session, "n").content)
        # it was waiting when it was stopped, and has to go on waiting
        execute(session, "threading.Thread(target=time.sleep, args=(0.2,)).start()")
        time.sleep(0.05)
        assert execute(session, "time.sleep(0.3); n > 0").content == "True"
    assert second - first < (third - second) / 2


@needs_landlock
@pytest.mark.parametrize("keep_variables", [False, True])
def test_a_lost_zygote_is_replaced_and_a_session_in_it_is_lost(keep_variables: bool) -> None:
    before = descendants()
    backend = PythonInterpreter(workers=1, keep_variables=keep_variables)
    with backend.session() as session:
        assert execute(session, "x = 1; x").content == "1"
        for pid in descendants() - before:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        if keep_variables:
            with pytest.raises(ToolBackendError, match="the session was lost with its variables"):
                execute(session, "x")
    assert execute_patiently(backend, "2") == "2"
    backend.close()


@needs_landlock
def test_sessions_do_not_wait_for_each_other(sessions: PythonInterpreter) -> None:
    shown: list[str] = []
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(sessions.session()) for _ in range(8)]
        code = "import time; time.sleep(0.6)"
        threads = [threading.Thread(target=lambda s=s: shown.append(execute(s, code).status.value)) for s in opened]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert shown == ["ok"] * 8
        assert time.perf_counter() - start < 8 * 0.6  # as they would one after another


@needs_landlock
def test_many_threads_share_the_workers() -> None:
    backend = PythonInterpreter(workers=2)
    got: dict[int, str] = {}

    def work(k: int) -> None:
        for i in range(10):
            got[k * 10 + i] = once(backend, f"{k * 10 + i}").content

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    backend.close()
    assert got == {i: str(i) for i in range(60)}


@needs_landlock
@pytest.mark.parametrize("keep_variables", [False, True])
def test_the_contract_of_the_door(keep_variables: bool) -> None:
    backend = PythonInterpreter(keep_variables=keep_variables)
    check_tool_backend(backend, [ToolCall(call_id="1", name="python", arguments={"code": "1 + 1"})])
    backend.close()


@needs_landlock
def test_chosen_packages_can_be_imported_and_no_others() -> None:
    backend = PythonInterpreter(workers=1, packages=["packaging"], preload=["packaging.version"])
    assert once(backend, "from packaging.version import Version; str(Version('1.2'))").content == "'1.2'"
    assert "Error: " in once(backend, "import yaml").content
    backend.close()


def test_a_machine_that_cannot_confine_is_told_what_else_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "unsupported", lambda: "it is Darwin on arm64, and only Linux on x86_64 is supported")
    with pytest.raises(
        ConfigError, match="on this machine: it is Darwin .* CommandInterpreter .* `bwrap`, a container"
    ):
        PythonInterpreter()


def test_a_limit_that_is_no_limit_is_refused() -> None:
    with pytest.raises(ConfigError, match="PythonInterpreter.memory_mb is 0; it must be above 0"):
        PythonInterpreter(memory_mb=0)


@pytest.mark.parametrize("workers", [0, 10**20])
def test_a_number_of_workers_that_cannot_be_is_refused(workers: int) -> None:
    with pytest.raises(ConfigError, match=f"PythonInterpreter.workers is {workers}; it must be above 0 and at most"):
        PythonInterpreter(workers=workers)
    with pytest.raises(ConfigError, match=f"CommandInterpreter.workers is {workers}; it must be above 0 and at most"):
        CommandInterpreter([sys.executable], workers=workers)


@pytest.mark.parametrize(
    ("code", "status", "content"),
    [
        ("print(1 + 1)", "ok", "2"),
        ("raise SystemExit(1)", "error", "Error: the code ended with a status that is not 0"),
        ("while True: pass", "timeout", "Error: the code ran longer than 1 s and was stopped"),
        (
            "import os; os.close(1); os.close(2)\nwhile True: pass",
            "timeout",
            "Error: the code ran longer than 1 s and was stopped",
        ),
    ],
)
def test_a_command_of_ones_own(code: str, status: str, content: str) -> None:
    backend = CommandInterpreter([sys.executable, "-I", "-"], timeout_s=1.0)
    result = once(backend, code)
    assert (result.status.value, result.content) == (status, content)


def test_a_command_that_prints_without_end_is_stopped() -> None:
    result = once(CommandInterpreter([sys.executable, "-I", "-"], max_output_chars=10), "while True: print('x' * 1000)")
    assert result.content.endswith("Error: the code printed more than a million bytes and was stopped")


def test_a_command_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="'no-such-program'.* is not a program on this machine"):
        CommandInterpreter(["no-such-program"])
