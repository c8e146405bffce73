import pytest

from mentor_pl.errors import ConfigError
from mentor_pl.messages import Message, ToolCall, ToolResult, ToolSpec, ToolStatus
from mentor_pl.reference import Reference
from mentor_pl.rewards.tool_match import MatchMode, ToolMatch
from mentor_pl.testing import check_reward_component, trajectory

MODES: list[MatchMode] = ["exact", "overlap", "f1", "multiset_f1", "order", "calls"]


def calls(names: str) -> tuple[ToolCall, ...]:
    """One letter for each call, so that "aab" is a, a, b."""
    return tuple(ToolCall(call_id=str(index), name=name) for index, name in enumerate(names))


def reference(*teacher: ToolCall) -> Reference:
    tools = tuple(ToolSpec(name=name) for name in "abcd")
    prompt = (Message(role="user", content="?"),)
    return Reference(reference_id="r", prompt=prompt, answer="1", tools=tools, tool_calls=teacher)


@pytest.mark.parametrize("mode", MODES)
def test_it_keeps_the_contract(mode: MatchMode) -> None:
    check_reward_component(ToolMatch(mode))


@pytest.mark.parametrize(
    ("student", "teacher", "exact", "overlap", "f1", "multiset_f1", "order"),
    [
        ("abc", "abc", 1, 1, 1, 1, 1),
        ("cba", "abc", 1, 1, 1, 1, 1 / 3),  # one of three stays in order
        ("aab", "ab", 1, 1, 1, 4 / 5, 4 / 5),
        ("ab", "ac", 0, 1, 1 / 2, 1 / 2, 1 / 2),
        ("abcd", "abc", 0, 1, 6 / 7, 6 / 7, 6 / 7),
        ("abab", "ba", 1, 1, 1, 2 / 3, 2 / 3),
        ("d", "abc", 0, 0, 0, 0, 0),
        ("", "abc", 0, 0, 0, 0, 0),
        ("abc", "", 0, 0, 0, 0, 0),
        ("", "", 1, 1, 1, 1, 1),
        ("axb", "ab", 1, 1, 1, 1, 1),  # x is not offered: `KnownTools` sees to it
        ("x", "", 1, 1, 1, 1, 1),
    ],
)
def test_modes_on_names(
    student: str, teacher: str, exact: float, overlap: float, f1: float, multiset_f1: float, order: float
) -> None:
    attempt, references = trajectory("", *calls(student)), [reference(*calls(teacher))]
    expected = {"exact": exact, "overlap": overlap, "f1": f1, "multiset_f1": multiset_f1, "order": order}
    assert {mode: ToolMatch(mode).score(attempt, references) for mode in expected} == pytest.approx(expected)  # pyright: ignore


def test_calls_agree_where_name_and_all_arguments_do() -> None:
    def call(**arguments: object) -> ToolCall:
        return ToolCall(call_id=str(arguments), name="a", arguments=arguments)

    teacher = [reference(call(x=3, y=[1, {"z": 2}]), call(x=4))]
    match = ToolMatch("calls")
    assert match.score(trajectory("", call(y=[1.0, {"z": 2}], x=3.0), call(x=4)), teacher) == 1.0
    assert match.score(trajectory("", call(x=4), call(x=5)), teacher) == 0.5
    assert match.score(trajectory("", call(x=4)), teacher) == pytest.approx(2 / 3)
    assert match.score(trajectory("", call(x="4")), teacher) == 0.0
    assert match.score(trajectory("", call(x=True)), [reference(call(x=1))]) == 0.0


def test_the_best_of_all_references_counts() -> None:
    attempt = trajectory("", *calls("ab"))
    assert ToolMatch("exact").score(attempt, [reference(*calls("abc")), reference(*calls("ba"))]) == 1.0
    assert ToolMatch("f1").score(attempt, [reference(*calls("cd")), reference(*calls("abc"))]) == pytest.approx(4 / 5)


def test_unknown_tools_can_count_as_further_tools() -> None:
    attempt = trajectory("", *calls("abx"))
    assert ToolMatch("exact", ignore_unknown=False).score(attempt, [reference(*calls("ab"))]) == 0.0
    assert ToolMatch("f1", ignore_unknown=False).score(attempt, [reference(*calls("ab"))]) == pytest.approx(4 / 5)


@pytest.mark.parametrize("status", [ToolStatus.ERROR, ToolStatus.TIMEOUT, ToolStatus.INFRASTRUCTURE])
def test_a_call_that_failed_is_no_use_of_its_tool(status: ToolStatus) -> None:
    a, b = calls("ab")
    results = [ToolResult(call_id="0", content="1"), ToolResult(call_id="1", content="Error", status=status)]
    attempt = trajectory("", a, b, results=results)
    assert ToolMatch("exact").score(attempt, [reference(a)]) == 1.0
    assert ToolMatch("exact").score(attempt, [reference(a, b)]) == 0.0
    assert ToolMatch("exact", count_failed=True).score(attempt, [reference(a, b)]) == 1.0


def test_a_malformed_call_is_no_use_of_its_tool() -> None:
    attempt = trajectory("", ToolCall(call_id="0", name="a", parse_error="not JSON"))
    assert ToolMatch("overlap").score(attempt, [reference(*calls("a"))]) == 0.0
    assert ToolMatch("overlap", count_failed=True).score(attempt, [reference(*calls("a"))]) == 1.0


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ConfigError, match="mode is 'set'; it must be one of exact, overlap, f1"):
        ToolMatch("set")  # pyright: ignore[reportArgumentType]
