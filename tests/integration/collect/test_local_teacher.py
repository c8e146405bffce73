import json

import pytest

from mentor_pl.cli.collect import main
from mentor_pl.embedded import path
from mentor_pl.files import read_references
from mentor_pl.references.check import check_references
from mentor_pl.rewards.correct import Correct

pytestmark = pytest.mark.integration

CONFIG = """
teacher:
  class_path: LocalTeacher
  init_args:
    model:
      class_path: FullStudent
      init_args: {path: "embedded:student"}
    temperature: 1.0
    max_completion_tokens: 200
    name: tiny
tools:
  - class_path: PythonFunctions
    init_args: {module: mentor_pl.tools.arithmetic}
sampling: {samples: 4, prefer: shortest}
"""


def test_a_local_model_is_a_teacher_too(tmp_path, capsys):
    config, prompts, output = (tmp_path / name for name in ("c.yaml", "prompts.jsonl", "refs.jsonl"))
    config.write_text(CONFIG)
    problems = read_references(path("eval/id.jsonl"))[:40]
    rows = [{"id": p.reference_id, "prompt": p.prompt[-1].content, "answer": p.answer} for p in problems]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["--config", str(config), "--prompts", str(prompts), "--output", str(output)]
    main(command)
    report = json.loads((tmp_path / "refs.report.json").read_text())
    assert report["prompts"] == 40
    assert report["attempts"] == 160
    assert report["verified"] + sum(report["not_verified"].values()) == 160
    assert report["solved"] > 0  # of 160 attempts of the untrained student some are right
    checked = check_references(output, judges=[Correct()])
    assert checked.faults == {}
    assert checked.references == report["references"]
    first = output.read_bytes()
    journal = (tmp_path / "refs.journal.jsonl").read_bytes()
    main(command)
    assert output.read_bytes() == first
    assert (tmp_path / "refs.journal.jsonl").read_bytes() == journal  # nothing was tried again
