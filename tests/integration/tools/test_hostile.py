from __future__ import annotations

import pytest

from benchmarks.tools_hostile import faults, run, stage
from benchmarks.tools_hostile_snippets import SNIPPETS, Snippet
from benchmarks.tools_sigkill import survivors
from mentor_pl.messages import ToolResult
from mentor_pl.tools.sandbox import kernel

pytestmark = pytest.mark.integration
needs_landlock = pytest.mark.skipif(
    kernel.unsupported() is not None, reason=f"this machine cannot confine: {kernel.unsupported()}"
)


@needs_landlock
@pytest.mark.parametrize(("keep_variables", "namespaces"), [(False, True), (True, True), (False, False)])
def test_every_hostile_snippet_once(keep_variables: bool, namespaces: bool) -> None:
    # one round: every snippet once, and a control
    counts = run(len(SNIPPETS) + 1, keep_variables=keep_variables, timeout_s=1.0, workers=2, namespaces=namespaces)
    # How late an answer comes is the machine's load too; the benchmark asks that on an idle one.
    assert [fault for fault in counts["faults"] if not fault.endswith(": came back late")] == []
    assert counts["damage"] == []
    assert counts["leaked_processes"] == 0
    assert counts["calls"] == len(SNIPPETS) + 1 > 40


def test_the_judge_sees_an_escape() -> None:
    snippet = Snippet("read a secret", "")

    def judged(content: str, duration_s: float = 0.0) -> list[str]:
        return faults(snippet, ToolResult(call_id="1", content=content, duration_s=duration_s), "c0ffee", 1.0)

    assert judged("begun\n[no output]") == []
    assert judged("begun\nc0ffee") == ["read a secret: escaped"]
    assert judged("begun\nESCAPED") == ["read a secret: escaped"]
    assert judged("") == ["read a secret: did not run"]
    assert judged("begun", duration_s=2.1) == ["read a secret: came back late"]
    with stage() as built:
        assert built.damage() == []
        (built.folder / "outside" / "f").touch()
        (built.folder / "secret.txt").write_text("x")
        built.victim.kill()
        built.victim.wait()
        assert built.damage() == ["the secret file was changed", "something was written outside", "the victim is dead"]


@needs_landlock
def test_nothing_survives_a_killed_trainer() -> None:
    assert survivors(times=3, patience_s=20.0) == []
