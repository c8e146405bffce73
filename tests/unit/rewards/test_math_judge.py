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
        ("1e5", "100000", True),
        ("0.5", "50%", True),
        ("\\frac{\\sqrt{3}}{2}", "0.8660254", True),
        ("25_{8}", "25", False),
        ("1010_2", "1010_3", False),
        ("1010_2", "1010_2", True),
        ("€5", "5.00", True),
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
    ("answer", "gold", "right"),
    [
        ("Pairs", "Paris", False),
        ("paris.", "Paris", True),
        ("\\text{Paris}", "Paris", True),
        ("2024-05-01", "2024-01-05", False),
        ("2018", "2024-01-05", False),
        ("192.168.0.1", "192.168.1.0", False),
        ("B7", "7B", False),
        ("b7", "7b", False),
        ("1.10", "1.1.0", False),
        ("555-9910", "555-1099", False),
        ("AB", "BA", False),
        ("5 am", "5 pm", False),
        ("5", "5 pm", False),
        ("7", "7 apples", True),
        ("7 pears", "7 apples", False),
        ("2", "2 thirds", False),
        ("12", "12 Main St", False),
        ("yx", "2xy", False),
        ("2*y*x", "2xy", True),
    ],
)
def test_where_the_right_answer_is_text_texts_are_compared(answer: str, gold: str, right: bool) -> None:
    assert equal_in_mathematics(answer, gold) is right


@pytest.mark.parametrize(
    ("answer", "gold", "right"),
    [
        ("0.0000001", "0.0000002", False),
        ("\\frac{1}{2^{98}}", "\\frac{1}{2^{99}}", False),
        ("2^{-98}", "\\frac{1}{2^{98}}", True),
        ("(1, 0.0000001)", "(1, 0.0000003)", False),
        ("\\{0.0000001, 2\\}", "\\{0.0000002, 2\\}", False),
        ("(0, 10^{-8})", "(0, 10^{-9})", False),
        ("x = 1e-9", "3e-9", False),
        ("1.41421356", "\\sqrt{2}", True),
        ("1414213.562373095", "10^6\\sqrt{2}", True),
        ("1.41421356e-8", "\\frac{\\sqrt{2}}{10^8}", True),
        ("1.5e-8", "\\frac{\\sqrt{2}}{10^8}", False),
        ("e^{-30}", "e^{-31}", False),
    ],
)
def test_tolerance_is_relative_to_small_numbers(answer: str, gold: str, right: bool) -> None:
    assert equal_in_mathematics(answer, gold) is right


@pytest.mark.parametrize(
    ("answer", "gold", "worked"),
    [
        ("17 \\times 23", "391", False),
        ("17*23", "391", False),
        ("3+4", "7", False),
        ("10!", "3628800", False),
        ("2^{10}", "1024", False),
        ("\\sqrt{16}", "4", False),
        ("12-5", "7", False),
        ("84 \\div 2", "42", False),
        ("(1+1, 3)", "(2, 3)", False),
        ("x=3+4", "7", False),
        ("2.5 * 10^6", "2500000", True),
        ("\\frac{14}{2}", "7", True),
        ("3+4=7", "7", True),
        ("\\text{Area} = 7", "7", True),
        ("f(2)=7", "7", True),
        ("-7", "-7.0", True),
        ("(-1, 3)", "(-1, 3.0)", True),
        ("\\sqrt{2}+2\\sqrt{2}", "3\\sqrt{2}", True),
    ],
)
def test_a_calculation_left_in_the_box_is_a_setting(answer: str, gold: str, worked: bool) -> None:
    assert equal_in_mathematics(answer, gold) is worked
    assert equal_in_mathematics(answer, gold, calculations=True)


@pytest.mark.parametrize("answer", ["8=7", "3+5=7", "x=8=7", "y=7"])
def test_an_equation_is_more_than_its_right_side(answer: str) -> None:
    assert not equal_in_mathematics(answer, "x=7", calculations=True)


@pytest.mark.parametrize(
    "answer", ["\\frac{1}{0}", "((((((", "\\int", "}{", "\\", "\ud800", "\u0000", "9" * 1999, "x" * 5000]
)
def test_whatever_a_student_writes_is_only_wrong(answer: str) -> None:
    assert equal_in_mathematics(answer, "7") is False
    assert equal_in_mathematics("\\frac{14x}{2}", "7x") is True


def test_a_long_text_is_still_equal_to_itself() -> None:
    assert equal_in_mathematics("x" * 5000, "x" * 5000) is True


def test_it_works_off_the_main_thread_and_leaves_alarms_alone() -> None:
    before = signal.setitimer(signal.ITIMER_REAL, 300.0)  # pytest-timeout's own alarm is one, too
    try:
        with ThreadPoolExecutor(max_workers=4) as threads:
            verdicts = list(
                threads.map(lambda n: equal_in_mathematics(f"\\frac{{{n}x}}{{4}}", f"{n / 4}x"), range(1, 13))
            )
        assert verdicts == [True] * 12
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 250.0
    finally:
        signal.setitimer(signal.ITIMER_REAL, *before)


@pytest.mark.timeout(20)
def test_an_endless_answer_is_given_up_and_the_next_one_judged(caplog: pytest.LogCaptureFixture) -> None:
    # one operation on big integers: no signal handler runs before it ends
    assert equal_in_mathematics("10^{10^{10}}", "7", 0.5, calculations=True) is False
    assert "'10^{10^{10}}' could not be compared with '7' within 0.5 s; it counts as wrong" in caplog.text
    assert equal_in_mathematics("\\frac{21x}{3}", "7x", 0.5 + 10) is True


def test_a_worker_that_was_killed_while_idle_is_replaced() -> None:
    assert equal_in_mathematics("\\frac{35x}{5}", "7x")
    worker = math_judge._idle[-1]._process
    worker.kill()
    worker.wait()
    assert equal_in_mathematics("\\frac{42x}{6}", "7x")


def test_a_forked_child_asks_a_worker_of_its_own() -> None:
    assert equal_in_mathematics("\\frac{49x}{7}", "7x")
    assert math_judge._idle
    if not (child := os.fork()):
        os._exit(len(math_judge._idle))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_worker_that_cannot_start_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(math_judge.sys, "executable", "/bin/false")
    monkeypatch.setattr(math_judge, "_idle", math_judge.deque())
    with pytest.raises(RewardError, match="ended with code 1 before it was ready.*Is math-verify installed"):
        equal_in_mathematics("\\frac{56x}{8}", "7x")


def test_threads_do_not_share_a_worker() -> None:
    barrier = threading.Barrier(2)

    def ask(n: int) -> bool:
        barrier.wait(30)
        return equal_in_mathematics(f"\\frac{{{n}x}}{{16}}", f"{n / 16}x")

    with ThreadPoolExecutor(max_workers=2) as threads:
        assert list(threads.map(ask, [1, 3])) == [True, True]
