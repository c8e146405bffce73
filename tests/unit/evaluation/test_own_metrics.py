import pytest
import torch

from mentor_pl.errors import ConfigError, PluginError
from mentor_pl.evaluation.attempts import FailedCalls, StopReasons
from mentor_pl.evaluation.base import TrajectoryMean, TrajectoryMetric
from mentor_pl.evaluation.split import SplitMetrics
from mentor_pl.plugins import load_plugins
from mentor_pl.testing import check_trajectory_metric
from mentor_pl.trajectory import StopReason
from tests.unit.evaluation.attempts import group, trajectory


class AnswerLength(TrajectoryMean):
    """Characters of the last message; what is empty has no part in the mean."""

    def value(self, trajectory, references):
        return len(trajectory.final_text) or None


def test_ours_come_in_through_entry_points_and_keep_the_contract():
    found = load_plugins("mentor_pl.metrics")
    for metric in (StopReasons, FailedCalls):
        assert found[metric.__name__] is metric
        check_trajectory_metric(metric())
    check_trajectory_metric(AnswerLength())


def test_a_metric_of_ones_own_counts_what_the_infrastructure_left_whole():
    metrics = SplitMetrics(["add", "sqrt"], own=[AnswerLength(), StopReasons(), FailedCalls()], sync=False)
    metrics.update(
        [
            group(trajectory("add sqrt", "four", failed=(0,)), trajectory("", "", stop_reason=StopReason.MAX_TURNS)),
            group(trajectory("", "a longer one", stop_reason=StopReason.INFRASTRUCTURE)),
            group(trajectory("add", "eight ch")),
        ]
    )
    found = metrics.compute()
    assert float(found["answer_length"]) == 6.0
    assert float(found["stop_reasons/answered"]) == pytest.approx(2 / 3)
    assert float(found["failed_calls"]) == 0.25  # (1/2 + 0) / 2
    assert "stop_reasons/infrastructure" not in found


def test_each_split_counts_for_itself_and_the_configured_one_stays_empty():
    metric = AnswerLength()
    one, other = (SplitMetrics(["add"], own=[metric], sync=False) for _ in range(2))
    one.update([group(trajectory("", "four"))])
    other.update([group(trajectory("", "ok"))])
    assert (float(one.compute()["answer_length"]), float(other.compute()["answer_length"])) == (4.0, 2.0)
    assert float(metric.number) == 0


def test_a_metric_that_nothing_counted_in_is_not_shown():
    metrics = SplitMetrics(["add"], own=[AnswerLength()], sync=False)
    metrics.update([group(trajectory("", ""))])
    assert "answer_length" not in metrics.compute()


def test_two_metrics_of_one_name_are_refused():
    with pytest.raises(ConfigError, match="two metrics are named 'answer_length'"):
        SplitMetrics(["add"], own=[AnswerLength(), AnswerLength()])


def test_a_metric_that_raises_is_named():
    class Broken(TrajectoryMean):
        def value(self, trajectory, references):
            return 1 / len(trajectory.tool_calls)

    metrics = SplitMetrics(["add"], own=[Broken()], sync=False)
    with pytest.raises(PluginError, match=r"metric 'broken' \(Broken\) raised ZeroDivisionError"):
        metrics.update([group(trajectory("", "4"))])


class Forgetful(TrajectoryMetric):
    """Keeps its count where torchmetrics does not see it."""

    def __init__(self):
        super().__init__()
        self.seen = 0

    def update(self, groups):
        self.seen += len(groups)

    def compute(self):
        return torch.tensor(float(self.seen))


class LastOnly(TrajectoryMean):
    def value(self, trajectory, references):
        return len(trajectory.final_text)

    def update(self, groups):
        self.reset()
        super().update(groups)


class Shapely(TrajectoryMean):
    def value(self, trajectory, references):
        return 1.0

    def compute(self):
        return torch.zeros(2)


@pytest.mark.parametrize(
    ("metric", "found"),
    [(Forgetful(), "two ranks"), (LastOnly(), "counted in parts"), (Shapely(), r"shape \(2,\)")],
)
def test_what_breaks_the_contract_is_told(metric, found):
    with pytest.raises(PluginError, match=found):
        check_trajectory_metric(metric)
