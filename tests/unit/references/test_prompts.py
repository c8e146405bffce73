import json
from contextlib import closing

import pytest

from mentor_pl.errors import DataFileError
from mentor_pl.messages import Message
from mentor_pl.references.prompts import read_prompts
from mentor_pl.tools.functions import PythonFunctions
from mentor_pl.tools.toolbox import ToolBox


@pytest.fixture(scope="module")
def toolbox():
    with closing(ToolBox([PythonFunctions("mentor_pl.tools.arithmetic", functions=["add", "divide"])])) as box:
        yield box


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_prompt_is_a_reference_without_the_teachers_part(tmp_path, toolbox):
    solved = {
        "id": "a",
        "messages": [
            {"role": "user", "content": "1 + 2?"},
            {"role": "assistant", "tool_calls": [{"name": "add", "arguments": {"a": 1, "b": 2}}]},
            {"role": "tool", "content": "3"},
        ],
        "answer": ["3", "three"],
        "tools": ["add"],
        "teacher": "someone",
        "level": 2,
    }
    first, second = read_prompts(
        write(tmp_path / "p.jsonl", solved, {"prompt": "?", "answer": 1, "tools": None}), toolbox
    )
    assert first.prompt == (Message(role="user", content="1 + 2?"),)
    assert (first.messages, first.tool_calls, first.teacher) == ((), (), None)
    assert (first.answers, first.fields) == (("3", "three"), {"level": 2})
    assert [tool.name for tool in first.tools] == ["add"]
    assert "b" in first.tools[0].parameters["properties"]
    assert (second.reference_id, [tool.name for tool in second.tools]) == ("p-2", ["add", "divide"])


def test_an_answer_is_asked_for_where_one_is_needed(tmp_path, toolbox):
    path = write(tmp_path / "p.jsonl", {"prompt": "Cancel my order.", "expected_state": {"orders": []}})
    with pytest.raises(DataFileError, match="p.jsonl:1: field 'answer': expected"):
        list(read_prompts(path, toolbox))
    (prompt,) = read_prompts(path, toolbox, answers_needed=False)
    assert (prompt.answer, prompt.expected_state) == ("", {"orders": []})


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([{"prompt": "?", "answer": 1, "tools": ["fly"]}], 'expected some of add, divide, found str "fly"'),
        ([{"id": "a", "prompt": "?", "answer": 1}] * 2, "field 'id': expected each id once"),
        ([{"prompt": "?", "answer": "  "}], "expected the right answer"),
    ],
)
def test_a_prompt_that_cannot_be_tried_is_named_before_anything_is_paid(tmp_path, toolbox, rows, problem):
    with pytest.raises(DataFileError, match=problem):
        list(read_prompts(write(tmp_path / "p.jsonl", *rows), toolbox))
