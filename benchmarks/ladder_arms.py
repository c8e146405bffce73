"""The arms of the ladder, in the order in which a seed runs them."""

from __future__ import annotations

from dataclasses import dataclass

_STEPWISE = "teacher/stepwise"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One row of the table.

    Attributes:
        name: Of the row; its files are named by it.
        part: Of the table.
        configs: As `mentor-pl compare` takes them: overlays follow behind a `+`.
        against: The arm that its paired differences are taken to.
        arguments: Further ones for `mentor-pl fit`; `{runs}` is the folder of the runs.
        needs: Name of the arm whose student, of the same seed, it starts from or is judged by; that student is trained first.
    """

    name: str
    part: str
    configs: str
    against: str = "MENTOR exact"
    arguments: tuple[str, ...] = ()
    needs: str | None = None

    @property
    def slug(self) -> str:
        """Name of its files."""
        return "-".join("".join(c if c.isalnum() else " " for c in self.name.lower()).split())


_BASE = "the methods"
_TEACHER = "what the teacher adds, parallel teacher"
_COPIED = "what the teacher adds, stepwise teacher"
_CREDIT = "credit and reward"
_LOSSES = "losses, four steps per round"
_CHAINS = "with chains of three among the training prompts"
_TOKENS = "judged token by token"
_AFTER = "exploration behind imitation"
_MORE = "further arms"
_GRPO = "GRPO, four steps"


def _addition(name: str, overlay: str, part: str) -> Arm:
    return Arm(name=name, part=part, configs=f"mentor+{overlay}")


def _copied(name: str, overlay: str) -> Arm:
    return Arm(name=f"{name}, stepwise", part=_COPIED, configs=f"mentor+{_STEPWISE}+{overlay}")


def _loss(name: str, overlay: str) -> Arm:
    return Arm(name=name, part=_LOSSES, configs=f"mentor+arms/four_steps+{overlay}", against=_GRPO)


def _chains(name: str, configs: str, teacher: str) -> Arm:
    # As many updates as the others, though an epoch is longer.
    arguments = (
        f"--data.references={{runs}}/data/chains.{teacher}.jsonl",
        *("--trainer.max_epochs=10", "--trainer.max_steps=80"),
    )
    return Arm(name=name, part=_CHAINS, configs=configs, arguments=arguments)


def _behind(name: str, configs: str, start: Arm, *arguments: str) -> Arm:
    student = f"--model.student.init_args.path={{runs}}/students/{start.slug}.seed{{seed}}/student"
    return Arm(name=name, part=_AFTER, configs=configs, arguments=(student, *arguments), needs=start.name)


def _judged(name: str, weights: str) -> Arm:
    path = f"{{runs}}/students/{_STEPWISE_SFT.slug}.seed{{seed}}/student"
    student = f"{{class_path: FullStudent, init_args: {{path: '{path}'}}}}"
    teacher = f"{{class_path: ModelTeacher, init_args: {{model: {student}}}}}"
    distillation = f"--data.guidance.distillation={{teacher: {teacher}, {weights}}}"
    return Arm(name=name, part=_TOKENS, configs="mentor", arguments=(distillation,), needs=_STEPWISE_SFT.name)


_STEPWISE_SFT = Arm(name="SFT, stepwise", part=_BASE, configs=f"sft+{_STEPWISE}")
_CHAINS_SFT = _chains("chains, SFT, stepwise", "sft", "stepwise")

ARMS = (
    Arm(name="SFT", part=_BASE, configs="sft"),
    _STEPWISE_SFT,
    Arm(name="MENTOR exact", part=_BASE, configs="mentor"),
    Arm(name="sparse", part=_BASE, configs="sparse"),
    Arm(name="strict", part=_BASE, configs="mentor+arms/strict"),
    Arm(name="MENTOR flexible", part=_BASE, configs="mentor+arms/flexible"),
    _chains(
        "chains, teacher where failed and hints, stepwise",
        "mentor+guidance/teacher_where_failed+guidance/hints",
        "stepwise",
    ),
    _chains("chains", "mentor", "parallel"),
    _CHAINS_SFT,
    _chains("chains, imitation, annealed, stepwise", "mentor+guidance/imitation", "stepwise"),
    _behind("SFT, stepwise, then MENTOR", "mentor", _STEPWISE_SFT),
    _behind("SFT, stepwise, then sparse", "sparse", _STEPWISE_SFT),
    _behind("chains, SFT, stepwise, then MENTOR", "mentor", _CHAINS_SFT, *_chains("", "", "stepwise").arguments),
    _addition("hints", "guidance/hints", _TEACHER),
    _copied("teacher where failed", "guidance/teacher_where_failed"),
    _copied("imitation, annealed", "guidance/imitation"),
    _addition("turn-level credit", "advantages/teacher_aligned", _CREDIT),
    _judged("distillation beside the reward", "weight: 0.1"),
    _judged("distillation alone", "reward_weight: 0.0"),
    _chains("chains, curriculum", "mentor+guidance/curriculum", "parallel"),
    _addition("curriculum", "guidance/curriculum", _CREDIT),
    _addition("difficulty pools", "guidance/difficulty_pools", _CREDIT),
    _addition("refill", "guidance/dynamic_sampling", _CREDIT),
    _addition("GDPO", "advantages/gdpo", _CREDIT),
    _addition("teacher where failed", "guidance/teacher_where_failed", _TEACHER),
    _addition("economy", "arms/economy", _CREDIT),
    _addition("imitation, annealed", "guidance/imitation", _TEACHER),
    _copied("teacher always", "guidance/teacher_always"),
    _addition("teacher always", "guidance/teacher_always", _TEACHER),
    _copied("hints", "guidance/hints"),
    Arm(name=_GRPO, part=_LOSSES, configs="mentor+arms/four_steps"),
    _loss("Dr. GRPO", "loss/dr_grpo"),
    _loss("DAPO", "loss/dapo"),
    _loss("GSPO", "loss/gspo"),
    _loss("CISPO", "loss/cispo"),
    _loss("RLOO", "loss/rloo"),
    _loss("REINFORCE++", "loss/reinforce_plus_plus"),
    _addition("MaxRL", "advantages/maxrl", _MORE),
    _addition("GiGPO", "advantages/gigpo", _MORE),
    _addition("MT-GRPO", "advantages/mt_grpo", _MORE),
    _addition("entropy bonus", "arms/entropy", _MORE),
)
