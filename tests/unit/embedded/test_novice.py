import random

from mentor_pl.embedded.toolmath import Problem, draw_splits, stepwise_reference
from mentor_pl.embedded.toolmath.novice import MADE_UP, MIXED_UP, Habits, run_tool, solve_badly
from mentor_pl.embedded.toolmath.operations import OPERATIONS
from mentor_pl.messages import ToolCall
from mentor_pl.tools import arithmetic

ALWAYS = dict.fromkeys(OPERATIONS, 1.0)
NEVER = dict.fromkeys(OPERATIONS, 0.0)
PROBLEMS: list[Problem] = draw_splits(num_train=60, num_eval=1)["train"]
FLAWLESS = Habits(
    answers_at_once=0, right_tool=ALWAYS, stops_early=0, stops_halfway=0, wrong_numbers=0, wrong_report=0, tries_again=0
)


def test_a_novice_without_bad_habits_solves_like_the_stepwise_teacher() -> None:
    for problem in PROBLEMS:
        assert solve_badly(problem, random.Random(1), FLAWLESS) == stepwise_reference(problem, "x", "y").messages


def test_made_up_tools_are_refused_as_a_tool_box_refuses_them() -> None:
    habits = Habits(
        answers_at_once=0, right_tool=NEVER, makes_names_up=1, tries_again=0, stops_halfway=0, stops_early=0
    )
    for problem in PROBLEMS:
        messages = solve_badly(problem, random.Random(2), habits)
        called = [call.name for message in messages for call in message.tool_calls]
        assert all(name in MADE_UP[step.tool] for name, step in zip(called, problem.steps, strict=True))
        results = [message.content for message in messages if message.role == "tool"]
        assert all(text.startswith(f"Error: unknown tool {name!r}") for text, name in zip(results, called, strict=True))


def test_wrong_tools_exist_and_made_up_ones_do_not() -> None:
    existing = set(arithmetic.__all__)
    assert set(MADE_UP) == set(MIXED_UP) == existing
    assert not existing & {name for names in MADE_UP.values() for name in names}
    assert all(set(names) <= existing - {right} for right, names in MIXED_UP.items())


def test_a_wrong_tool_gets_the_numbers_under_its_own_argument_names() -> None:
    habits = Habits(
        answers_at_once=0, right_tool=NEVER, makes_names_up=0, usual_mistake=0, wrong_numbers=0, tries_again=0
    )
    texts = [
        message.content
        for seed in range(20)
        for problem in PROBLEMS
        for message in solve_badly(problem, random.Random(seed), habits)
        if message.role == "tool"
    ]
    assert len(texts) > 1000
    assert not any("unexpected keyword" in text or "missing" in text for text in texts)


def test_the_usual_novice_is_mostly_wrong_but_not_always() -> None:
    rng = random.Random(3)
    reports = [(solve_badly(problem, rng, Habits())[-1].content, problem) for problem in PROBLEMS * 20]
    right = sum(text == f"\\boxed{{{problem.answer}}}" for text, problem in reports) / len(reports)
    assert 0.2 < right < 0.5


def test_failed_calls_read_as_the_tool_backend_words_them() -> None:
    assert run_tool(ToolCall(call_id="c", name="divide", arguments={"a": 1, "b": 0})) == (
        "Error: divide: ZeroDivisionError: division by zero",
        None,
    )
    assert run_tool(ToolCall(call_id="c", name="divide", arguments={"a": 1, "b": 4})) == ("0.25", 0.25)
