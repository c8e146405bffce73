from __future__ import annotations

import time

import pytest

from benchmarks.tools_hostile_snippets import SNIPPETS
from mentor_pl.messages import ToolCall
from mentor_pl.tools.interpreter import PythonInterpreter
from mentor_pl.tools.sandbox import kernel
from mentor_pl.tools.sandbox.seccomp import program
from mentor_pl.tools.sandbox.tasks import budget, choose

needs_landlock = pytest.mark.skipif(
    kernel.unsupported() is not None, reason=f"this machine cannot confine: {kernel.unsupported()}"
)


def once(backend: PythonInterpreter, code: str) -> str:
    with backend.session() as session:
        return session(ToolCall(call_id="c", name="python", arguments={"code": code})).content


@needs_landlock
@pytest.mark.parametrize(("keep_variables", "namespaces"), [(False, True), (True, True), (False, False)])
def test_threads_made_by_bare_system_calls_are_counted(keep_variables: bool, namespaces: bool) -> None:
    flood = next(snippet for snippet in SNIPPETS if snippet.name == "make threads by bare system calls")
    threads = (
        "import threading\nfor _ in range(8): threading.Thread(target=threading.Event().wait, daemon=True).start()\n8"
    )
    python = PythonInterpreter(timeout_s=20.0, workers=1, keep_variables=keep_variables, namespaces=namespaces)
    try:
        assert int(once(python, flood.code).split()[0]) <= (512 if keep_variables else 64)
        if not python.features["task_limit"].startswith("no threads"):
            tries = 100  # what the flood made is still ending, and counts until then
            while (said := once(python, threads)) != "8" and (tries := tries - 1):
                time.sleep(0.1)
            assert said == "8"
    finally:
        python.close()


@pytest.mark.parametrize(
    ("process_ids", "workers", "keep_variables", "tasks"),
    [
        (32768, 2, False, 64),
        (32768, 2, True, 512),
        (32768, 8, True, 204),  # 1638 // 8
        (3000, 8, False, 18),  # 150 // 8
        (301, 2, False, 16),
    ],
)
def test_all_code_together_may_hold_a_twentieth_of_the_process_ids(
    monkeypatch: pytest.MonkeyPatch, process_ids: int, workers: int, keep_variables: bool, tasks: int
) -> None:
    monkeypatch.setattr("mentor_pl.tools.sandbox.tasks._process_ids", lambda: process_ids)
    assert budget(workers=workers, keep_variables=keep_variables) == tasks


def test_where_the_kernel_counts_no_tasks_code_may_start_no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mentor_pl.tools.sandbox.tasks._can_fork", lambda limit: True)
    assert choose(64, in_own_namespace=True, has_own_user=True).tasks is None
    clone_is_allowed = len(program(threads=True)) - len(program(threads=False))
    assert clone_is_allowed == 5 * 8  # instructions of 8 bytes


def test_tasks_that_others_of_the_user_hold_are_not_counted_as_the_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mentor_pl.tools.sandbox.tasks._can_fork", lambda limit: limit > 100)
    monkeypatch.setattr("mentor_pl.tools.sandbox.tasks._process_ids", lambda: 32768)
    monkeypatch.setattr("mentor_pl.tools.sandbox.tasks._tasks_of", lambda uid: 700)
    monkeypatch.setattr("resource.getrlimit", lambda which: (10_700, 10_700))
    limit = choose(64, in_own_namespace=False, has_own_user=False)
    assert limit.tasks == 700 + 1000  # a tenth of what the user's own limit leaves, less than a twentieth of all
