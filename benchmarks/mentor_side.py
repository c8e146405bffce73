"""Our side of `step_vs_trl`: the product's own data module, engine, module and Lightning's Trainer, on scripted tokens.

The sampler runs and then the scripted token is taken in place of the one it drew. Nothing else is replaced.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import torch
from lightning.pytorch import Callback, Trainer
from transformers.utils.chat_template_utils import get_json_schema

from benchmarks import step_workload
from benchmarks.step_workload import Workload
from mentor_pl.chat.protocol import ChatProtocol
from mentor_pl.engines import hf_generate
from mentor_pl.engines.base import EngineStatistics, RolloutEngine, SamplingParams
from mentor_pl.engines.cascade import session as cascade_session
from mentor_pl.engines.cascade.engine import CascadeEngine
from mentor_pl.engines.hf_generate import HFGenerateEngine
from mentor_pl.engines.sampling import sample_tokens, uniforms
from mentor_pl.files.references import write_references
from mentor_pl.losses import GRPOLoss
from mentor_pl.messages import Message, ToolCall, ToolResult, ToolSpec
from mentor_pl.reference import Reference
from mentor_pl.rewards.base import RewardComponent
from mentor_pl.rewards.program import RewardProgram, RewardTerm
from mentor_pl.rollout.limits import RolloutLimits
from mentor_pl.students.full import FullStudent
from mentor_pl.tools.base import ToolBackend, ToolSession
from mentor_pl.training.datamodule import MentorDataModule
from mentor_pl.training.module import MentorModule
from mentor_pl.training.rounds import RoundPlan
from mentor_pl.training.stream import RolloutStream
from mentor_pl.trajectory import Trajectory

ENGINES: dict[str, type[RolloutEngine]] = {"cascade": CascadeEngine, "plain": HFGenerateEngine}


class AddTool(ToolBackend):
    """The workload's tool, in this process as on the other side."""

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """One tool, described as the other side describes it."""
        return (ToolSpec(**get_json_schema(step_workload.add)["function"]),)

    def session(self, reference: Reference | None = None) -> AbstractContextManager[ToolSession]:
        """Nothing is kept between calls."""
        return nullcontext(ToolSession(run=self._run))

    def _run(self, call: ToolCall) -> ToolResult:
        return ToolResult(call_id=call.call_id, content=str(step_workload.add(**call.arguments)))


class ScriptedReward(RewardComponent):
    """The workload's reward."""

    def score(self, trajectory: Trajectory, references: Sequence[Reference]) -> float:
        """See `RewardComponent.score`."""
        return step_workload.reward(trajectory.final_text)


class Script:
    """Every row's conversation; stands in for the engine's sampler."""

    def __init__(self, work: Workload, protocol: ChatProtocol) -> None:
        rows = [self._conversation(row, work, protocol) for row in range(work.rows)]
        self.sampled_tokens = sum(sampled for _, sampled in rows)
        self._table = torch.zeros(work.rows, max(len(ids) for ids, _ in rows), dtype=torch.long)
        for row, (ids, _) in enumerate(rows):
            self._table[row, : len(ids)] = torch.tensor(ids)
        self._due = self._table[:, 0]

    @staticmethod
    def _conversation(row: int, work: Workload, protocol: ChatProtocol) -> tuple[list[int], int]:
        messages = [Message(role=m["role"], content=m["content"]) for m in step_workload.prompt(row // work.group_size)]  # type: ignore[arg-type]
        ids = [*protocol.prompt_ids(messages, AddTool().specs)]
        turns = step_workload.script(row, protocol.tokenizer, work)
        call = ToolCall(call_id="call", name="add")
        for turn, sampled in enumerate(turns):
            ids += sampled
            if turn < len(turns) - 1:
                ids += protocol.tool_result_ids([call], [ToolResult(call_id="call", content=str(row + turn))])
        return ids, sum(map(len, turns))

    def uniforms(self, seeds: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Note which tokens are due: a row's seed is its number here."""
        # A plain engine goes on past a row's end until its whole batch is done.
        self._due = self._table[seeds, positions.clamp(max=self._table.shape[1] - 1)]
        return uniforms(seeds, positions)

    def sample_tokens(
        self, logits: torch.Tensor, sampling: SamplingParams, numbers: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Sample, then return the scripted tokens with their log-probabilities (temperature 1, no filters)."""
        drawn, logprobs = sample_tokens(logits, sampling, numbers)
        due = logits.gather(1, self._due[:, None]).float() - logits.gather(1, drawn[:, None]).float()
        return self._due, logprobs + due[:, 0]

    @contextmanager
    def forced(self, work: Workload) -> Iterator[None]:
        """Put the script into both engines."""
        taken = {"uniforms": self.uniforms, "sample_tokens": self.sample_tokens}
        with (
            mock.patch.multiple(cascade_session, **taken),
            mock.patch.multiple(hf_generate, **taken),
            mock.patch("mentor_pl.rollout.student_episode.sample_seed", functools.partial(_row_number, work)),
        ):
            yield


def _row_number(work: Workload, _: int, reference_id: str, sample_index: int) -> int:
    return int(reference_id) * work.group_size + sample_index


class StepClock(Callback):
    """CPU seconds of every round's rollout and of every step as a whole."""

    def __init__(self, warm_up: int) -> None:
        self._warm_up = warm_up
        self.rollout: list[float] = []
        self.step: list[float] = []
        self.gradient_norm = 0.0
        self.logged: list[dict[str, float]] = []
        self.statistics: list[EngineStatistics] = []
        self._began = 0.0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Time the stream's rollouts, and keep what their sessions counted."""
        draw = RolloutStream.draw

        def timed(stream: RolloutStream, indices: Sequence[int]) -> Any:
            began = time.process_time()
            out = draw(stream, indices)
            self.rollout.append(time.process_time() - began)
            return out

        with mock.patch.object(RolloutStream, "draw", timed):
            yield

    @contextmanager
    def counting(self, engine: RolloutEngine) -> Iterator[None]:
        """Keep what the engine's sessions counted."""
        plain = engine.session

        @contextmanager
        def counted(*arguments: Any) -> Iterator[Any]:
            with plain(*arguments) as session:
                yield session
                self.statistics.append(session.statistics)

        with mock.patch.object(engine, "session", counted):
            yield

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Start the clock."""
        step_workload.forget_peak()
        self._began = time.process_time()

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: Any, optimizer: Any) -> None:
        """Take the gradient's norm of the first step."""
        if trainer.global_step == 0:
            gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
            self.gradient_norm = float(torch.nn.utils.get_total_norm(gradients))

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Close a step."""
        if trainer.global_step > len(self.step):
            self.step.append(time.process_time() - self._began)
            self.logged.append({name: float(value) for name, value in trainer.callback_metrics.items()})
            if len(self.step) == self._warm_up:
                step_workload.forget_peak()
            self._began = time.process_time()


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train for the steps of the warm-up and then for the measured ones."""
    work = Workload.from_arguments(arguments)
    engine = ENGINES[arguments.engine]()
    module = MentorModule(
        student=FullStudent(str(arguments.folder), gradient_checkpointing=arguments.gradient_checkpointing),
        engine=engine,
        loss=GRPOLoss(kl_weight=arguments.kl_weight),
        optimizer=functools.partial(torch.optim.AdamW, lr=1e-6, weight_decay=0.0),
        packing=arguments.packing,
    )
    clock = StepClock(arguments.warm_up)
    with TemporaryDirectory() as folder:
        data = MentorDataModule(
            references=_write_references(Path(folder), work),
            tools=[AddTool()],
            reward=RewardProgram(terms=[RewardTerm(name="scripted", component=ScriptedReward(), weight=1.0)]),
            round=RoundPlan(prompts_per_round=work.prompts, group_size=work.group_size),
            limits=RolloutLimits(max_turns=8, max_completion_tokens=work.max_completion_tokens),
        )
        trainer = Trainer(
            accelerator="cpu",
            devices=1,
            precision="bf16-mixed" if arguments.dtype == "bfloat16" else "32-true",
            max_epochs=arguments.warm_up + arguments.steps,
            accumulate_grad_batches=work.rows // work.micro_rows,
            gradient_clip_val=1.0,
            limit_val_batches=0,
            use_distributed_sampler=False,
            log_every_n_steps=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[clock],
            default_root_dir=folder,
        )
        script = Script(work, ChatProtocol(module.tokenizer))
        with script.forced(work), clock.watching(), clock.counting(engine):
            trainer.fit(module, datamodule=data)
    assert clock.statistics[-1].sampled_tokens == script.sampled_tokens, "a row left its script"
    rollout = statistics.median(clock.rollout[arguments.warm_up :])
    step = statistics.median(clock.step[arguments.warm_up :])
    return {
        "step_cpu_s": step,
        "rollout_cpu_s": rollout,
        "train_cpu_s": step - rollout,
        "sampled_tokens": clock.statistics[-1].sampled_tokens,
        "prefilled_tokens": clock.statistics[-1].prefill_tokens,
        "row_steps": clock.statistics[-1].row_steps,
        "peak_rss_mib": step_workload.peak_rss_mib(),
        "first_gradient_norm": clock.gradient_norm,
        "all_step_cpu_s": clock.step,
        "all_rollout_cpu_s": clock.rollout,
        "logged": clock.logged[-1],
    }


def _write_references(folder: Path, work: Workload) -> str:
    references = [
        Reference(
            reference_id=str(index),
            prompt=tuple(Message(role=m["role"], content=m["content"]) for m in step_workload.prompt(index)),  # type: ignore[arg-type]
            answer="0",
            tools=AddTool().specs,
            tool_calls=(ToolCall(call_id="call", name="add", arguments={"a": 0, "b": 0}),),
        )
        for index in range(work.prompts)
    ]
    write_references(folder / "references.jsonl", references)
    return str(folder / "references.jsonl")


def _more_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--engine", default="cascade", choices=list(ENGINES))
    parser.add_argument("--packing", action=argparse.BooleanOptionalAction, default=None)


def main() -> None:
    """Measure and write JSON."""
    arguments = step_workload.side_arguments(__doc__, _more_arguments)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    arguments.output.write_text(json.dumps(measure(arguments), indent=2))


if __name__ == "__main__":
    main()
