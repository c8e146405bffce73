from torch import tensor
from torch.testing import assert_close

from mentor_pl.advantages import group_rewards
from mentor_pl.messages import Message
from mentor_pl.reference import Reference
from mentor_pl.rewards.base import RewardComponent
from mentor_pl.rewards.finished import Finished
from mentor_pl.rewards.program import RewardExit, RewardProgram, RewardTerm
from mentor_pl.testing import trajectory
from mentor_pl.trajectory import StopReason, TrajectoryGroup


class Reads(RewardComponent):
    """The score is the number at a place of the final text."""

    def __init__(self, place: int) -> None:
        self.place = place

    def score(self, trajectory, references) -> float:
        return float(trajectory.final_text.split()[self.place])


def test_gates_weights_and_exits_are_laid_out_by_term():
    program = RewardProgram(
        terms=[
            RewardTerm(name="correct", component=Reads(0), weight=0.7),
            RewardTerm(name="match", component=Reads(1), weight=0.3, gate="correct", gate_floor=0.2),
            RewardTerm(name="off", component=Reads(1), weight=0.0),
        ],
        exits=[RewardExit(unless=Finished(), reward=0.05)],
        need_teacher=["match"],
    )
    reference = Reference(
        reference_id="r", prompt=(Message(role="user", content="?"),), answer="", tools=(), teacher="t",
        messages=(Message(role="assistant", content="!"),),
    )  # fmt: skip
    attempts = (
        trajectory("1 1"),
        trajectory("broken 1"),
        trajectory("0 1"),
        trajectory("1 1", stop_reason=StopReason.MAX_TURNS),
    )
    kept = [0, 2, 3]
    group = TrajectoryGroup(references=(reference,), trajectories=(attempts[0], attempts[2], attempts[2], attempts[3]))
    given = group_rewards(program, program.score_group(group), kept)
    assert given.terms == ("correct", "match", "off", "exit")
    assert_close(given.weights, tensor([0.7, 0.3, 0.0, 1.0]))
    assert_close(given.scores, tensor([[1.0, 1.0, 0, 0], [0, 0.2, 0, 0], [0, 0, 0, 0.05]]))
    assert_close(given.scores @ given.weights, given.rewards)
    assert given.trajectories == (attempts[0], attempts[2], attempts[3])
