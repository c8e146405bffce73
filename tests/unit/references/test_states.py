"""Commands on files whose tasks are judged by a state: the one that the teacher's calls lead to, run again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mentor_pl.cli.references import main as references
from mentor_pl.cli.score import main as score
from mentor_pl.errors import RewardError
from mentor_pl.files import read_references

_LAMP = '''
class Lamp:
    """A lamp."""

    def __init__(self, initial_state):
        self.on = bool(initial_state)

    def switch(self, on: bool) -> str:
        """Switch it.

        Args:
            on: Whether it is to shine.
        """
        self.on = on
        return "done"

    def state(self):
        """Tell it."""
        return {"on": self.on}
'''
_TOOL = {"name": "switch", "parameters": {"type": "object", "properties": {"on": {"type": "boolean"}}}}


def _solution(on: bool) -> list[dict[str, object]]:
    call = {"id": "1", "type": "function", "function": {"name": "switch", "arguments": json.dumps({"on": on})}}
    return [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "done"},
        {"role": "assistant", "content": "Done."},
    ]


def _write(path: Path, *rows: dict[str, object]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def tools(tmp_path: Path) -> list[str]:
    (tmp_path / "lamp.py").write_text(_LAMP)
    backend = {"class_path": "PythonFunctions", "init_args": {"module": f"{tmp_path / 'lamp.py'}:Lamp"}}
    return ["--tools", json.dumps([backend])]


def _reference(name: str, **fields: object) -> dict[str, object]:
    user = {"role": "user", "content": f"The lamp {name}, please."}
    return {"id": name, "messages": [user, *_solution(True)], "tools": [_TOOL], **fields}


def test_check_judges_the_state_that_a_solution_leads_to(tmp_path, tools, capsys) -> None:
    rows = [
        _reference("a"),
        _reference("b", expected_state={"on": True}),
        _reference("c", expected_state={"on": False}),
    ]
    path = _write(tmp_path / "r.jsonl", *rows)
    with pytest.raises(SystemExit):
        references(["check", path, "--judge", "StateMatch", *tools])
    printed = capsys.readouterr().out
    assert "StateMatch does not hold: 1" in printed and "line 3" in printed.replace(":3", "line 3")


def test_trajectories_are_judged_by_the_teachers_state(tmp_path, tools, capsys) -> None:
    given = _write(tmp_path / "r.jsonl", _reference("a"))
    attempts = [
        {"reference_id": "a", "sample_index": n, "messages": _solution(on), "finished": True, "final_state": {"on": on}}
        for n, on in enumerate((False, True))
    ]
    files = ["--references", given, "--trajectories", _write(tmp_path / "t.jsonl", *attempts)]
    new = str(tmp_path / "new.jsonl")
    command = ["from-trajectories", *files, "--output", new, "--judge", "StateMatch", "--only_unsolved", "false"]
    references([*command, *tools])
    kept = [r.messages[0].tool_calls[0].arguments for r in read_references(new) if r.teacher == "self"]
    assert kept == [{"on": True}]

    term = {"terms": [{"name": "state", "component": "StateMatch", "weight": 1.0, "success": True}]}
    score(["--program", json.dumps(term), *files, *tools])
    printed = capsys.readouterr().out.splitlines()[-2:]
    assert [json.loads(line)["reward"] for line in printed] == [0.0, 1.0]
    with pytest.raises(RewardError, match="has no expected_state.*--tools of `mentor-pl score`"):
        score(["--program", json.dumps(term), *files])
    with pytest.raises(RewardError, match="has no expected_state.*--tools"):
        references(command)


def test_results_are_compared_as_json_when_calls_are_run_again(tmp_path, capsys) -> None:
    (tmp_path / "oven.py").write_text(
        "class Oven:\n"
        '    """An oven."""\n\n'
        "    def __init__(self, initial_state):\n"
        '        """Make it."""\n\n'
        "    def heat(self, degrees: float) -> dict:\n"
        '        """Heat.\n\n        Args:\n            degrees: Celsius.\n        """\n'
        "        return {'degrees': degrees, 'on': True}\n"
    )
    call = {"id": "1", "type": "function", "function": {"name": "heat", "arguments": '{"degrees": 18}'}}

    def row(name: str, said: str) -> dict[str, object]:
        given = [{"role": "user", "content": f"{name}?"}, {"role": "assistant", "content": "", "tool_calls": [call]}]
        given += [{"role": "tool", "tool_call_id": "1", "content": said}, {"role": "assistant", "content": "Done."}]
        return {"id": name, "messages": given, "tools": [{"name": "heat", "parameters": {"type": "object"}}]}

    rows = [row("a", '{"on":true,"degrees":18}'), row("b", '{"on": true, "degrees": 19}'), row("c", "on")]
    backend = {"class_path": "PythonFunctions", "init_args": {"module": f"{tmp_path / 'oven.py'}:Oven"}}
    with pytest.raises(SystemExit):
        references(["check", _write(tmp_path / "r.jsonl", *rows), "--tools", json.dumps([backend])])
    printed = capsys.readouterr().out
    assert "heat gives another result when run again: 2" in printed and "r.jsonl:1" not in printed.split("run again")[1]


def test_the_same_words_about_another_state_are_another_task(tmp_path, capsys) -> None:
    def row(name: str, state: bool | None, on: bool) -> dict[str, object]:
        given = [{"role": "user", "content": "Switch it."}, *_solution(on)]
        return {"id": name, "messages": given, "tools": [_TOOL], "initial_state": state, "answer": str(on)}

    path = _write(tmp_path / "r.jsonl", row("a", True, False), row("b", False, True))
    for state, code in ((None, None), (False, 1)):
        other = _write(tmp_path / "held_out.jsonl", row("c", state, True))
        command = ["check", path, "--against", json.dumps([other])]
        if code is None:
            references(command)
            assert "2 references of 2 prompts" in capsys.readouterr().out
        else:
            with pytest.raises(SystemExit):
                references(command)
            assert "the prompt is one of the evaluation files' too: 1" in capsys.readouterr().out
