import pytest
from torch import nn

from mentor_pl.engines.base import EngineStatistics, GenerationRequest, SamplingParams
from mentor_pl.engines.scripted import ScriptedEngine
from mentor_pl.errors import EngineError
from mentor_pl.trajectory import Completion

EOS = 9


def request(row, token_ids, max_new_tokens=8):
    return GenerationRequest(row=row, token_ids=tuple(token_ids), max_new_tokens=max_new_tokens, seed=0)


def open_session(script, **options):
    engine = ScriptedEngine(script, **options)
    engine.sync(nn.Linear(1, 1), version=3)
    return engine.session(SamplingParams(), [EOS])


def test_each_request_of_a_row_plays_its_next_turn():
    with open_session({0: [[5, EOS], [6, 7, EOS]], 1: [[8, EOS]]}) as session:
        session.submit([request(0, [1, 2]), request(1, [1])])
        assert session.poll() == [
            (0, Completion(token_ids=(5, EOS), logprobs=(0.0, 0.0), finish_reason="stop", policy_version=3)),
            (1, Completion(token_ids=(8, EOS), logprobs=(0.0, 0.0), finish_reason="stop", policy_version=3)),
        ]
        session.submit([request(0, [1, 2, 5, EOS, 4], max_new_tokens=2)])
        assert session.poll() == [
            (0, Completion(token_ids=(6, 7), logprobs=(0.0, 0.0), finish_reason="length", policy_version=3))
        ]
        assert session.poll() == []
        assert session.statistics == EngineStatistics(prefill_tokens=8, row_steps=6, sampled_tokens=6)


def test_rows_per_poll_answers_some_and_keeps_the_rest():
    with open_session({row: [[row, EOS]] for row in range(3)}, rows_per_poll=2) as session:
        session.submit([request(row, [1]) for row in range(3)])
        assert [row for row, _ in session.poll()] == [0, 1]
        assert [row for row, _ in session.poll()] == [2]


@pytest.mark.parametrize(
    ("continued", "message"),
    [
        ([1, 2, 5, 4], "row 0 was continued with other tokens than it had, from position 3 on"),
        ([1, 2], "row 0 was continued with other tokens than it had, from position 2 on"),
    ],
)
def test_a_row_continued_with_other_tokens_is_refused(continued, message):
    with open_session({0: [[5, EOS], [6, EOS]]}) as session:
        session.submit([request(0, [1, 2])])
        session.poll()
        with pytest.raises(EngineError, match=message):
            session.submit([request(0, continued)])


def test_a_turn_that_is_not_in_the_script_is_named():
    with open_session({0: [[EOS]]}) as session:
        session.submit([request(0, [1])])
        session.poll()
        session.submit([request(0, [1, EOS, 4])])
        with pytest.raises(EngineError, match="row 0 asks for turn 2; its script has 1"):
            session.poll()


def test_a_row_under_way_cannot_be_submitted_again():
    with open_session({0: [[EOS]]}) as session:
        session.submit([request(0, [1])])
        with pytest.raises(EngineError, match="row 0 was submitted twice"):
            session.submit([request(0, [1])])
