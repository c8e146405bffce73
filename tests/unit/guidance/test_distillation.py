"""On-policy distillation: what a token is worth, and who may judge it."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from mentor_pl.errors import ConfigError
from mentor_pl.guidance import Distillation, InformedSelf, ModelTeacher
from mentor_pl.guidance.token_teachers import AskedSequence
from mentor_pl.messages import Message, ToolCall
from mentor_pl.reference import Reference
from mentor_pl.students.full import FullStudent

CALL = ToolCall(call_id="c", name="add", arguments={"a": 1, "b": 2})
REFERENCE = Reference(
    reference_id="r",
    prompt=(Message(role="system", content="s"), Message(role="user", content="1 + 2?")),
    answer="3",
    tools=(),
    messages=(
        Message(role="assistant", content="", tool_calls=(CALL,)),
        Message(role="tool", content="3", tool_call_id="c"),
        Message(role="assistant", content="\\boxed{3}"),
    ),
)
# Prompt 1 2, sampled 3 4, a tool's 5, sampled 6.
SEQUENCE = AskedSequence(
    token_ids=tensor([1, 2, 3, 4, 5, 6]),
    asked=tensor([False, False, True, True, False, True]),
    prompt_length=2,
    references=(REFERENCE,),
)


class Recorded:
    """Answers with the number of asked tokens, and notes what it was asked."""

    def __init__(self, context: int = 100) -> None:
        self.context = context
        self.sequences: list[AskedSequence] = []
        self.prompts: list[str] = []

    def logprobs(self, sequences: Any, model: Any = None) -> list[torch.Tensor]:
        self.sequences += sequences
        return [torch.full((int(sequence.asked.sum()),), -1.0) for sequence in sequences]

    def prompt_ids(self, prompt: Any, reference: Reference) -> tuple[int, ...]:
        self.prompts.append(" | ".join(message.content for message in prompt))
        return (70, 71, 72)

    def context_of(self, model: Any = None) -> int:
        return self.context


def test_a_token_answers_for_its_own_gap() -> None:
    distillation = Distillation(teacher=InformedSelf(), weight=0.5, reward_weight=2.0, decay_rounds=4, max_gap=10.0)
    # In round 1 the weight is 0.375; the gap of 20 nats is cut to 10.
    found = distillation.advantages(tensor([1.0, -1.0, 0.0]), tensor([0.4, 20.0, -1.0]), round_index=1)
    assert_close(found, tensor([2.0 - 0.15, -2.0 - 3.75, 0.375]))
    assert_close(distillation.advantages(tensor([1.0]), None, round_index=1), tensor([2.0]))
    assert_close(distillation.advantages(tensor([1.0]), tensor([3.0]), round_index=4), tensor([2.0]))


def test_alone_it_leaves_the_reward_out() -> None:
    alone = Distillation(teacher=InformedSelf(), reward_weight=0.0)
    assert_close(alone.advantages(tensor([5.0]), tensor([0.25]), round_index=9), tensor([-0.25]))


@pytest.mark.parametrize("wrong", [{"weight": 0.0}, {"reward_weight": -1.0}, {"max_gap": 0.0}, {"decay_rounds": 0}])
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(
        ConfigError, match=rf"guidance.distillation: .*{next(iter(wrong))} {next(iter(wrong.values()))}"
    ):
        Distillation(teacher=InformedSelf(), **wrong)


def test_the_informed_self_reads_the_same_tokens_behind_another_prompt() -> None:
    scoring = Recorded()
    (found,) = InformedSelf().logprobs([SEQUENCE], scoring)
    assert scoring.prompts == [
        "s | 1 + 2?\n\nThis is how it was solved before:\nadd(a=1, b=2)\n-> 3\n\\boxed{3}",
    ]
    (asked,) = scoring.sequences
    assert asked.token_ids.tolist() == [70, 71, 72, 3, 4, 5, 6]
    assert asked.asked.tolist() == [False, False, False, True, True, False, True]
    assert asked.prompt_length == 3
    assert_close(found, tensor([-1.0, -1.0, -1.0]))


def test_the_answer_alone_can_be_shown() -> None:
    scoring = Recorded()
    InformedSelf(show="answer", text=" ({shown})").logprobs([SEQUENCE], scoring)
    assert scoring.prompts == ["s | 1 + 2? (3)"]


def test_what_cannot_be_told_is_left_out() -> None:
    unsolved = Reference(reference_id="u", prompt=REFERENCE.prompt, answer="", tools=())
    sequences = [
        SEQUENCE,
        AskedSequence(token_ids=SEQUENCE.token_ids, asked=SEQUENCE.asked, prompt_length=2, references=(unsolved,)),
    ]
    assert [found is None for found in InformedSelf().logprobs(sequences, Recorded())] == [False, True]
    assert InformedSelf().logprobs([SEQUENCE], Recorded(context=6)) == [None]  # 7 tokens with the solution


def test_a_teacher_with_another_tokenizer_is_refused() -> None:
    student = FullStudent("embedded:student").load_tokenizer()
    teacher = ModelTeacher(FullStudent("embedded:student"))
    teacher.check(student, 0.7)
    student.add_tokens(["<new>"])
    said = re.escape(
        f"FullStudent has another tokenizer than the student: the token '<new>' is {len(student) - 1} to the student and None"
    )
    with pytest.raises(ConfigError, match=said + ".*cuts the text at other places.*guidance.imitation"):
        teacher.check(student, 0.7)


def test_a_text_without_a_place_for_the_solution_is_refused() -> None:
    with pytest.raises(ConfigError, match="InformedSelf.text is 'Look'"):
        InformedSelf(text="Look")
