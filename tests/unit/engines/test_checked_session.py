import pytest

from mentor_pl.engines.base import EngineSession, GenerationRequest
from mentor_pl.engines.checked_session import CheckedSession
from mentor_pl.errors import EngineError
from mentor_pl.trajectory import Completion


class Canned(EngineSession):
    """Gives back what it was made with, poll by poll."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def submit(self, requests):
        pass

    def poll(self, interrupt=None):
        return self.answers.pop(0) if self.answers else []

    def release(self, row):
        pass


def completion(token_ids=(5, 6), logprobs=(-0.5, -0.25)):
    return Completion(token_ids=token_ids, logprobs=logprobs, finish_reason="stop", policy_version=0)


def session(*answers):
    checked = CheckedSession(Canned(*answers), "OddEngine", vocab_size=7)
    checked.submit([GenerationRequest(row=row, token_ids=(1, 2), max_new_tokens=3, seed=0) for row in (0, 1)])
    return checked


def test_what_keeps_the_promise_passes():
    checked = session([(0, completion())], [(1, completion())])
    assert [row for _ in range(2) for row, _ in checked.poll()] == [0, 1]
    assert checked.poll() == []  # nothing is under way any more


def test_a_lost_row_is_named():
    checked = session([(1, completion())])
    checked.poll()
    with pytest.raises(EngineError, match="OddEngine lost 1 rows, for example row 0"):
        checked.poll()


def test_an_interrupted_poll_may_come_back_empty():
    class Asks(Canned):
        def poll(self, interrupt=None):
            assert interrupt is not None and interrupt()
            return []

    checked = CheckedSession(Asks(), "OddEngine")
    checked.submit([GenerationRequest(row=0, token_ids=(1,), max_new_tokens=1, seed=0)])
    assert checked.poll(lambda: True) == []


@pytest.mark.parametrize(
    ("row", "answer", "says"),
    [
        (0, completion((), ()), "row 0 a completion of 0 tokens; 1 to 3 were asked for"),
        (0, completion((1,) * 4, (-1.0,) * 4), "a completion of 4 tokens"),
        (0, completion((5.0, 6.0)), "5.0 as a token id; an id is a whole number from 0"),
        (0, completion((5, -1)), "-1 as a token id"),
        (0, completion((5, 7)), "7 as a token id; the model's vocabulary has 7 tokens"),
        (0, completion((5, 6), (-0.5,)), "1 log-probabilities for 2 tokens"),
        (0, completion((5, 6), (-0.5, float("nan"))), "a log-probability of nan"),
        (0, completion((5, 6), (-0.5, float("-inf"))), "a log-probability of -inf"),
        (0, completion((5, 6), (-0.5, 0.5)), "a log-probability of 0.5"),
        (7, completion(), "row 7 a completion that nobody asked for"),
    ],
)
def test_what_breaks_the_promise_is_an_engine_error(row, answer, says):
    with pytest.raises(EngineError, match=says):
        session([(row, answer)]).poll()
