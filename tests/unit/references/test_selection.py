import json

import pytest

from mentor_pl.cli.references import main
from mentor_pl.errors import ConfigError, DataFileError
from mentor_pl.files import read_references
from mentor_pl.messages import Message, ToolCall, ToolResult, ToolSpec, ToolStatus
from mentor_pl.reference import Reference
from mentor_pl.references.mentoring import references_from_trajectories
from mentor_pl.references.selection import choose, rejection_reason
from mentor_pl.rewards.correct import Correct
from mentor_pl.trajectory import Completion, StopReason, Trajectory, Turn

PROMPT = Reference(
    reference_id="p",
    prompt=(Message(role="user", content="1 + 2?"),),
    answer="3",
    tools=(ToolSpec(name="add"), ToolSpec(name="sum_numbers"), ToolSpec(name="ceil")),
    domain="sums",
)


def attempt(*names, sample=0, text="\\boxed{3}", stop=StopReason.ANSWERED, status=ToolStatus.OK, error=None, of="p"):
    turns = []
    for index, name in enumerate(names):
        call = ToolCall(call_id=f"c{index}", name=name, parse_error=error)
        message = Message(role="assistant", tool_calls=(call,))
        result = ToolResult(call_id=call.call_id, content="3", status=status)
        turns.append(Turn(completion=Completion(), message=message, tool_results=(result,)))
    turns.append(Turn(completion=Completion(), message=Message(role="assistant", content=text)))
    return Trajectory(reference_id=of, sample_index=sample, turns=tuple(turns), stop_reason=stop)


@pytest.mark.parametrize(
    ("trajectory", "cause"),
    [
        (attempt("add"), None),
        (attempt(), None),
        (attempt("add", text="\\boxed{4}"), "Correct does not hold"),
        (attempt("add", stop=StopReason.MAX_TURNS), "not finished (max_turns)"),
        (attempt("plus"), "a call of a tool that is not offered"),
        (attempt("add", error="not JSON"), "a malformed call"),
        (attempt("add", status=ToolStatus.ERROR), "a call failed"),
        (attempt("add", status=ToolStatus.INFRASTRUCTURE), "a tool was unavailable"),
    ],
)
def test_only_verified_attempts_are_taken(trajectory, cause):
    assert rejection_reason(trajectory, PROMPT, [Correct()]) == cause


def test_failed_calls_may_be_allowed():
    failed = attempt("add", status=ToolStatus.TIMEOUT)
    assert rejection_reason(failed, PROMPT, [Correct()], max_failed_calls=1) is None


def test_which_of_several_are_kept():
    long, short = attempt("add", "add", sample=0), attempt("add", sample=1)
    shorter = attempt("sum_numbers", sample=2)
    other = attempt("sum_numbers", "ceil", sample=3)
    pool = [long, short, shorter, other]
    assert choose(pool, keep=2, prefer="first") == [long, short]
    assert choose(pool, keep=2, prefer="shortest") == [short, shorter]
    # From {add}: {sum_numbers} and {sum_numbers, ceil} are both at distance 1, the shorter one wins; then {sum_numbers, ceil} is at
    # 1/2 of {sum_numbers}, the second {add} at 0.
    assert choose(pool, keep=3, prefer="diverse") == [short, shorter, other]
    assert choose([short], keep=3, prefer="diverse") == [short]


SOLVED = Reference(
    reference_id="s",
    prompt=(Message(role="user", content="0 + 3?"),),
    answer="3",
    tools=PROMPT.tools,
    tool_calls=(ToolCall(call_id="c", name="add"),),
    teacher="big",
)


def mentored(trajectories, **options):
    return list(references_from_trajectories([PROMPT, SOLVED], trajectories, judges=[Correct()], **options))


def test_a_prompt_that_the_teacher_failed_gets_the_students_best():
    trajectories = [
        attempt("add", "add", sample=0),
        attempt("add", sample=1),
        attempt("add", sample=2, text="\\boxed{4}"),
        attempt("ceil", of="s"),
    ]
    (new, is_new), (old, old_is_new) = mentored(trajectories)
    assert (is_new, old_is_new) == (True, False)
    assert (new.reference_id, new.teacher, new.domain, new.answer) == ("p", "self", "sums", "3")
    assert [call.name for call in new.tool_calls] == ["add"]
    assert new.prompt == PROMPT.prompt
    assert new.messages[-1].content == "\\boxed{3}"
    assert old == SOLVED


def test_solved_prompts_too_on_request():
    found = mentored([attempt("ceil", of="s"), attempt("add", of="s")], only_unsolved=False, keep=2)
    assert [(r.reference_id, new) for r, new in found] == [
        ("p", False),
        ("s", False),
        ("s/self-0", True),
        ("s/self-1", True),
    ]


def test_errors_name_their_cause():
    with pytest.raises(DataFileError, match="names the reference 'q', which the reference file does not have"):
        mentored([attempt(of="q")])
    with pytest.raises(ConfigError, match="keep is 0"):
        mentored([], keep=0)


def test_the_command_writes_a_reference_file(tmp_path, capsys):
    prompts, recorded, output = (tmp_path / name for name in ("refs.jsonl", "traj.jsonl", "new.jsonl"))
    prompts.write_text(json.dumps({"id": 7, "prompt": "1 + 2?", "answer": 3, "tools": ["add"]}) + "\n")
    call = {"id": "c", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'}}
    messages = [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "3"},
        {"role": "assistant", "content": "\\boxed{3}"},
    ]
    recorded.write_text(json.dumps({"reference_id": 7, "messages": messages, "finished": True}) + "\n")
    files = ["--references", str(prompts), "--trajectories", str(recorded), "--output", str(output)]
    main(["from-trajectories", *files])
    assert "1 new references, 0 old ones" in capsys.readouterr().out
    (reference,) = read_references(output)
    assert (reference.reference_id, reference.teacher) == ("7", "self")
    assert reference.tool_calls[0].arguments == {"a": 1, "b": 2}
