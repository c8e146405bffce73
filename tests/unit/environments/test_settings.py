"""What a card and a report say of a run's environments, from its config alone."""

from mentor_pl.environments.settings import evaluation_settings, training_settings

TERM = {"name": "correct", "component": {"class_path": "x.Correct"}, "weight": 0.5}
TOOL = {"class_path": "mentor_pl.tools.http.HTTP", "init_args": {"headers": {"key": "secret"}}}


def test_the_short_form() -> None:
    data = {"references": "a.jsonl", "tools": [TOOL], "reward": {"terms": [TERM]}, "evaluation": {"id": "b.jsonl"}}
    [one] = training_settings(data)
    assert (one.source, one.terms, one.tools, one.weight) == ("a.jsonl", {"correct": 0.5}, ("HTTP",), 1.0)
    assert one.name == "a"
    assert evaluation_settings(data)["id"].source == "b.jsonl"


def test_several_environments() -> None:
    shop = {"references": "shop.jsonl", "tools": [TOOL], "reward": None, "name": "shop", "weight": 2}
    train = [{"class_path": "mentor_pl.environments.Environment", "init_args": shop}, {"class_path": "p.BFCL"}]
    data = {"references": None, "train": train, "tools": None, "reward": {"terms": [TERM]}}
    first, second = training_settings(data)
    assert (first.name, first.source, first.weight, first.tools) == ("shop", "shop.jsonl", 2.0, ("HTTP",))
    assert first.terms == {"correct": 0.5}
    assert (second.name, second.source, second.terms, second.tools) == ("BFCL", "BFCL", {}, ())
    assert training_settings({"evaluation": {"b": {"class_path": "p.BFCL"}}}) == []
