import math
import multiprocessing

import pytest
import torch
import torch.distributed as dist
from torch import tensor
from torch.testing import assert_close

from mentor_pl.evaluation.metrics import jensen_shannon
from mentor_pl.evaluation.split import SplitMetrics
from mentor_pl.messages import Message
from mentor_pl.reference import Reference
from mentor_pl.rewards.base import NoScore, RewardComponent
from mentor_pl.rewards.program import RewardProgram, RewardTerm
from mentor_pl.trajectory import StopReason, TrajectoryGroup
from tests.unit.evaluation.attempts import group, trajectory


def counts(*values):
    return tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("p", "q", "bits"),
    [
        ((3, 0), (0, 5), 1.0),  # nothing in common
        ((1, 3), (2, 6), 0.0),  # the same shares
        # (1, 0) and (1/2, 1/2): their mean (3/4, 1/4) has 2 - 3/4 log2(3) bits, they themselves 0 and 1.
        ((7, 0), (2, 2), 2 - 0.75 * math.log2(3) - 0.5),
        ((0, 0), (1, 0), 1.0),  # nothing to compare
    ],
)
def test_jensen_shannon_in_bits(p, q, bits):
    assert_close(jensen_shannon(counts(*p), counts(*q)).item(), bits)
    assert_close(jensen_shannon(counts(*q), counts(*p)).item(), bits)


# The teacher always adds once.
GROUPS = [
    group(trajectory("add", "\\boxed{5}", num_tokens=3)),  # right, the teacher's tools: 1 + 3 tokens
    group(trajectory("sqrt add", "\\boxed{4}")),  # wrong, other tools: 1 + 1
    group(trajectory("", "\\boxed{5}", num_tokens=5)),  # right, no tool: 5
    group(trajectory("add frobnicate", "", stop_reason=StopReason.MAX_TURNS)),  # unfinished, an unknown tool: 1 + 1
]
EXPECTED = {
    "success": 2 / 4,
    "accuracy": 2 / 4,
    "tool_match": 2 / 4,  # calls of unknown tools use none
    "unknown_tool_rate": 1 / 5,
    "calls_per_task": 5 / 4,
    "finished": 3 / 4,
    "completion_tokens": (4 + 2 + 5 + 2) / 4,
    "infrastructure": 0.0,
    # add, sqrt, unknown, no tool: the student's 3 1 1 1 of 6 against the teacher's 4 0 0 0
    "tool_similarity": 1 - (math.log2(4 / 3) + 0.5 * math.log2(2 / 3) + 3 / 6 * math.log2(2)) / 2,
}


def test_task_metrics_of_four_attempts():
    metrics = SplitMetrics(["add", "sqrt"])
    metrics.update(GROUPS[:3])
    metrics.update([])
    metrics.update(GROUPS[3:])
    assert_close({name: value.item() for name, value in metrics.compute().items()}, EXPECTED)


def test_a_tool_that_exists_but_was_not_offered_is_unknown():
    metrics = SplitMetrics(["add", "sqrt", "frobnicate"])
    metrics.update(GROUPS)
    assert_close(metrics.compute()["unknown_tool_rate"].item(), 1 / 5)


def test_the_shortest_way_to_look_like_a_teacher_is_to_be_one():
    metrics = SplitMetrics(["add", "sqrt"])
    metrics.update([group(trajectory("add", "\\boxed{5}"))])
    assert_close(metrics.compute()["tool_similarity"].item(), 1.0)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_of_no_attempt_at_all_nothing_is_said():
    assert SplitMetrics(["add"]).compute() == {}


def test_what_there_is_nothing_to_measure_by_is_not_measured_as_0():
    bare = Reference(reference_id="p", prompt=(Message(role="user", content="Hi"),), answer="", tools=())
    metrics = SplitMetrics([])
    metrics.update([TrajectoryGroup(references=(bare,), trajectories=(trajectory("", "Hello"),))])
    assert metrics.compute().keys() == {"finished", "completion_tokens", "infrastructure"}


def test_what_the_infrastructure_broke_counts_nowhere_else():
    metrics = SplitMetrics(["add", "sqrt"])
    metrics.update(GROUPS)
    broken = group(trajectory("sqrt", "", stop_reason=StopReason.INFRASTRUCTURE))
    metrics.update([broken])
    found = {name: value.item() for name, value in metrics.compute().items()}
    assert_close(found, {**EXPECTED, "infrastructure": 1 / 5})


def test_two_ranks_count_as_one(tmp_path):
    fork = multiprocessing.get_context("fork")  # importing torch anew would take longer than all of this file
    inbox = fork.SimpleQueue()
    ranks = [fork.Process(target=_rank, args=(rank, tmp_path / "meeting", inbox)) for rank in range(2)]
    for process in ranks:
        process.start()
    answers = [inbox.get() for _ in ranks]
    for process in ranks:
        process.join()
    assert_close(answers[0], EXPECTED)
    assert answers[0] == answers[1]


def _rank(rank, meeting, inbox):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    metrics = SplitMetrics(["add", "sqrt"])
    metrics.update(GROUPS[:1] if rank == 0 else GROUPS[1:])
    inbox.put({name: value.item() for name, value in metrics.compute().items()})
    dist.destroy_process_group()


class Says(RewardComponent):
    """1 where the student's last message is this text; NaN, no score at all, where it is "?"."""

    def __init__(self, text):
        self.text = text

    def score(self, trajectory, references):
        return float(trajectory.final_text == self.text)

    def score_group(self, group):
        return [
            NoScore(reason="nobody answered") if t.final_text == "?" else self.score(t, group.references)
            for t in group.trajectories
        ]


def measured(*terms):
    program = RewardProgram(terms=terms)
    metrics = SplitMetrics(("add", "sqrt"), program, sync=False)
    metrics.update(
        [group(trajectory("add", "yes"), trajectory("add", "no"), trajectory("", "no"), trajectory("", "?"))]
    )
    return {name: round(float(value), 4) for name, value in metrics.compute().items()}


def test_every_term_of_the_reward_is_measured_and_the_one_named_so_is_success():
    yes = RewardTerm(name="yes", component=Says("yes"), weight=1.0)
    no = RewardTerm(name="no", component=Says("no"), weight=0.5, success=True)
    found = measured(yes, no)
    # Three of four have a score: yes, no, no.
    assert (found["score/yes"], found["score/no"]) == (0.3333, 0.6667)
    assert found["reward"] == 0.6667  # (1 + 0.5 + 0.5) / 3
    assert found["success"] == 0.6667
    assert "accuracy" not in found  # what this term judges is no answer


def test_a_reward_that_names_no_success_has_none():
    found = measured(RewardTerm(name="yes", component=Says("yes"), weight=1.0))
    assert not {"success", "accuracy"} & found.keys()
