from mentor_pl.embedded import resolve
from mentor_pl.evaluation.metrics import TaskMetrics
from mentor_pl.evaluation.teacher import teacher_groups
from mentor_pl.files.references import read_references
from mentor_pl.reference import group_by_prompt
from tests.unit.evaluation.attempts import reference


def test_the_embedded_teacher_is_always_right_and_like_itself():
    references = read_references(resolve("embedded:eval/combo.jsonl"))[:20]
    groups = teacher_groups(group_by_prompt(references))
    metrics = TaskMetrics([tool.name for tool in references[0].tools])
    metrics.update(groups)
    scores = {name: value.item() for name, value in metrics.compute().items()}
    assert len(groups) == 20
    assert (scores["accuracy"], scores["tool_match"], scores["finished"], scores["unknown_tool_rate"]) == (1, 1, 1, 0)
    assert scores["tool_similarity"] == 1.0


def test_prompts_without_a_solution_are_left_out():
    assert teacher_groups([(reference("add"),)]) == []
