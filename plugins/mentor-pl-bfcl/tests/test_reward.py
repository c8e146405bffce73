from __future__ import annotations

import pytest

from mentor_pl.errors import RewardError
from mentor_pl.messages import Message, ToolCall
from mentor_pl.reference import Reference
from mentor_pl.references.converters import bfcl
from mentor_pl.testing import check_reward_component, trajectory

pytest.importorskip("bfcl_eval")

from mentor_pl_bfcl.cases import cases_of  # noqa: E402
from mentor_pl_bfcl.package import data_folder  # noqa: E402
from mentor_pl_bfcl.reward import BFCLCorrect  # noqa: E402


def reference(case_id: str) -> Reference:
    return Reference(reference_id=case_id, prompt=(Message(role="user", content="?"),), answer="", tools=())


def test_it_keeps_the_contract() -> None:
    check_reward_component(BFCLCorrect(unknown=0.0))


def test_a_case_of_its_own() -> None:
    case = cases_of("simple_python")["simple_python_0"]
    ((name, accepted),) = case.truth[0].items()
    arguments = {key: values[0] for key, values in accepted.items() if "" not in values}
    right = ToolCall(call_id="a", name=name, arguments=arguments)
    known = [reference("simple_python_0")]
    assert BFCLCorrect().score(trajectory("", right), known) == 1.0
    assert BFCLCorrect().score(trajectory("", ToolCall(call_id="a", name="other", arguments=arguments)), known) == 0.0
    assert BFCLCorrect().score(trajectory("done"), known) == 0.0


@pytest.mark.parametrize("category", ["multiple", "parallel", "parallel_multiple", "live_simple"])
def test_converted_references_are_right_by_the_checker(category: str) -> None:
    converted = [r for r in bfcl(data_folder() / f"BFCL_v4_{category}.json") if isinstance(r, Reference)]
    assert len(converted) >= 198
    score = BFCLCorrect().score
    assert [r.reference_id for r in converted if score(trajectory("done", *r.tool_calls), [r]) != 1.0] == []


def test_where_nothing_fits_nothing_is_called() -> None:
    call = ToolCall(call_id="a", name="anything")
    assert BFCLCorrect().score(trajectory("I cannot."), [reference("irrelevance_0")]) == 1.0
    assert BFCLCorrect().score(trajectory("", call), [reference("irrelevance_0")]) == 0.0
    assert BFCLCorrect().score(trajectory("", call), [reference("live_relevance_0-0-0")]) == 1.0


def test_other_references_are_named() -> None:
    with pytest.raises(RewardError, match="'gsm-1' is no case of bfcl-eval"):
        BFCLCorrect().score(trajectory("x"), [reference("gsm-1")])
