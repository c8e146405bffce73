"""The work of a training step that both sides of `step_vs_trl` do: prompts, a tool, a reward, and every sampled token."""

from __future__ import annotations

import argparse
import inspect
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

SYSTEM = "You are a careful assistant. Think about the question, call the tool when you need arithmetic, then give the final answer."
_WORDS = (
    "so we need to sum the two numbers given in the problem and then report the total count of boxes that were sold during both "
    "days of the week"
).split()


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Size of a step.

    Attributes:
        prompts: Prompts per step.
        group_size: Trajectories per prompt.
        micro_rows: Trajectories in one forward and backward pass.
        max_turns: Assistant turns of a row at most, the answer included; a row has two of them or more, up to this.
        turn_tokens: About how many words a turn has before its call or answer (log-normal median).
        max_completion_tokens: Budget of a trajectory; no row reaches it.
    """

    prompts: int
    group_size: int
    micro_rows: int
    max_turns: int = 3
    turn_tokens: int = 20
    max_completion_tokens: int = 400

    @property
    def rows(self) -> int:
        """Trajectories per step."""
        return self.prompts * self.group_size

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add an option for every attribute."""
        parser.add_argument("--prompts", type=int, default=4)
        parser.add_argument("--group-size", type=int, default=8)
        parser.add_argument("--micro-rows", type=int, default=8)
        parser.add_argument("--max-turns", type=int, default=3)
        parser.add_argument("--turn-tokens", type=int, default=20)
        parser.add_argument("--max-completion-tokens", type=int, default=400)

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> Workload:
        """Read what `add_arguments` added."""
        return cls(**{name: getattr(arguments, name) for name in cls.__dataclass_fields__})


def add(a: int, b: int):  # noqa: ANN201 - a return type would show in one side's tool description only
    """Add two integers.

    Args:
        a: the first integer
        b: the second integer
    """
    return int(a) + int(b)


def prompt(index: int) -> list[dict[str, str]]:
    """Return a prompt's messages; prompts differ in length."""
    chance = random.Random(f"prompt/{index}")
    question = (
        f"Problem {index}: A shop sold {chance.randint(10, 99)} boxes on Monday and {chance.randint(10, 99)} boxes on Tuesday"
        + " and the owner counted them again" * chance.randint(0, 3)
        + ". How many boxes in total? Use the tool."
    )
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]


def script(row: int, tokenizer: PreTrainedTokenizerBase, work: Workload) -> list[list[int]]:
    """Return the tokens that a row samples, one list per turn, each with its stop token.

    Every turn but the last calls `add(row, turn)`, so that a conversation tells whose it is and how far it got.
    """
    chance = random.Random(f"script/{row}")

    def words() -> str:
        return " ".join(
            chance.choice(_WORDS) for _ in range(max(2, int(chance.lognormvariate(0, 0.6) * work.turn_tokens)))
        )

    calls = chance.randint(1, work.max_turns - 1)
    turns = [
        f'{words()}\n<tool_call>\n{{"name": "add", "arguments": {{"a": {row}, "b": {turn}}}}}\n</tool_call>'
        for turn in range(calls)
    ]
    turns.append(f"{words()}. The answer is {row + calls - 1}.")
    end: Any = tokenizer.eos_token_id
    return [[*tokenizer.encode(turn, add_special_tokens=False), end] for turn in turns]


def row_and_turn(conversation: str) -> tuple[int, int] | None:
    """Return whose turn is due in a conversation, and which, from the last call in it; None before the first."""
    calls = re.findall(r'"a": (\d+), "b": (\d+)\}\}', conversation)
    return (int(calls[-1][0]), int(calls[-1][1]) + 1) if calls else None


def reward(final_text: str) -> float:
    """Score an answer: rows of a group get different values, and both sides the same."""
    return len(final_text.split()) % 5 / 4


def prepare_student(model: str, folder: Path) -> None:
    """Write the student's folder: model and tokenizer, with the one chat template that TRL knows and ours reads.

    Args:
        model: `tiny`, a Llama of 3.4M random weights, or `smollm2`.
        folder: To be made.
    """
    made, tokenizer = _tiny() if model == "tiny" else _smollm2()
    tokenizer.chat_template = _chat_template()
    made.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _chat_template() -> str:
    package = find_spec("trl")
    if package is None or package.origin is None:
        raise SystemExit("this benchmark needs TRL: pip install 'mentor-pl[bench]'")
    return (Path(package.origin).parent / "chat_templates" / "qwen2_5.jinja").read_text()


def _tiny() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>"]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        [_chat_template(), inspect.getsource(argparse), SYSTEM, " ".join(_WORDS * 50)],
        trainers.BpeTrainer(vocab_size=2048, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=2048,
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    return LlamaForCausalLM(config), tokenizer


def _smollm2() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    from mentor_pl_smollm2 import SmolLM2Student

    student = SmolLM2Student()
    return student.load_model(), student.load_tokenizer()


def peak_rss_mib() -> float:
    """Return the process's highest resident memory since `forget_peak`."""
    return _status("VmHWM")


def forget_peak() -> float:
    """Let the peak start from what is resident now, and return that, in MiB."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) / 1024


def side_arguments(
    doc: str | None, extend: Callable[[argparse.ArgumentParser], None] | None = None
) -> argparse.Namespace:
    """Parse what either side is told."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="of the student")
    parser.add_argument("--output", type=Path, required=True, help="JSON file to be written")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--steps", type=int, default=2, help="measured steps")
    parser.add_argument("--warm-up", type=int, default=1, help="steps before them that are not measured")
    parser.add_argument("--kl-weight", type=float, default=0.0)
    parser.add_argument("--gradient-checkpointing", action="store_true")
    Workload.add_arguments(parser)
    if extend is not None:
        extend(parser)
    return parser.parse_args()
