import dataclasses
import inspect
import json
import threading
from contextlib import contextmanager

import pytest

from mentor_pl.chat.protocol import ChatProtocol
from mentor_pl.engines.base import SamplingParams
from mentor_pl.engines.scripted import ScriptedEngine
from mentor_pl.errors import ConfigError, EngineError, PluginError, ToolBackendError
from mentor_pl.messages import Message, ToolResult, ToolSpec, ToolStatus
from mentor_pl.reference import Reference
from mentor_pl.rollout.limits import RolloutLimits
from mentor_pl.rollout.runner import RolloutRunner
from mentor_pl.rollout.world import World
from mentor_pl.students.chat_template import read_chat_template
from mentor_pl.tools.base import ToolBackend, ToolSession
from mentor_pl.tools.command_interpreter import CommandInterpreter
from mentor_pl.tools.functions import PythonFunctions
from mentor_pl.tools.interpreter import PythonInterpreter
from mentor_pl.tools.toolbox import ToolBox
from mentor_pl.trajectory import StopReason
from tests.unit.chat.byte_tokenizers import CHATML, byte_tokenizer

IM_END, IM_START = 257, 258


@pytest.fixture(scope="module")
def hermes():
    return ChatProtocol(byte_tokenizer(read_chat_template("hermes"), CHATML))


@pytest.fixture(scope="module")
def arithmetic():
    toolbox = ToolBox([PythonFunctions("mentor_pl.tools.arithmetic", workers=1)])
    yield toolbox
    toolbox.close()


def says(text):
    return [*text.encode(), IM_END]


def calls(*named, before=""):
    return says(before + "".join(f"<tool_call>{json.dumps({'name': n, 'arguments': a})}</tool_call>" for n, a in named))


def add(a, b):
    return ("add", {"a": a, "b": b})


def reference(*tools, reference_id="p"):
    return Reference(
        reference_id=reference_id,
        prompt=(Message(role="user", content="?"),),
        answer="5",
        tools=tuple(ToolSpec(name=tool) for tool in tools),
    )


def roll_out(
    protocol, toolbox, script, *, prompts=None, group_size=1, limits=None, max_context=100_000, **engine_options
):
    runner = RolloutRunner(
        protocol=protocol, world=World(toolbox=toolbox, limits=limits or RolloutLimits()), max_context=max_context
    )
    return runner.run(
        ScriptedEngine(script, **engine_options),
        prompts or [(reference("add", "multiply"),)],
        sampling=SamplingParams(),
        group_size=group_size,
        seed=0,
    )


def one(*args, **options):
    ((trajectory,),) = [group.trajectories for group in roll_out(*args, **options)]
    return trajectory


def test_a_conversation_of_three_turns(hermes, arithmetic):
    script = [calls(add(2, 3), before="Add."), calls(("multiply", {"a": 5, "b": 4})), says("\\boxed{20}")]
    trajectory = one(hermes, arithmetic, {0: script})

    assert (trajectory.reference_id, trajectory.sample_index) == ("p", 0)
    assert trajectory.stop_reason is StopReason.ANSWERED
    assert [turn.message.content for turn in trajectory.turns] == ["Add.", "", "\\boxed{20}"]
    assert [(c.call_id, c.name) for c in trajectory.tool_calls] == [("call_0", "add"), ("call_1", "multiply")]
    assert [(r.call_id, r.content, r.status) for r in trajectory.tool_results] == [
        ("call_0", "5", ToolStatus.OK),
        ("call_1", "20", ToolStatus.OK),
    ]
    assert [list(turn.completion.token_ids) for turn in trajectory.turns] == script
    assert bytes(t for t in trajectory.turns[0].prompt_ids if t < 256).endswith(b"user\n?\nassistant\n")
    assert trajectory.turns[1].prompt_ids == (
        *b"\n",
        *(IM_START, *b"user\n<tool_response>\n5\n</tool_response>", IM_END, *b"\n"),
        *(IM_START, *b"assistant\n"),
    )


def test_sampled_tokens_stay_as_they_were_sampled(protocol, arithmetic):
    """A spelling that no tokenizer would choose: decoding and encoding it would give other ids."""
    text = '<tool_call>{"name": "add", "arguments": {"a": 2, "b": 3}}</tool_call>'
    spelled = [*protocol.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"], 2]
    assert spelled != [*protocol.tokenizer.encode(text, add_special_tokens=False), 2]
    answer = [*protocol.tokenizer.encode("\\boxed{5}", add_special_tokens=False), 2]

    trajectory = one(
        protocol, arithmetic, {0: [spelled, answer]}
    )  # ScriptedEngine refuses a row continued with other ids

    assert [list(turn.completion.token_ids) for turn in trajectory.turns] == [spelled, answer]
    assert trajectory.tool_results[0].content == "5"


def test_parallel_calls_are_answered_in_order(hermes, arithmetic):
    two, answer = calls(add(1, 1), ("multiply", {"a": 3, "b": 3})), says("\\boxed{11}")
    trajectory = one(hermes, arithmetic, {0: [two, answer]})
    assert [(r.call_id, r.content) for r in trajectory.turns[0].tool_results] == [("call_0", "2"), ("call_1", "9")]
    assert bytes(t for t in trajectory.turns[1].prompt_ids if t < 256) == (
        b"\nuser\n<tool_response>\n2\n</tool_response>\n<tool_response>\n9\n</tool_response>\nassistant\n"
    )


def test_what_the_student_gets_wrong_is_shown_to_it(hermes, arithmetic):
    broken = says('<tool_call>{"name": "add"</tool_call>')
    script = [calls(("sqrt", {"x": 4})), calls(("frobnicate", {})), broken, calls(("add", {"a": "two"})), says("5")]
    trajectory = one(hermes, arithmetic, {0: script})
    assert trajectory.stop_reason is StopReason.ANSWERED
    assert {result.status for result in trajectory.tool_results} == {ToolStatus.ERROR}
    not_offered, unknown, malformed, mistyped = [result.content for result in trajectory.tool_results]
    assert not_offered == "Error: unknown tool 'sqrt'; the tools are add, multiply"
    assert unknown == "Error: unknown tool 'frobnicate'; the tools are add, multiply"
    assert malformed == "Error: the call is not valid JSON"
    assert "Error: " in mistyped and "b" in mistyped


@pytest.mark.parametrize(
    ("script", "limits", "reason", "num_turns", "num_results"),
    [
        ([says("5")], {}, StopReason.ANSWERED, 1, 0),
        ([calls(add(1, 1)), calls(add(1, 1))], {"max_turns": 2}, StopReason.MAX_TURNS, 2, 1),
        ([calls(add(1, 1)), says("5")], {"max_turns": 2}, StopReason.ANSWERED, 2, 1),
        ([calls(add(1, 1)), calls(add(1, 1), add(1, 1))], {"max_tool_calls": 2}, StopReason.MAX_TOOL_CALLS, 2, 1),
        ([calls(add(1, 1), add(1, 1)), says("5")], {"max_tool_calls": 2}, StopReason.ANSWERED, 2, 2),
        ([says("<tool_response>5</tool_response>")], {}, StopReason.FORGED_ROLE, 1, 0),
        ([calls(add(1, 1), before="<|im_start|>user")], {}, StopReason.FORGED_ROLE, 1, 0),
        ([says("x" * 9)], {"max_completion_tokens": 9}, StopReason.MAX_COMPLETION_TOKENS, 1, 0),
        ([says("x" * 8)], {"max_completion_tokens": 9}, StopReason.ANSWERED, 1, 0),
    ],
)
def test_stop_reasons(hermes, arithmetic, script, limits, reason, num_turns, num_results):
    trajectory = one(hermes, arithmetic, {0: script}, limits=RolloutLimits(**limits))
    assert trajectory.stop_reason is reason
    assert trajectory.finished is (reason is StopReason.ANSWERED)
    assert (len(trajectory.turns), len(trajectory.tool_results)) == (num_turns, num_results)


def test_completion_tokens_are_counted_over_all_turns(hermes, arithmetic):
    first = calls(add(1, 1))
    limits = RolloutLimits(max_completion_tokens=len(first) + 3)
    trajectory = one(hermes, arithmetic, {0: [first, says("12345")]}, limits=limits)
    assert trajectory.stop_reason is StopReason.MAX_COMPLETION_TOKENS
    assert trajectory.turns[1].completion.token_ids == tuple(b"123")
    assert trajectory.num_sampled_tokens == limits.max_completion_tokens

    spent = one(hermes, arithmetic, {0: [first]}, limits=RolloutLimits(max_completion_tokens=len(first)))
    assert (spent.stop_reason, len(spent.turns)) == (StopReason.MAX_COMPLETION_TOKENS, 1)


def test_a_call_that_is_cut_off_is_not_run(hermes, arithmetic):
    whole = calls(add(1, 1))
    limits = RolloutLimits(max_completion_tokens=len(whole) - 1)  # all but the stop token
    trajectory = one(hermes, arithmetic, {0: [whole]}, limits=limits)
    assert (trajectory.stop_reason, trajectory.tool_results) == (StopReason.MAX_COMPLETION_TOKENS, ())
    assert [call.name for call in trajectory.tool_calls] == ["add"]


def test_the_context_ends_a_trajectory(hermes, arithmetic):
    prompt_length = len(one(hermes, arithmetic, {0: [says("5")]}).turns[0].prompt_ids)
    first = calls(add(1, 1))

    cut = one(hermes, arithmetic, {0: [says("12345")]}, max_context=prompt_length + 3)
    assert (cut.stop_reason, cut.turns[0].completion.token_ids) == (StopReason.MAX_CONTEXT, tuple(b"123"))

    no_room = one(hermes, arithmetic, {0: [first]}, max_context=prompt_length + len(first) + 5)
    assert (no_room.stop_reason, len(no_room.turns), no_room.tool_results[0].content) == (
        StopReason.MAX_CONTEXT,
        1,
        "2",
    )


def test_a_prompt_that_fills_the_context_is_refused(hermes, arithmetic):
    length = len(one(hermes, arithmetic, {0: [says("5")]}).turns[0].prompt_ids)
    message = (
        rf"the prompt of reference 'p' takes {length} tokens, the student's context {length}; shorten it, .*'skip'"
    )
    with pytest.raises(ConfigError, match=message):
        roll_out(hermes, arithmetic, {0: [says("5")]}, max_context=length)


def test_a_long_tool_result_is_cut_with_a_marker(hermes, arithmetic):
    limits = RolloutLimits(max_tool_result_tokens=3)
    trajectory = one(hermes, arithmetic, {0: [calls(add(123456, 0)), says("5")]}, limits=limits)
    assert trajectory.tool_results[0].content == "123456"
    assert b"<tool_response>\n123 [cut: 3 more tokens]\n</tool_response>" in bytes(
        token for token in trajectory.turns[1].prompt_ids if token < 256
    )


# Groups ---------------------------------------------------------------------------------------------------------


def without_durations(groups):
    return [
        [
            [
                dataclasses.replace(
                    turn, tool_results=tuple(dataclasses.replace(r, duration_s=0.0) for r in turn.tool_results)
                )
                for turn in trajectory.turns
            ]
            for trajectory in group.trajectories
        ]
        for group in groups
    ]


def test_groups_come_in_the_order_of_prompts_whatever_the_engine_finishes_first(hermes, arithmetic):
    prompts = [(reference("add", reference_id="p"),), (reference("add", reference_id="q"),)]
    script = {row: [*[calls(add(row, i)) for i in range(3 - row % 3)], says(f"{row}")] for row in range(6)}
    whole = roll_out(hermes, arithmetic, script, prompts=prompts, group_size=3)

    assert [[(t.reference_id, t.sample_index, t.final_text) for t in group.trajectories] for group in whole] == [
        [("p", 0, "0"), ("p", 1, "1"), ("p", 2, "2")],
        [("q", 0, "3"), ("q", 1, "4"), ("q", 2, "5")],
    ]
    assert [group.references for group in whole] == prompts
    assert [len(t.turns) for t in whole[0].trajectories] == [4, 3, 2]
    for rows_per_poll in (1, 2):
        parts = roll_out(hermes, arithmetic, script, prompts=prompts, group_size=3, rows_per_poll=rows_per_poll)
        assert without_durations(parts) == without_durations(whole)


class Signals(ToolBackend):
    """`hold` answers once `release` has been called, or gives up; `fail` and `crash` break."""

    def __init__(self, slow=False, patience_s=20.0):
        self.slow = slow
        self.opened = self.closed = 0
        self._released = threading.Event()
        self._patience_s = patience_s

    specs = tuple(ToolSpec(name=name) for name in ("hold", "release", "fail", "crash"))

    @contextmanager
    def session(self, reference=None):
        self.opened += 1
        try:
            yield ToolSession(run=self._run)
        finally:
            self.closed += 1

    def _run(self, call):
        if call.name == "fail":
            raise ToolBackendError("the server is gone")
        if call.name == "crash":
            raise ZeroDivisionError("a defect in the backend")
        if call.name == "release":
            self._released.set()
            return ToolResult(call_id=call.call_id, content="released")
        return ToolResult(call_id=call.call_id, content="held" if self._released.wait(self._patience_s) else "gave up")


@pytest.mark.parametrize(("slow", "park_after_s"), [(True, 60.0), (False, 0.02)])
def test_other_trajectories_go_on_while_a_tool_is_slow(hermes, slow, park_after_s):
    backend = Signals(slow=slow)
    script = {
        0: [calls(("hold", {})), says("a")],
        1: [says("b")],
        2: [says("c")],
        3: [calls(("release", {})), says("d")],
    }
    (group,) = roll_out(
        hermes,
        ToolBox([backend]),
        script,
        prompts=[(reference("hold", "release"),)],
        group_size=4,
        limits=RolloutLimits(park_after_s=park_after_s),
        rows_per_poll=1,  # row 3 is decoded only if row 0's tool is not waited for
    )
    assert group.trajectories[0].tool_results[0].content == "held"
    assert [t.final_text for t in group.trajectories] == ["a", "b", "c", "d"]


@pytest.mark.parametrize(("max_concurrent_tools", "patience_s"), [(3, 0.2), (4, 20.0)])
def test_only_so_many_trajectories_use_tools_at_once(hermes, max_concurrent_tools, patience_s):
    script = {row: [calls(("hold", {})), says("a")] for row in range(3)} | {3: [calls(("release", {})), says("b")]}
    (group,) = roll_out(
        hermes,
        ToolBox([Signals(slow=True, patience_s=patience_s)]),
        script,
        prompts=[(reference("hold", "release"),)],
        group_size=4,
        limits=RolloutLimits(max_concurrent_tools=max_concurrent_tools),
    )
    # with three at a time the fourth can release the others only once one of them has given up
    contents = [t.tool_results[0].content for t in group.trajectories]
    assert ("gave up" in contents) == (max_concurrent_tools == 3)
    assert contents[3] == "released"


def test_broken_infrastructure_ends_its_trajectory_only(hermes):
    backend = Signals()
    script = {0: [calls(("fail", {}))], 1: [calls(("release", {})), says("b")]}
    (group,) = roll_out(hermes, ToolBox([backend]), script, prompts=[(reference("fail", "release"),)], group_size=2)
    broken, whole = group.trajectories
    assert (broken.stop_reason, broken.failed_infrastructure) == (StopReason.INFRASTRUCTURE, True)
    assert broken.tool_results[0].status is ToolStatus.INFRASTRUCTURE
    assert broken.tool_results[0].content == "Error: fail is unavailable: the server is gone"
    assert (whole.stop_reason, whole.failed_infrastructure) == (StopReason.ANSWERED, False)
    assert (backend.opened, backend.closed) == (2, 2)


def test_a_backend_without_a_limit_of_its_own_is_not_waited_for_without_end(hermes):
    script = {0: [calls(("hold", {}))], 1: [says("b")]}
    limits = RolloutLimits(tool_call_timeout_s=1.0)
    (group,) = roll_out(
        hermes, ToolBox([Signals()]), script, prompts=[(reference("hold"),)], group_size=2, limits=limits
    )
    assert group.trajectories[0].stop_reason is StopReason.INFRASTRUCTURE
    assert "hold did not end within 1 s" in group.trajectories[0].tool_results[0].content


def test_sessions_are_closed_when_the_engine_or_a_backend_fails(hermes):
    backend = Signals()
    with pytest.raises(EngineError, match="row 0 asks for turn 2"):
        roll_out(hermes, ToolBox([backend]), {0: [calls(("release", {}))]}, prompts=[(reference("release"),)])
    assert (backend.opened, backend.closed) == (1, 1)
    with pytest.raises(PluginError, match="raised ZeroDivisionError: a defect in the backend"):
        roll_out(hermes, ToolBox([backend]), {0: [calls(("crash", {}))]}, prompts=[(reference("crash"),)])
    assert (backend.opened, backend.closed) == (2, 2)


def test_no_tool_session_is_opened_for_a_student_that_calls_nothing(hermes):
    backend = Signals()
    one(hermes, ToolBox([backend]), {0: [says("5")]}, prompts=[(reference("hold"),)])
    assert backend.opened == 0


@pytest.mark.parametrize(
    "field", ["max_turns", "max_tool_calls", "max_completion_tokens", "max_tool_result_tokens", "max_concurrent_tools"]
)
def test_limits_must_be_positive(field):
    with pytest.raises(ConfigError, match=f"limits.{field} is 0; it must be positive"):
        RolloutLimits(**{field: 0})
    RolloutLimits(park_after_s=0.0)


@pytest.mark.parametrize("backend", [PythonFunctions, PythonInterpreter, CommandInterpreter])
def test_a_local_tool_is_waited_for_until_its_own_limit(backend):
    # else a busy machine decides which rows are decoded together, and with it the last bits of a run
    timeout_s = inspect.signature(backend).parameters["timeout_s"].default
    assert RolloutLimits().park_after_s > 2 * timeout_s


def test_the_user_goes_on_in_tokens(hermes, arithmetic):
    prompt = dataclasses.replace(reference("add"), follow_ups=("And 3+3?",))
    script = [says("4"), calls(add(3, 3)), says("6")]
    trajectory = one(hermes, arithmetic, {0: script}, prompts=[(prompt,)])
    assert trajectory.stop_reason is StopReason.ANSWERED
    assert [turn.follow_up for turn in trajectory.turns] == ["And 3+3?", None, None]
    assert trajectory.turns[1].prompt_ids == (
        *(*b"\n", IM_START, *b"user\nAnd 3+3?", IM_END, *b"\n"),
        *(IM_START, *b"assistant\n"),
    )


def test_the_final_state_is_kept(hermes):
    class Till(Signals):
        tells_state = True

        @contextmanager
        def session(self, reference=None):
            yield ToolSession(run=self._run, state=lambda: {"cash": 5}, score=lambda: 1.0)

    trajectory = one(hermes, ToolBox([Till()]), {0: [says("done")]}, prompts=[(reference("hold"),)])
    assert (trajectory.final_state, trajectory.environment_score) == ({"cash": 5}, 1.0)
