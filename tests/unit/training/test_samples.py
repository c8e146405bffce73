from dataclasses import replace

import pytest
import torch

from mentor_pl.chat.protocol import ChatProtocol
from mentor_pl.errors import ConfigError
from mentor_pl.messages import Message, ToolCall, ToolSpec
from mentor_pl.reference import Reference
from mentor_pl.students.chat_template import read_chat_template
from mentor_pl.training.batching import packed_batch
from mentor_pl.training.samples import Sample, sample_from_reference, sample_from_trajectory, share_beginning
from mentor_pl.trajectory import Completion, StopReason, Trajectory, Turn
from tests.unit.chat.byte_tokenizers import CHATML, LLAMA, LLAMA_TEMPLATE, byte_tokenizer

IM_END, IM_START = 257, 258
TOOLS = [ToolSpec(name="add")]


@pytest.fixture(scope="module")
def hermes():
    return ChatProtocol(byte_tokenizer(read_chat_template("hermes"), CHATML))


def turn(given, sampled, logprobs):
    completion = Completion(token_ids=sampled, logprobs=logprobs)
    return Turn(prompt_ids=given, completion=completion, message=Message(role="assistant"))


def test_a_trajectory_is_trained_on_where_the_student_sampled():
    trajectory = Trajectory(
        reference_id="p",
        turns=(turn((7, 8), (20, 2), (-0.1, -0.2)), turn((9,), (2,), (-0.3,))),
        stop_reason=StopReason.ANSWERED,
    )
    sample = sample_from_trajectory(trajectory, [1.5] * len(trajectory.turns))
    assert sample.token_ids.tolist() == [7, 8, 20, 2, 9, 2]
    assert sample.loss_mask.int().tolist() == [0, 0, 1, 1, 0, 1]
    assert sample.sampling_logprobs.tolist() == pytest.approx([0, 0, -0.1, -0.2, 0, -0.3])
    assert sample.advantages.tolist() == [0, 0, 1.5, 1.5, 0, 1.5]
    assert (sample.prompt_length, sample.num_loss_tokens) == (2, 3)
    assert sample_from_trajectory(trajectory, [1.5, -0.5]).advantages.tolist() == [0, 0, 1.5, 1.5, 0, -0.5]
    hinted = sample_from_trajectory(replace(trajectory, given_turns=1), [1.5, -0.5])
    assert hinted.loss_mask.int().tolist() == [0, 0, 0, 0, 0, 1]
    assert (hinted.advantages.tolist(), hinted.prompt_length) == ([0, 0, 0, 0, 0, -0.5], 2)


def solution(*messages, call_ids=("call_0", "call_1")):
    calls = tuple(ToolCall(call_id=i, name="add", arguments={"a": n}) for n, i in enumerate(call_ids))
    return Reference(
        reference_id="p",
        prompt=(Message(role="user", content="?"),),
        answer="5",
        tools=tuple(TOOLS),
        messages=(Message(role="assistant", tool_calls=calls), *messages),
    )


def tool(content, call_id=None):
    return Message(role="tool", content=content, tool_call_id=call_id)


ANSWER = Message(role="assistant", content="\\boxed{5}")


def test_a_solution_is_laid_out_as_if_the_student_had_sampled_it(hermes):
    reference = solution(tool("x", "call_0"), tool("y", "call_1"), ANSWER)
    sample = sample_from_reference(reference, hermes, TOOLS)
    prompt = hermes.prompt_ids(reference.prompt, TOOLS)
    made = (
        *b'<tool_call>\n{"name": "add", "arguments": {"a": 0}}\n</tool_call>\n',
        *b'<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>',
        IM_END,
    )
    results = (
        *(*b"\n", IM_START),
        *b"user\n<tool_response>\nx\n</tool_response>\n<tool_response>\ny\n</tool_response>",
        *(IM_END, *b"\n", IM_START, *b"assistant\n"),
    )
    answer = (*b"\\boxed{5}", IM_END)
    assert sample.token_ids.tolist() == [*prompt, *made, *results, *answer]
    assert sample.loss_mask.tolist() == (
        [False] * len(prompt) + [True] * len(made) + [False] * len(results) + [True] * len(answer)
    )
    assert sample.advantages[sample.loss_mask].unique().tolist() == [1.0]
    assert sample.prompt_length == len(prompt)


@pytest.mark.parametrize(
    "results", [(tool("y", "call_1"), tool("x", "call_0")), (tool("x"), tool("y")), (tool("x", "call_0"), tool("y"))]
)
def test_results_are_put_in_the_order_of_their_calls(hermes, results):
    expected = sample_from_reference(solution(tool("x", "call_0"), tool("y", "call_1"), ANSWER), hermes, TOOLS)
    found = sample_from_reference(solution(*results, ANSWER), hermes, TOOLS)
    assert found.token_ids.tolist() == expected.token_ids.tolist()


@pytest.mark.parametrize("silent", [False, True])
def test_where_a_template_writes_one_call_a_turn_a_turn_with_several_is_several_turns(silent):
    refuses = "{{- raise_exception('This model only supports single tool-calls at once!') -}}"
    assert refuses in LLAMA_TEMPLATE
    template = LLAMA_TEMPLATE.replace(refuses, "") if silent else LLAMA_TEMPLATE  # gpt-oss writes the first call only
    llama = ChatProtocol(byte_tokenizer(template, LLAMA))
    reference = solution(tool("y", "call_1"), tool("x", "call_0"), ANSWER)
    sample = sample_from_reference(reference, llama, TOOLS)
    text = llama.tokenizer.decode(sample.token_ids[sample.prompt_length :])
    header, end = "<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>"
    result = '<|eot_id|><|start_header_id|>ipython<|end_header_id|>\n\n"{}"<|eot_id|>' + header
    calls = [f'{{"name": "add", "parameters": {{"a": {n}}}}}' for n in range(2)]
    assert text == f"{calls[0]}{result.format('x')}{calls[1]}{result.format('y')}{ANSWER.content}{end}"
    trained = llama.tokenizer.decode(sample.token_ids[sample.loss_mask])
    assert trained == f"{calls[0]}{end}{calls[1]}{end}{ANSWER.content}{end}"
    prompt = llama.tokenizer.decode(llama.prompt_ids([*reference.prompt, *reference.messages], TOOLS))
    assert prompt.endswith(text + header)


def test_a_turn_of_weight_zero_is_seen_and_not_trained(hermes):
    reference = solution(tool("x", "call_0"), tool("y", "call_1"), ANSWER)
    first, *rest = reference.messages
    context = replace(reference, messages=(replace(first, trained=False), *rest))
    whole, part = (sample_from_reference(r, hermes, TOOLS) for r in (reference, context))
    assert part.token_ids.tolist() == whole.token_ids.tolist()
    assert part.num_loss_tokens == len(b"\\boxed{5}") + 1
    only = replace(reference, messages=(replace(ANSWER, trained=False),))
    with pytest.raises(ConfigError, match="no assistant messages to imitate"):
        sample_from_reference(only, hermes, TOOLS)


def test_a_solution_may_end_with_a_call(hermes):
    sample = sample_from_reference(solution(), hermes, TOOLS)
    assert sample.token_ids[-1] == IM_END and sample.loss_mask[-1]


def test_a_reference_without_messages_cannot_be_imitated(hermes):
    reference = Reference(reference_id="p", prompt=(Message(role="user", content="?"),), answer="5", tools=())
    with pytest.raises(
        ConfigError, match="reference 'p' has no assistant messages to imitate; .* not only `tool_calls`"
    ):
        sample_from_reference(reference, hermes, [])


def test_a_call_that_nothing_answers_is_named(hermes):
    with pytest.raises(ConfigError, match=r"reference 'p': the call 'call_1' has no tool message.*\['call_0'\]"):
        sample_from_reference(solution(tool("x", "call_0"), ANSWER), hermes, TOOLS)


def prompted(prompt, sampled):
    ids = torch.tensor([*prompt, *sampled])
    mask = torch.tensor([False] * len(prompt) + [True] * len(sampled))
    zeros = torch.zeros(len(ids))
    return Sample(token_ids=ids, loss_mask=mask, sampling_logprobs=zeros, advantages=zeros, prompt_length=len(prompt))


def test_solutions_of_different_problems_share_what_their_prompts_begin_with():
    """Tools 1 2 3, then the problems 4 5 and 6: one packed row holds 1 2 3 once."""
    shared = share_beginning([prompted((1, 2, 3, 4, 5), (8, 9)), prompted((1, 2, 3, 6), (8,))])
    assert [sample.prompt_length for sample in shared] == [3, 3]
    batch = packed_batch(shared, pad_token_id=0, num_loss_tokens=3)
    assert batch.input_ids.tolist() == [[1, 2, 3, 4, 5, 8, 9, 6, 8]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 4, 5, 6, 3, 4]]
    assert (batch.target_ids.tolist(), batch.target_positions.tolist()) == ([8, 9, 8], [4, 5, 7])


@pytest.mark.parametrize(
    ("prompts", "lengths"),
    [
        ([(1, 2), (1, 2, 2)], [2, 2]),  # one prompt begins the other: what is trained on is never shared
        ([(1, 2), (2, 2)], [2, 2]),  # nothing in common
        ([(1, 2, 3)], [3]),
    ],
)
def test_only_prompts_are_shared(prompts, lengths):
    shared = share_beginning([prompted(prompt, (2, 2)) for prompt in prompts])
    assert [sample.prompt_length for sample in shared] == lengths


def test_what_the_user_says_in_between_is_given_not_trained_on(hermes):
    said = [Message(role="assistant", content="4"), Message(role="user", content="More."), ANSWER]
    reference = Reference(
        reference_id="p", prompt=(Message(role="user", content="?"),), answer="", tools=(), messages=tuple(said)
    )
    sample = sample_from_reference(reference, hermes, [])
    trained = sample.token_ids[sample.loss_mask].tolist()
    assert trained == [*b"4", IM_END, *b"\\boxed{5}", IM_END]
    between = sample.token_ids.tolist()[sample.prompt_length + 2 : -len(b"\\boxed{5}") - 1]
    assert between == [*b"\n", IM_START, *b"user\nMore.", IM_END, *b"\n", IM_START, *b"assistant\n"]


@pytest.mark.parametrize("imitate", [True, False])
def test_reasoning_is_imitated_where_it_is_asked_for(hermes, imitate):
    reference = Reference(
        reference_id="p",
        prompt=(Message(role="user", content="2+3?"),),
        answer="5",
        tools=(),
        messages=(Message(role="assistant", content="5", reasoning="Two and three."),),
    )
    sample = sample_from_reference(reference, hermes, [], imitate_reasoning=imitate)
    said = bytes(token for token in sample.token_ids[sample.loss_mask].tolist() if token < 256)
    assert said == (b"<think>\nTwo and three.\n</think>\n\n5" if imitate else b"5")
