"""The answer lives in the reward process alone: whatever code looks for it, it finds nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import mentor_pl
from mentor_pl.messages import ToolCall
from mentor_pl.tools.interpreter import PythonInterpreter
from mentor_pl.tools.sandbox import kernel

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(kernel.unsupported() is not None, reason=f"this machine cannot confine: {kernel.unsupported()}"),
]

CANARY = "canary-" + "7141"

_SEARCH = """
import gc, os, sys
readable, hits = 0, []
places = GIVEN + [f"/proc/{pid}/{name}" for pid in ("self", os.getppid()) for name in ("environ", "cmdline")]
for top in TOPS:
    for folder, _, files in os.walk(top):
        places += [os.path.join(folder, name) for name in files if len(places) < 5000]
for place in places:
    try:
        with open(place, "rb") as file:
            found = WORD.encode() in file.read(1 << 20)
    except OSError:
        continue
    readable += 1
    hits += [place] if found else []
hits += [name for name, value in os.environ.items() if WORD in value]
for held in gc.get_objects():
    if isinstance(held, dict):
        hits += [str(k) for k, v in list(held.items()) if isinstance(v, str) and WORD in v and k != "WORD"]
print(readable, hits)
"""


def _search(given: list[str], tops: str) -> str:
    # the word in halves, so that the search does not find itself
    return f"GIVEN = {given!r}\nTOPS = {tops}\nWORD = {CANARY[:7]!r} + {CANARY[7:]!r}\n" + _SEARCH


def test_no_answer_is_within_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    references = tmp_path / "references.jsonl"
    references.write_text(f'{{"answer": "{CANARY}"}}')
    references.chmod(0o644)
    monkeypatch.setenv("MENTOR_ANSWER", CANARY)
    package = Path(mentor_pl.__file__).parent
    given = [str(references), *(str(path) for path in package.rglob("*") if path.is_file())]
    assert any("embedded" in path for path in given)
    code = _search(given, "['/', os.getcwd(), '/tmp', os.path.dirname(os.__file__), *sys.path]").replace(
        "TOPS", "import os, sys\nTOPS", 1
    )
    backend = PythonInterpreter(timeout_s=60.0, workers=1)
    with backend.session() as session:
        result = session(ToolCall(call_id="1", name="python", arguments={"code": code}))
        opened = session(
            ToolCall(call_id="2", name="python", arguments={"code": f"for p in {given[1:]!r}:\n    open(p)"})
        )
    backend.close()
    readable, _, hits = result.content.partition(" ")
    assert int(readable) > 50  # the standard library: it did look
    assert hits == "[]"
    # Where the package lies decides which: a folder that is shut, or one that is not there at all.
    assert "PermissionError" in opened.content or "FileNotFoundError" in opened.content


def test_the_search_would_find_it(tmp_path: Path) -> None:
    # the same code, without the sandbox
    references = tmp_path / "references.jsonl"
    references.write_text(CANARY)
    code = _search([str(references)], "[]")
    environment = {**os.environ, "MENTOR_ANSWER": CANARY}
    shown = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True, env=environment
    ).stdout
    assert str(references) in shown
    assert "MENTOR_ANSWER" in shown
