"""mean@k, pass@k and pass^k, against numbers worked out by hand."""

import math
import multiprocessing
from statistics import stdev

import pytest
import torch
import torch.distributed as dist

from mentor_pl.errors import ConfigError
from mentor_pl.evaluation.sampling import EvaluationSampling
from mentor_pl.evaluation.split import SplitMetrics
from mentor_pl.evaluation.success import SuccessRates, half_width, pass_at, pass_hat
from tests.unit.evaluation.attempts import group, trajectory


@pytest.mark.parametrize(
    ("n", "c", "k", "any_of_k", "all_of_k"),
    [
        (4, 2, 1, 1 / 2, 1 / 2),
        (4, 2, 2, 5 / 6, 1 / 6),  # of 6 pairs one holds no success, one only successes
        (5, 3, 3, 1.0, 1 / 10),  # 2 failures cannot fill 3 places
        (5, 1, 2, 4 / 10, 0.0),
        (8, 0, 4, 0.0, 0.0),
        (8, 8, 8, 1.0, 1.0),
    ],
)
def test_estimators(n, c, k, any_of_k, all_of_k):
    assert pass_at(n, c, k) == pytest.approx(any_of_k)
    assert pass_hat(n, c, k) == pytest.approx(all_of_k)


def test_the_estimator_is_unbiased():
    """Over all outcomes of 4 attempts that succeed with p = 0.3 its mean is 1 - 0.7^2, and 0.3^2 for both."""
    p, n, k = 0.3, 4, 2
    weights = [math.comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)]
    assert sum(w * pass_at(n, c, k) for c, w in enumerate(weights)) == pytest.approx(0.51)
    assert sum(w * pass_hat(n, c, k) for c, w in enumerate(weights)) == pytest.approx(0.09)


PROBLEMS = [[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]]
EXPECTED = {
    "mean@4": 0.5,
    "pass@2": (5 / 6 + 0 + 1) / 3,
    "pass@4": 2 / 3,
    "pass^2": (1 / 6 + 0 + 1) / 3,
    "pass^4": 1 / 3,
}
T_2 = 4.30265  # Student's t for 95 % and two degrees of freedom, from a printed table


def test_rates_of_three_problems_with_intervals_over_problems():
    rates = SuccessRates(4, sync_on_compute=False)
    rates.update(PROBLEMS[:1])
    rates.update(PROBLEMS[1:])
    found = {name: value.item() for name, value in rates.compute().items()}
    assert {name: value for name, value in found.items() if "/" not in name} == pytest.approx(EXPECTED)
    assert found["mean@4/interval"] == pytest.approx(T_2 * 0.5 / 3**0.5, rel=1e-4)
    assert found["pass@2/interval"] == pytest.approx(T_2 * stdev([5 / 6, 0, 1]) / 3**0.5, rel=1e-4)


def test_only_a_full_score_is_a_success_and_what_could_not_be_told_does_not_count():
    rates = SuccessRates(2, sync_on_compute=False)
    rates.update([[1.0, 0.5], [math.nan, 1.0], [math.nan, math.nan]])
    found = {name: value.item() for name, value in rates.compute().items() if "/" not in name}
    # The means are 0.75 and 1; only the first problem has two attempts, one a success.
    assert found == pytest.approx({"mean@2": 0.875, "pass@2": 1.0, "pass^2": 0.0})


def test_the_interval_of_a_certain_looking_mean_is_the_binomial_bound():
    # All of 4 succeed: a success rate of p does so with p^4, which is 2.5 % for p = 0.3976.
    assert half_width(4.0, 4.0, 4) == pytest.approx(1 - 0.025**0.25)
    assert half_width(0.0, 0.0, 4) == pytest.approx(0.60236, abs=1e-5)
    assert half_width(1.0, 1.0, 1) is None


def test_the_ks_are_powers_of_two_and_the_number_of_samples():
    rates = SuccessRates(6, sync_on_compute=False)
    rates.update([[1.0] * 6])
    assert list(rates.compute()) == ["mean@6", "pass@2", "pass@4", "pass@6", "pass^2", "pass^4", "pass^6"]


def test_a_split_is_rated_by_its_success():
    metrics = SplitMetrics(["add"], samples=2, sync=False)
    metrics.update([group(trajectory("add", "\\boxed{5}"), trajectory("add", "\\boxed{4}"))])
    found = metrics.compute()
    assert (float(found["mean@2"]), float(found["pass@2"]), float(found["pass^2"])) == (0.5, 1.0, 0.0)


def test_two_ranks_rate_as_one(tmp_path):
    fork = multiprocessing.get_context("fork")
    inbox = fork.SimpleQueue()
    ranks = [fork.Process(target=_rank, args=(rank, tmp_path / "meeting", inbox)) for rank in range(2)]
    for process in ranks:
        process.start()
    answers = [inbox.get() for _ in ranks]
    for process in ranks:
        process.join()
    assert answers[0] == answers[1]
    assert {name: value for name, value in answers[0].items() if "/" not in name} == pytest.approx(EXPECTED)


def _rank(rank, meeting, inbox):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    rates = SuccessRates(4)
    rates.update(PROBLEMS[rank::2])
    inbox.put({name: value.item() for name, value in rates.compute().items()})
    dist.destroy_process_group()


def test_several_greedy_samples_are_refused():
    with pytest.raises(ConfigError, match="samples is 4 at temperature 0"):
        EvaluationSampling(samples=4)
    with pytest.raises(ConfigError, match="samples is 0"):
        EvaluationSampling(samples=0)
    assert EvaluationSampling(samples=4, temperature=0.6).samples == 4
