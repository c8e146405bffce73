import json

import pytest

from mentor_pl.files import read_references, write_references
from mentor_pl.references.converters.expression import Calculation, CannotConvertError
from mentor_pl.references.converters.gsm8k import INSTRUCTION, convert_problem, gsm8k
from mentor_pl.references.converters.outcome import Rejected
from mentor_pl.references.replay import find_fault
from mentor_pl.rewards.correct import Correct
from mentor_pl.tools.functions import PythonFunctions
from mentor_pl.tools.toolbox import ToolBox

QUESTION = "Ann bakes 12 rolls a day and keeps 3. The rest cost $0.50 each. What does she earn in 2 days?"
SOLUTION = (
    "She sells 12 - 3 = <<12-3=9>>9 rolls a day.\n"
    "That is 9 * $0.50 * 2 = $<<9*0.50*2=9>>9 in two days, and <<9=9>>9 it stays.\n"
    "#### 9"
)


def steps(text):
    calculation = Calculation()
    value = calculation.run(text)
    return value, [(step.name, step.arguments, step.result) for step in calculation.steps]


@pytest.mark.parametrize(
    ("text", "value", "calls"),
    [
        ("48/2", 24, [("divide", {"a": 48, "b": 2}, 24)]),
        ("1+2+3", 6, [("sum_numbers", {"numbers": [1, 2, 3]}, 6)]),
        ("2*(3+4)", 14, [("add", {"a": 3, "b": 4}, 7), ("multiply", {"a": 2, "b": 7}, 14)]),
        ("10-3-4", 3, [("subtract", {"a": 10, "b": 3}, 7), ("subtract", {"a": 7, "b": 4}, 3)]),
        ("7//2", 3, [("divide", {"a": 7, "b": 2}, 3.5), ("floor", {"x": 3.5}, 3)]),
        ("-5+2**3", 3, [("power", {"base": 2, "exponent": 3}, 8), ("add", {"a": -5, "b": 8}, 3)]),
        ("1.80", 1.8, []),
    ],
)
def test_a_written_calculation_becomes_executed_calls(text, value, calls):
    assert steps(text) == (value, calls)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1/0", "divide fails"),
        ("x+1", "the calculation is not understood"),
        ("1+", "the calculation is not understood"),
        ("__import__('os')", "the calculation is not understood"),
        ("True+1", "the calculation is not understood"),
        ("9**9**9", "power fails"),
    ],
)
def test_what_is_no_calculation_is_refused(text, reason):
    with pytest.raises(CannotConvertError, match=reason):
        Calculation().run(text)


def test_a_problem_becomes_a_conversation_of_one_call_a_turn():
    reference = convert_problem(QUESTION, SOLUTION, "g-1")
    assert reference.prompt[0].content == QUESTION + INSTRUCTION
    assert reference.answer == "9"
    assert [(c.name, dict(c.arguments)) for c in reference.tool_calls] == [
        ("subtract", {"a": 12, "b": 3}),
        ("multiply", {"a": 9, "b": 0.5}),
        ("multiply", {"a": 4.5, "b": 2}),
    ]
    assert [(m.role, m.content) for m in reference.messages] == [
        ("assistant", "She sells 12 - 3"),
        ("tool", "9"),
        ("assistant", "That is 9 * $0.50 * 2"),
        ("tool", "4.5"),
        ("assistant", ""),
        ("tool", "9"),
        ("assistant", "The answer is \\boxed{9}."),
    ]
    assert len(reference.tools) == 12


@pytest.mark.parametrize(
    ("solution", "reason"),
    [
        ("<<1+1=3>>3\n#### 3", "a calculation does not give its stated result"),
        ("<<5=6>>6\n#### 6", "a calculation does not give its stated result"),
        ("<<1+1=2>>2 and 1 more\n#### 3", "the final answer is no result of a calculation"),
        ("Two.\n#### 2", "there is no calculation"),
        ("<<2=2>>\n#### 2", "there is no calculation"),
        ("<<1+1>>2\n#### 2", "a calculation states no result"),
        ("<<1+1=2>>2", "there is no final answer"),
        ("<<1+1=2>>2\n#### two", "a result is not a number"),
    ],
)
def test_what_does_not_hold_is_rejected(solution, reason):
    with pytest.raises(CannotConvertError, match=reason):
        convert_problem("?", solution, "g-1")


def test_a_file_is_converted_line_by_line_and_every_reference_replays(tmp_path):
    path = tmp_path / "train.jsonl"
    rows = [{"question": QUESTION, "answer": SOLUTION}, {"question": "?", "answer": "Two.\n#### 2"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    first, second = gsm8k(path)
    assert second == Rejected(where=f"{path}:2", reason="there is no calculation")
    assert not isinstance(first, Rejected)
    assert first.reference_id == "gsm8k-train-1"
    write_references(tmp_path / "refs.jsonl", [first])
    (read,) = read_references(tmp_path / "refs.jsonl")
    assert read == first
    toolbox = ToolBox([PythonFunctions("mentor_pl.tools.arithmetic")])
    try:
        assert find_fault(read, judges=[Correct()], toolbox=toolbox) is None
    finally:
        toolbox.close()
