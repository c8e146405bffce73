"""A budget for thought cuts within a turn. In the byte tokenizer a byte is a token."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from mentor_pl.chat.protocol import ChatProtocol
from mentor_pl.engines.base import SamplingParams
from mentor_pl.engines.cascade.engine import CascadeEngine
from mentor_pl.engines.hf_generate import HFGenerateEngine
from mentor_pl.engines.scripted import ScriptedEngine
from mentor_pl.files.trajectories import trajectory_from_row, trajectory_to_row
from mentor_pl.messages import Message
from mentor_pl.reference import Reference
from mentor_pl.rollout.limits import RolloutLimits
from mentor_pl.rollout.runner import RolloutRunner
from mentor_pl.rollout.world import World
from mentor_pl.students.chat_template import read_chat_template
from mentor_pl.tools.toolbox import ToolBox
from mentor_pl.training.samples import sample_from_trajectory
from mentor_pl.trajectory import StopReason
from tests.unit.chat.byte_tokenizers import CHATML, byte_tokenizer

HERMES = read_chat_template("hermes")
OPENED = HERMES + "{{ '<think>' if add_generation_prompt }}"
IM_END = 257
CLOSE = b"\n</think>\n\n"
THOUGHT = b"<think>so it is"  # 15 tokens


def runner(template=HERMES, **limits):
    protocol = ChatProtocol(byte_tokenizer(template, CHATML))
    world = World(toolbox=ToolBox([]), limits=RolloutLimits(**limits))
    return RolloutRunner(protocol=protocol, world=world, max_context=256)


def rollout(engine, runner, *, group_size=1):
    reference = Reference(reference_id="p", prompt=(Message(role="user", content="?"),), answer="5", tools=())
    (group,) = runner.run(engine, [[reference]], sampling=SamplingParams(), group_size=group_size, seed=0)
    return group.trajectories


def played(*pieces, **limits):
    (trajectory,) = rollout(ScriptedEngine({0: pieces}), runner(**limits))
    return trajectory


def test_a_thought_ends_where_its_budget_is_spent():
    trajectory = played(THOUGHT + b" and so on", max_thinking_tokens=15)
    (turn,) = trajectory.turns
    assert trajectory.stop_reason is StopReason.MAX_THINKING_TOKENS
    assert (bytes(turn.completion.token_ids), turn.message.reasoning, turn.message.content) == (THOUGHT, "so it is", "")


def test_a_thought_that_ends_in_time_costs_nothing():
    # The first request is for 23 tokens, the next one for what max_completion_tokens has left.
    trajectory = played(b"<think>so it is</think>", (*b"5", IM_END), max_thinking_tokens=23)
    (turn,) = trajectory.turns
    assert trajectory.stop_reason is StopReason.ANSWERED
    assert turn.completion.token_ids == (*b"<think>so it is</think>5", IM_END)
    assert (turn.message.reasoning, turn.message.content, turn.completion.forced) == ("so it is", "5", (0, 0))


def test_a_turn_without_thought_has_no_such_budget():
    trajectory = played(b"It is ", (*b"5, I say.", IM_END), max_thinking_tokens=6)
    assert (trajectory.stop_reason, trajectory.final_text) == (StopReason.ANSWERED, "It is 5, I say.")


def closed(*pieces, **limits):
    return played(*pieces, max_thinking_tokens=15, at_max_thinking="close", **limits)


def test_a_spent_thought_is_closed_and_the_turn_goes_on():
    trajectory = closed(THOUGHT + b" and so on", (*b"5", IM_END))
    (turn,) = trajectory.turns
    assert trajectory.stop_reason is StopReason.ANSWERED
    assert turn.completion.token_ids == (*THOUGHT, *CLOSE, *b"5", IM_END)
    assert turn.completion.forced == (15, 15 + len(CLOSE))
    assert (turn.message.reasoning, turn.message.content) == ("so it is", "5")
    assert trajectory.num_sampled_tokens == 15 + 2


def test_what_was_put_in_is_not_trained_on():
    trajectory = closed(THOUGHT, (*b"5", IM_END))
    sample = sample_from_trajectory(trajectory, [1.0])
    start = sample.prompt_length
    assert sample.loss_mask[start:].tolist() == [True] * 15 + [False] * len(CLOSE) + [True] * 2
    assert sample.advantages[start:].tolist() == [1.0] * 15 + [0.0] * len(CLOSE) + [1.0] * 2
    assert sample.token_ids[start:].tolist() == [*THOUGHT, *CLOSE, *b"5", IM_END]


def test_a_thought_opened_again_ends_the_trajectory():
    trajectory = closed(THOUGHT, (*b"<think>no</think>5", IM_END))
    assert trajectory.stop_reason is StopReason.MAX_THINKING_TOKENS


def test_no_room_for_what_closes_a_thought():
    trajectory = closed(THOUGHT, max_completion_tokens=15)
    assert trajectory.stop_reason is StopReason.MAX_COMPLETION_TOKENS
    assert trajectory.turns[0].completion.forced == (0, 0)


def test_files_keep_what_was_put_in():
    trajectory = closed(THOUGHT, (*b"5", IM_END))
    assert trajectory_from_row(trajectory_to_row(trajectory, token_ids=True), "f:1") == trajectory


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    return LlamaForCausalLM(LlamaConfig(vocab_size=260, max_position_embeddings=256, **sizes)).eval()


def test_engines_agree_and_what_is_sampled_before_the_cut_stays_the_same(model):
    trajectories = {}
    for name, engine in (("fast", CascadeEngine()), ("slow", HFGenerateEngine())):
        engine.sync(model, 0)
        cut = runner(OPENED, max_thinking_tokens=9, at_max_thinking="close", max_completion_tokens=24)
        trajectories[name] = [t.turns[0].completion for t in rollout(engine, cut, group_size=4)]
        whole = [t.turns[0].completion for t in rollout(engine, runner(OPENED, max_completion_tokens=24), group_size=4)]
        for one, other in zip(trajectories[name], whole, strict=True):
            assert one.token_ids[:9] == other.token_ids[:9]
    fast, slow = trajectories["fast"], trajectories["slow"]
    assert [c.token_ids for c in fast] == [c.token_ids for c in slow]
    assert {c.forced for c in fast} == {c.forced for c in slow} == {(9, 9 + len(CLOSE))}
    for one, other in zip(fast, slow, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
        assert one.logprobs[9 : 9 + len(CLOSE)] == (0.0,) * len(CLOSE)
