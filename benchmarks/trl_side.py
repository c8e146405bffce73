"""TRL's side of `step_vs_trl`: `GRPOTrainer(tools=[add])` with transformers' `generate`, on scripted tokens.

A logits processor makes the scripted token certain; softmax and draw run as they do otherwise. Needs the extra `bench`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from tempfile import TemporaryDirectory
from typing import Any

import torch
import transformers
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, LogitsProcessor, LogitsProcessorList, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from benchmarks import step_workload
from benchmarks.step_workload import Workload


class Forced(LogitsProcessor):
    """Makes the scripted token of each row certain; a row that is done goes on with stop tokens, as it would anyway."""

    def __init__(self, turns: list[list[int]], stop: int) -> None:
        longest = max(map(len, turns))
        self._due = torch.tensor([turn + [stop] * (longest - len(turn)) for turn in turns])
        self._step = 0

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Raise the scripted tokens' logits beyond all others."""
        due = self._due[:, self._step, None]
        self._step += 1
        return scores.scatter(1, due, 1e9)


class StepClock(TrainerCallback):
    """CPU seconds of every step."""

    def __init__(self, warm_up: int) -> None:
        self._warm_up = warm_up
        self.step: list[float] = []
        self._began = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock."""
        if not self.step:
            step_workload.forget_peak()
        self._began = time.process_time()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Close a step."""
        self.step.append(time.process_time() - self._began)
        if len(self.step) == self._warm_up:
            step_workload.forget_peak()


class ScriptedTrainer(GRPOTrainer):
    """Times its own rollouts and counts what they compute."""

    work: Workload

    def _generate(self, prompts: list[Any]) -> Any:
        began = time.process_time()
        out = super()._generate(prompts)
        self.rollout_cpu_s.append(time.process_time() - began)
        self.counts.append(self.count)
        self.count = dict.fromkeys(self.count, 0)
        return out

    def script(self, work: Workload) -> None:
        """Force every row's tokens from now on."""
        self.rollout_cpu_s: list[float] = []
        self.counts: list[dict[str, int]] = []
        self.count = {"prefilled_tokens": 0, "row_steps": 0, "sampled_tokens": 0}
        tokenizer: Any = self.processing_class
        turns = [step_workload.script(row, tokenizer, work) for row in range(work.rows)]
        stop = tokenizer.eos_token_id
        model: Any = self.model
        generate = model.generate

        def scripted(input_ids: Any, attention_mask: Any, **options: Any) -> Any:
            due: list[list[int]] = []
            for index, (ids, mask) in enumerate(zip(input_ids, attention_mask, strict=True)):
                row, turn = step_workload.row_and_turn(tokenizer.decode(ids[mask.bool()])) or (index, 0)
                due.append(turns[row][turn])
            out = generate(
                input_ids=input_ids,
                attention_mask=attention_mask,
                logits_processor=LogitsProcessorList([Forced(due, stop)]),
                **options,
            )
            self.count["prefilled_tokens"] += input_ids.numel()
            self.count["row_steps"] += len(due) * (out.shape[1] - input_ids.shape[1])
            self.count["sampled_tokens"] += sum(map(len, due))
            return out

        model.generate = scripted


def _reward(completions: list[list[dict[str, str]]], **_: Any) -> list[float]:
    return [step_workload.reward(completion[-1]["content"]) for completion in completions]


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train for the steps of the warm-up and then for the measured ones."""
    work = Workload.from_arguments(arguments)
    tokenizer = AutoTokenizer.from_pretrained(arguments.folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(arguments.folder, dtype=torch.float32, attn_implementation="sdpa")
    steps = arguments.warm_up + arguments.steps
    clock = StepClock(arguments.warm_up)
    with TemporaryDirectory() as folder:
        config = GRPOConfig(
            output_dir=folder,
            use_cpu=True,
            bf16=arguments.dtype == "bfloat16",
            max_steps=steps,
            per_device_train_batch_size=work.micro_rows,
            gradient_accumulation_steps=work.rows // work.micro_rows,
            num_generations=work.group_size,
            max_completion_length=work.max_completion_tokens,
            max_tool_calling_iterations=8,
            gradient_checkpointing=arguments.gradient_checkpointing,
            beta=arguments.kl_weight,
            learning_rate=1e-6,
            lr_scheduler_type="constant",
            max_grad_norm=1.0,
            temperature=1.0,
            shuffle_dataset=False,
            logging_steps=1,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
        )
        trainer = ScriptedTrainer(
            model=model,
            args=config,
            train_dataset=Dataset.from_dict({"prompt": [step_workload.prompt(i) for i in range(work.prompts)] * steps}),
            reward_funcs=_reward,
            processing_class=tokenizer,
            tools=[step_workload.add],
            callbacks=[clock],
        )
        trainer.script(work)
        trainer.train()
    step = statistics.median(clock.step[arguments.warm_up :])
    rollout = statistics.median(trainer.rollout_cpu_s[arguments.warm_up :])
    return {
        "step_cpu_s": step,
        "rollout_cpu_s": rollout,
        "train_cpu_s": step - rollout,
        **trainer.counts[-1],
        "peak_rss_mib": step_workload.peak_rss_mib(),
        "first_gradient_norm": trainer.state.log_history[0]["grad_norm"],
        "all_step_cpu_s": clock.step,
        "all_rollout_cpu_s": trainer.rollout_cpu_s,
        "logged": {k: v for k, v in trainer.state.log_history[-2].items() if isinstance(v, int | float)},
    }


def main() -> None:
    """Measure and write JSON."""
    arguments = step_workload.side_arguments(__doc__)
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    arguments.output.write_text(json.dumps(measure(arguments), indent=2))


if __name__ == "__main__":
    main()
