"""Make the embedded tokenizer and starting student: `python scripts/make_embedded_student.py` (minutes on one core, seeded).

The student is an ordinary Llama in an ordinary Hugging Face folder. It is warmed up, as a pretrained model would be, on conversations that
show the form of everything (the chat template, tool calls, results, boxed answers) and are mostly wrong: see `toolmath/novice.py`.
"""

from __future__ import annotations

import argparse
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import mentor_pl.embedded
from mentor_pl.chat.protocol import ChatProtocol
from mentor_pl.embedded.toolmath import Style, draw_problem, draw_splits
from mentor_pl.embedded.toolmath.novice import Habits, solve_badly
from mentor_pl.embedded.toolmath.operations import LARGE, SMALL
from mentor_pl.embedded.toolmath.teachers import OFFERED_TOOLS
from mentor_pl.embedded.toolmath.wording import ALL_WORDINGS
from mentor_pl.messages import Message, ToolResult

STUDENT = Path(mentor_pl.embedded.__file__).parent / "student"
TEMPLATE = Path(__file__).parent / "embedded_chat_template.jinja"

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL_TOKENS = [PAD, START, END, "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"]
VOCABULARY_SIZE = 768
CONTEXT_TOKENS = 1024

# The fixed parts of a call are one token each, and digits stand alone, so that a number is copied digit by digit.
_PIECES = (
    r'\n?\{"name": "|", "arguments": \{|"(?:a|b|x|base|exponent|decimals|numbers)": \[?|\]?\}\}\n?|\\boxed\{'
    r"|, |\d| ?[A-Za-z_]+|[^\sA-Za-z\d]|\s"
)

_WARM_UP_STYLES = {
    size: Style(lengths=(1, 1, 2, 2, 3), size=sizes, wordings=ALL_WORDINGS)
    for size, sizes in (("small", SMALL), ("large", LARGE))
}
_LARGE_SHARE = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How the student is made.

    Attributes:
        hidden_size: Width of the model.
        num_layers: Its depth.
        steps: Optimiser steps.
        batch_size: Conversations a step.
        learning_rate: At its peak, after 50 steps; falls linearly to a twentieth.
        seed: Decides everything.
    """

    hidden_size: int = 128
    num_layers: int = 3
    steps: int = 2500
    batch_size: int = 32
    learning_rate: float = 3e-3
    seed: int = 0


Conversation = tuple[str, tuple[Message, ...]]


def conversations(seed: int) -> Iterator[Conversation]:
    """Yield questions with a novice's solutions, without end; none of the questions stands in any split."""
    reserved = {problem.question for split in draw_splits().values() for problem in split}
    rng, habits = random.Random(seed), Habits()
    while True:
        problem = draw_problem(rng, _WARM_UP_STYLES["large" if rng.random() < _LARGE_SHARE else "small"])
        if problem.question not in reserved:
            yield problem.question, solve_badly(problem, rng, habits)


def make_tokenizer(num_conversations: int = 6000) -> PreTrainedTokenizerFast:
    """Train the tokenizer on what prompts, tools and novices say."""
    # Repeated, so that every name becomes one token: each prompt lists them all.
    texts = [" ".join(["system\nTools:", *(tool.name for tool in OFFERED_TOOLS)])] * 1000
    for question, messages in itertools.islice(conversations(seed=1), num_conversations):
        texts.append(f"user\n{question}")
        for message in messages:
            texts.append(f"{message.role}\n{message.content}")
            texts += [f'\n{{"name": "{call.name}", "arguments": {{1}}}}\n1]}}}}\n' for call in message.tool_calls]
            texts += [
                f'"{name}": [1' if isinstance(value, list) else f'"{name}": 1'
                for call in message.tool_calls
                for name, value in call.arguments.items()
            ]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(_PIECES), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=END,
        pad_token=PAD,
        padding_side="left",
        model_max_length=CONTEXT_TOKENS,
        extra_special_tokens=[token for token in SPECIAL_TOKENS if token not in (END, PAD)],
    )
    tokenizer.chat_template = TEMPLATE.read_text(encoding="utf-8").rstrip("\n")
    return tokenizer


def make_model(tokenizer: PreTrainedTokenizerFast, recipe: Recipe) -> LlamaForCausalLM:
    """Build the model with random weights."""
    vocabulary = tokenizer.get_vocab()
    end, pad = vocabulary[END], vocabulary[PAD]
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden_size,
        intermediate_size=3 * recipe.hidden_size,
        num_hidden_layers=recipe.num_layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT_TOKENS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=pad,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(eos_token_id=end, pad_token_id=pad)
    return model


def encode(chat: ChatProtocol, conversation: Conversation) -> tuple[list[int], list[bool]]:
    """Return the tokens of a conversation, and for each whether an assistant wrote it."""
    question, messages = conversation
    ids = list(chat.prompt_ids([Message(role="user", content=question)], OFFERED_TOOLS))
    learned = [False] * len(ids)
    for position, message in enumerate(messages):
        if message.role != "assistant":
            continue
        piece = chat.assistant_ids(message)
        ids += piece
        learned += [True] * len(piece)
        if message.tool_calls:
            count = len(message.tool_calls)
            results = [
                ToolResult(call_id=result.tool_call_id or "", content=result.content)
                for result in messages[position + 1 : position + 1 + count]
            ]
            piece = chat.tool_result_ids(message.tool_calls, results)
            ids += piece
            learned += [False] * len(piece)
    return ids, learned


def batches(chat: ChatProtocol, recipe: Recipe) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield token ids and labels, [B, T] each; labels are -100 where nothing is learned."""
    pad, stream = chat.tokenizer.pad_token_id, conversations(recipe.seed + 7)
    rng = random.Random(recipe.seed)
    while True:
        # Rows of similar length share a batch: padding costs as much as text.
        pool = sorted((encode(chat, next(stream)) for _ in range(8 * recipe.batch_size)), key=lambda row: len(row[0]))
        starts = list(range(0, len(pool), recipe.batch_size))
        rng.shuffle(starts)
        for start in starts:
            rows = pool[start : start + recipe.batch_size]
            ids = torch.full((len(rows), max(len(tokens) for tokens, _ in rows)), pad)
            labels = torch.full_like(ids, -100)
            for row, (tokens, learned) in enumerate(rows):
                ids[row, : len(tokens)] = torch.tensor(tokens)
                labels[row, : len(tokens)] = torch.where(torch.tensor(learned), torch.tensor(tokens), -100)
            yield ids, labels


def warm_up(model: LlamaForCausalLM, chat: ChatProtocol, recipe: Recipe) -> None:
    """Teach the model to talk as a novice does."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    losses: list[float] = []
    model.train()
    for step, (ids, labels) in enumerate(itertools.islice(batches(chat, recipe), recipe.steps)):
        rate = recipe.learning_rate * min(1, (step + 1) / 50) * (0.05 + 0.95 * (1 - step / recipe.steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        # Padding lies right of everything, so that causal attention needs no mask.
        hidden = model.model(input_ids=ids).last_hidden_state[:, :-1]
        targets = labels[:, 1:]
        learned = targets != -100
        loss = cross_entropy(model.lm_head(hidden[learned]), targets[learned])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        if (step + 1) % 100 == 0:
            print(f"step {step + 1}: loss {sum(losses[-100:]) / 100:.3f} nats a token", flush=True)
    model.eval()


def main() -> None:
    """Make both and save them as one folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=STUDENT, help="folder to write")
    parser.add_argument("--seed", type=int, default=Recipe().seed)
    parser.add_argument("--steps", type=int, default=Recipe().steps)
    arguments = parser.parse_args()
    recipe = Recipe(seed=arguments.seed, steps=arguments.steps)
    torch.manual_seed(recipe.seed)
    torch.set_num_threads(1)  # the number of threads decides the order of sums, and so the weights
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(arguments.output)
    model = make_model(tokenizer, recipe)
    print(f"{len(tokenizer)} tokens, {model.num_parameters() / 1e6:.2f} million parameters")
    warm_up(model, ChatProtocol(tokenizer), recipe)
    model.save_pretrained(arguments.output)


if __name__ == "__main__":
    main()
