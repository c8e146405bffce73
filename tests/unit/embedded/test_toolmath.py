import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from mentor_pl import embedded
from mentor_pl.embedded.toolmath import Problem, Style, draw_problem, draw_splits
from mentor_pl.embedded.toolmath.operations import OPERATIONS, SMALL, WITH_SHORTCUT, carry_out, draw_operands
from mentor_pl.embedded.toolmath.splits import EVALUATION_SPLITS, HELD_OUT_PAIRS
from mentor_pl.embedded.toolmath.teachers import parallel_reference, stepwise_reference
from mentor_pl.embedded.toolmath.wording import SENTENCES
from mentor_pl.files import read_references
from mentor_pl.tools import arithmetic

SPLITS = draw_splits()


def pairs_of(problem: Problem) -> list[tuple[str, str]]:
    return list(zip(problem.operations, problem.operations[1:], strict=False))


@pytest.mark.parametrize(
    ("operation", "value", "operands", "calls"),
    [
        ("add", 3, (4,), [("add", {"a": 3, "b": 4}, 7)]),
        ("groups_needed", 22, (4,), [("divide", {"a": 22, "b": 4}, 5.5), ("ceil", {"x": 5.5}, 6)]),
        ("full_groups", 22, (4,), [("divide", {"a": 22, "b": 4}, 5.5), ("floor", {"x": 5.5}, 5)]),
        (
            "rounded_share",
            7,
            (4,),
            [("divide", {"a": 7, "b": 4}, 1.75), ("round_number", {"x": 1.75, "decimals": 0}, 2)],
        ),
        ("gap", 9, (19,), [("subtract", {"a": 9, "b": 19}, -10), ("abs_value", {"x": -10}, 10)]),
        ("sum", 1, (2, 3, 4), [("sum_numbers", {"numbers": [1, 2, 3, 4]}, 10)]),
        ("square", 6, (), [("power", {"base": 6, "exponent": 2}, 36)]),
    ],
)
def test_operations_carried_out_by_hand(operation: str, value: int, operands: tuple[int, ...], calls: list) -> None:
    assert [(step.tool, step.arguments, step.result) for step in carry_out(operation, value, operands)] == calls


@pytest.mark.parametrize(
    ("operation", "value", "shortcut", "possible"),
    [
        ("remainder", 17, True, {9, 10, 11, 12, 13, 14, 15, 16, 17}),  # 17 - b is the remainder as long as 17 < 2 b
        ("remainder", 7, False, {2, 3}),
        ("full_groups", 20, True, {2, 4, 5}),
        ("groups_needed", 20, False, {8}),
        ("rounded_share", 10, False, {8}),  # 10 / 4 = 2.5 has two nearest whole numbers
        ("gap", 4, True, {1, 2, 3}),
        ("divide", 12, None, {2, 3, 4, 6}),
        ("divide", 13, None, set()),
        ("subtract", 4, None, {2, 3}),
        ("side", 50, None, set()),
    ],
)
def test_numbers_that_fit(operation: str, value: int, shortcut: bool | None, possible: set[int]) -> None:
    rng = random.Random(0)
    drawn = [draw_operands(rng, operation, value, SMALL, shortcut) for _ in range(300)]
    assert {number for operands in drawn if operands is not None for number in operands} == possible
    assert (None in drawn) == (not possible)


def test_every_problem_replays_to_its_answer() -> None:
    for problems in SPLITS.values():
        for problem in problems:
            value = problem.start
            for step in problem.steps:
                given = step.arguments.get("numbers", [None])[0]
                assert value in (given, *(step.arguments.get(key) for key in ("a", "x", "base")))
                value = getattr(arithmetic, step.tool)(**step.arguments)
                assert value == step.result
            assert value == problem.answer >= 0


def test_no_question_stands_in_two_splits() -> None:
    questions = Counter(problem.question for problems in SPLITS.values() for problem in problems)
    assert len(questions) == 256 + 6 * 200


def test_held_out_pairs_stand_in_combo_and_nowhere_else() -> None:
    assert len(HELD_OUT_PAIRS) == 33  # a quarter of 12 * 11
    for split, problems in SPLITS.items():
        pairs = [pair for problem in problems for pair in pairs_of(problem)]
        assert {pair in HELD_OUT_PAIRS for pair in pairs} == {split == "combo"}
        assert all(first != second for first, second in pairs)


def test_each_split_leaves_the_domain_in_its_own_way() -> None:
    assert {len(problem.parts) for problem in SPLITS["train"]} == {1, 2}
    assert {len(problem.parts) for problem in SPLITS["long"]} == {3}
    assert {len(problem.parts) for problem in SPLITS["combo"]} == {2}
    usual = {sentence.partition("{")[0] for wordings in SENTENCES.values() for sentence in wordings[:2]} - {""}
    assert not any(words in problem.question for problem in SPLITS["phrase"] for words in usual)
    assert min(problem.start for problem in SPLITS["large"]) >= 11 > 2 == min(problem.start for problem in SPLITS["id"])
    assert all(set(problem.operations) & WITH_SHORTCUT for problem in SPLITS["shift"])
    for problem in SPLITS["shift"]:
        for part in problem.parts:
            if part.operation in WITH_SHORTCUT - {"remainder"}:
                assert part.steps[0].result != part.steps[-1].result  # leaving the second call out is wrong


def test_shortcuts_work_in_most_training_problems() -> None:
    parts = [part for problem in SPLITS["train"] for part in problem.parts if len(part.steps) == 2]
    works = sum(part.steps[0].result == part.steps[1].result for part in parts) / len(parts)
    assert 0.75 < works < 0.95


def test_training_prompts_use_every_operation_and_every_tool() -> None:
    assert {name for problem in SPLITS["train"] for name in problem.operations} == set(OPERATIONS)
    assert {step.tool for problem in SPLITS["train"] for step in problem.steps} == set(arithmetic.__all__)


def test_a_style_that_excludes_itself_is_an_error_not_a_hang() -> None:
    with pytest.raises(RuntimeError, match="loosen the style"):
        draw_problem(random.Random(0), Style(lengths=(2,), only_pairs=frozenset()))


def find_problem() -> Problem:
    return next(problem for problem in SPLITS["shift"] if problem.operations == ("groups_needed",))


def test_parallel_teacher_calls_everything_at_once() -> None:
    problem = find_problem()
    reference = parallel_reference(problem, "x-1", "shift")
    assert [message.role for message in reference.messages] == ["assistant", "tool", "tool", "assistant"]
    assert [call.name for call in reference.messages[0].tool_calls] == ["divide", "ceil"]
    assert [message.tool_call_id for message in reference.messages] == [None, "call_0", "call_1", None]
    assert reference.messages[-1].content == f"\\boxed{{{problem.answer}}}"
    assert (reference.answer, reference.teacher, reference.domain) == (str(problem.answer), "oracle-parallel", "shift")
    assert [tool.name for tool in reference.tools] == arithmetic.__all__


def test_stepwise_teacher_reads_each_result_first() -> None:
    problem = find_problem()
    reference = stepwise_reference(problem, "x-1", "shift")
    assert [message.role for message in reference.messages] == ["assistant", "tool", "assistant", "tool", "assistant"]
    assert [call.arguments for call in reference.tool_calls] == [step.arguments for step in problem.steps]
    assert reference.messages[1].content == str(problem.steps[0].result)
    assert reference.tool_calls == parallel_reference(problem, "x-1", "shift").tool_calls


def test_shipped_files_are_what_the_script_writes(load_script: Callable[[str], ModuleType], tmp_path: Path) -> None:
    load_script("make_embedded_data").make_files(tmp_path)
    written = sorted(file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*.jsonl"))
    assert written == [
        *(f"eval/{name}.jsonl" for name in sorted(EVALUATION_SPLITS)),
        "train.parallel.jsonl",
        "train.stepwise.jsonl",
    ]
    for name in written:
        assert (tmp_path / name).read_bytes() == embedded.path(name).read_bytes(), name


def test_shipped_references_read_back_as_drawn() -> None:
    references = read_references(embedded.path("eval/combo.jsonl"))
    problems = SPLITS["combo"]
    drawn = [parallel_reference(problem, f"combo-{i:03d}-parallel", "combo") for i, problem in enumerate(problems)]
    assert references == drawn
