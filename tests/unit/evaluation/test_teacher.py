import dataclasses
from pathlib import Path

import mentor_pl
from mentor_pl.embedded import resolve
from mentor_pl.evaluation.split import SplitMetrics
from mentor_pl.evaluation.teacher import teacher_groups, teacher_trajectory
from mentor_pl.files.references import read_references
from mentor_pl.messages import Message, ToolCall
from mentor_pl.reference import group_by_prompt
from mentor_pl.references.replay import with_expected_state
from mentor_pl.rewards.state_match import StateMatch
from mentor_pl.tools.functions import PythonFunctions
from mentor_pl.tools.toolbox import ToolBox
from mentor_pl.trajectory import StopReason
from tests.unit.evaluation.attempts import reference


def test_the_embedded_teacher_is_always_right_and_like_itself():
    references = read_references(resolve("embedded:eval/combo.jsonl"))[:20]
    groups = teacher_groups(group_by_prompt(references))
    metrics = SplitMetrics([tool.name for tool in references[0].tools])
    metrics.update(groups)
    scores = {name: value.item() for name, value in metrics.compute().items()}
    assert len(groups) == 20
    assert (scores["accuracy"], scores["tool_match"], scores["finished"], scores["unknown_tool_rate"]) == (1, 1, 1, 0)
    assert scores["tool_similarity"] == 1.0


def test_prompts_without_a_solution_are_left_out():
    assert teacher_groups([(reference("add"),)]) == []


SHOP = Path(mentor_pl.__file__).parent / "templates" / "shop"


def test_the_teachers_calls_say_which_state_is_expected_and_reach_it():
    references = read_references(SHOP / "held_out.jsonl")
    toolbox = ToolBox([PythonFunctions(f"{SHOP / 'shop.py'}:Shop")])
    try:
        expecting = [with_expected_state(reference, toolbox) for reference in references]
        groups = teacher_groups([(reference,) for reference in expecting], toolbox)
    finally:
        toolbox.close()
    # One after the other: an item changed, an order cancelled, a shipped order left alone, a user who wants two things.
    states = [
        sorted(order["status"] for order in reference.expected_state["orders"].values()) for reference in expecting
    ]
    kinds = [["open", "open"], ["cancelled", "open"], ["open", "shipped"], ["cancelled", "open"]]
    assert states == kinds * 4
    assert [StateMatch().score_group(group) for group in groups] == [[1.0]] * 16


def test_a_teacher_that_answers_without_a_call_leaves_the_first_state():
    first = {"orders": {"1": {"item": "mug", "status": "open"}}}
    answered = dataclasses.replace(
        reference(""), tool_calls=(), messages=(Message(role="assistant", content="No."),), initial_state=first
    )
    toolbox = ToolBox([PythonFunctions(f"{SHOP / 'shop.py'}:Shop")])
    try:
        assert with_expected_state(answered, toolbox).expected_state == first
        assert with_expected_state(dataclasses.replace(answered, messages=()), toolbox).expected_state is None
    finally:
        toolbox.close()


def test_a_solution_that_ends_with_a_final_tool_hands_its_arguments_in():
    call = ToolCall(call_id="c", name="submit", arguments={"text": "6"})
    solved = dataclasses.replace(reference(""), messages=(Message(role="assistant", tool_calls=(call,)),))
    trajectory = teacher_trajectory(solved, ToolBox([], final_tools=["submit"]))
    assert (trajectory.stop_reason, trajectory.submission) == (StopReason.CALLED, {"text": "6"})
