from mentor_pl.evaluation.columns import columns, headline, shown

EMBEDDED = {
    "success": 0.5, "accuracy": 0.5, "reward": 0.7, "score/correct": 0.5, "score/tool_match": 0.25,
    "score/known_tools": 1.0, "tool_match": 0.25, "tool_similarity": 0.9, "unknown_tool_rate": 0.0,
    "calls_per_task": 2.0, "finished": 1.0, "completion_tokens": 80.0, "infrastructure": 0.0,
}  # fmt: skip


def test_the_embedded_task_has_its_five_columns():
    assert columns({"id": EMBEDDED}) == {
        "accuracy": "accuracy",
        "tool_match": "tool match",
        "tool_similarity": "similarity",
        "unknown_tool_rate": "unknown",
        "calls_per_task": "calls",
    }


def test_a_task_without_answers_shows_success_its_terms_and_no_accuracy():
    shop = {
        "success": 0.25,
        "reward": 0.3,
        "score/state": 0.25,
        "score/tool_match": 0.5,
        "tool_match": 0.1,
        "own/a": 7.0,
    }
    assert list(columns({"held_out": shop})) == ["success", "score/state", "score/tool_match", "tool_match", "own/a"]


def test_the_term_that_says_success_has_no_column_of_its_own():
    shop = {"success": 0.25, "reward": 0.3, "score/state": 0.25, "score/tool_match": 0.25}
    answers = {"success": 0.5, "accuracy": 0.5, "reward": 0.5, "score/answer": 0.5, "score/state": 0.1}
    assert list(columns({"shop": shop}, success_terms={"shop": "state"})) == ["success", "score/tool_match"]
    assert list(columns({"qa": answers}, success_terms={"qa": "answer"})) == ["accuracy", "score/state"]
    both = {
        "shop": "state",
        "qa": "answer",
    }  # the state says success of the one, and is a term like others of the other
    assert list(columns({"shop": shop, "qa": answers}, success_terms=both)) == [
        "success",
        "score/state",
        "score/tool_match",
    ]
    assert list(columns({"shop": shop}, success_terms={"qa": "state"})) == [
        "success",
        "score/state",
        "score/tool_match",
    ]


def test_a_term_that_is_called_like_another_column_is_told_apart():
    row = {"success": 0.5, "score/calls": 0.4, "score/tool_match": 0.3, "tool_match": 0.1, "calls_per_task": 2.0}
    assert columns({"held_out": row}) == {
        "success": "success",
        "score/calls": "score/calls",
        "score/tool_match": "score/tool_match",
        "tool_match": "tool_match",
        "calls_per_task": "calls_per_task",
    }


def test_splits_of_two_kinds_are_compared_by_what_both_have():
    assert headline([EMBEDDED, {"success": 0.5}, {"finished": 1.0}]) == "success"
    assert headline([EMBEDDED, EMBEDDED]) == "accuracy"
    assert list(columns({"a": {"reward": 0.5, "finished": 1.0}})) == ["reward"]


def test_several_samples_come_behind_and_intervals_stand_beside():
    row = {**EMBEDDED, "mean@2": 0.5, "mean@2/interval": 0.123, "pass@2": 0.7, "pass^2": 0.25}
    assert list(columns({"id": row}))[:4] == ["accuracy", "mean@2", "pass@2", "pass^2"]
    assert (shown(row, "mean@2"), shown(row, "pass@2"), shown(row, "calls_per_task")) == ("0.50 ± 0.12", "0.70", "2.0")
    assert shown({}, "pass@2") == "–"


def test_what_broke_is_shown_where_something_did():
    assert "infrastructure" in columns({"id": {**EMBEDDED, "infrastructure": 0.1}})
