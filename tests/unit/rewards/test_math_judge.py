from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from mentor_pl.errors import RewardError
from mentor_pl.rewards import math_judge
from mentor_pl.rewards.math_judge import equal_in_mathematics


@pytest.mark.parametrize(
    ("answer", "gold", "right"),
    [
        ("0.5", "1/2", True),
        ("\\dfrac{1}{2}", "\\frac{1}{2}", True),
        ("1+x^2", "x^2+1", True),
        ("1024", "2^{10}", True),
        ("\\sqrt{18}", "3\\sqrt{2}", True),
        ("5", "5\\text{ cm}", True),
        ("18", "\\$18", True),
        ("1234", "1,234", True),
        ("72.0", "72", True),
        ("50", "50\\%", True),
        ("\\{2,1\\}", "\\{1,2\\}", True),  # mathematics; `strict_lists` says otherwise
        ("x=7", "7", True),
        ("3.14159", "\\pi", False),
        ("\\frac{1}{3}", "0.333", False),
        ("twelve", "12", False),
        ("8", "7", False),
        ("7, 8", "7", False),
        ("7\\text{ or }8", "7", False),
        ("7 8", "7", False),
        ("\\pm 7", "7", False),
        ("", "7", False),
        ("7", "", False),
    ],
)
def test_equality(answer: str, gold: str, right: bool) -> None:
    assert equal_in_mathematics(answer, gold) is right


@pytest.mark.parametrize(
    "answer", ["\\frac{1}{0}", "((((((", "\\int", "}{", "\\", "\ud800", "\u0000", "9" * 1999, "x" * 5000]
)
def test_whatever_a_student_writes_is_only_wrong(answer: str) -> None:
    assert equal_in_mathematics(answer, "7") is False
    assert equal_in_mathematics("\\frac{14}{2}", "7") is True


def test_a_long_text_is_still_equal_to_itself() -> None:
    assert equal_in_mathematics("x" * 5000, "x" * 5000) is True


def test_it_works_off_the_main_thread_and_leaves_alarms_alone() -> None:
    before = signal.setitimer(signal.ITIMER_REAL, 300.0)  # pytest-timeout's own alarm is one, too
    try:
        with ThreadPoolExecutor(max_workers=4) as threads:
            verdicts = list(
                threads.map(lambda n: equal_in_mathematics(f"\\frac{{{n}}}{{4}}", f"{n / 4}"), range(1, 13))
            )
        assert verdicts == [True] * 12
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 250.0
    finally:
        signal.setitimer(signal.ITIMER_REAL, *before)


@pytest.mark.timeout(20)
def test_an_endless_answer_is_given_up_and_the_next_one_judged(caplog: pytest.LogCaptureFixture) -> None:
    # one operation on big integers: no signal handler runs before it ends
    assert equal_in_mathematics("10^{10^{10}}", "7", 0.5) is False
    assert "'10^{10^{10}}' could not be compared with '7' within 0.5 s; it counts as wrong" in caplog.text
    assert equal_in_mathematics("\\frac{21}{3}", "7", 0.5 + 10) is True


def test_a_worker_that_was_killed_while_idle_is_replaced() -> None:
    assert equal_in_mathematics("\\frac{35}{5}", "7")
    worker = math_judge._idle[-1]._process
    worker.kill()
    worker.wait()
    assert equal_in_mathematics("\\frac{42}{6}", "7")


def test_a_forked_child_asks_a_worker_of_its_own() -> None:
    assert equal_in_mathematics("\\frac{49}{7}", "7")
    assert math_judge._idle
    if not (child := os.fork()):
        os._exit(len(math_judge._idle))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_worker_that_cannot_start_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(math_judge.sys, "executable", "/bin/false")
    monkeypatch.setattr(math_judge, "_idle", math_judge.deque())
    with pytest.raises(RewardError, match="ended with code 1 before it was ready.*Is math-verify installed"):
        equal_in_mathematics("\\frac{56}{8}", "7")


def test_threads_do_not_share_a_worker() -> None:
    barrier = threading.Barrier(2)

    def ask(n: int) -> bool:
        barrier.wait(30)
        return equal_in_mathematics(f"\\frac{{{n}}}{{16}}", str(n / 16))

    with ThreadPoolExecutor(max_workers=2) as threads:
        assert list(threads.map(ask, [1, 3])) == [True, True]
