"""MENTOR in one file: the whole loop in plain torch, from public parts of mentor_pl.

    python examples/minimal.py [UPDATES]

The student learns the embedded task with real tool calls; a minute on one CPU core shows it. This is
what `mentor-pl fit` does, without checkpoints, several ranks, packing, evaluation splits and logs.
"""

from __future__ import annotations

import random
import sys
from statistics import fmean

import torch
from torch.nn.utils import clip_grad_norm_

from mentor_pl.chat.protocol import ChatProtocol
from mentor_pl.embedded import resolve
from mentor_pl.engines.auto import AutoEngine
from mentor_pl.engines.base import SamplingParams
from mentor_pl.files.references import read_references
from mentor_pl.reference import group_by_prompt
from mentor_pl.rewards.correct import Correct
from mentor_pl.rewards.known_tools import KnownTools
from mentor_pl.rewards.program import RewardProgram, RewardTerm
from mentor_pl.rewards.tool_match import ToolMatch
from mentor_pl.rollout.limits import RolloutLimits
from mentor_pl.rollout.runner import Prompt, RolloutRunner
from mentor_pl.rollout.world import World
from mentor_pl.students.full import FullStudent
from mentor_pl.tools.functions import PythonFunctions
from mentor_pl.tools.toolbox import ToolBox

PROMPTS_PER_ROUND, GROUP_SIZE = 16, 8
CLIP, MIN_STD = 0.2, 0.3

# The composite, teacher-guided reward. A wrong answer is paid a fifth of the teacher's tools.
REWARD = RewardProgram(
    terms=[
        RewardTerm(name="correct", component=Correct(), weight=0.7),
        RewardTerm(name="tool_match", component=ToolMatch(), weight=0.3, gate="correct", gate_floor=0.2),
        RewardTerm(name="known_tools", component=KnownTools(), weight=0.1),
    ]
)


def advantages(rewards: torch.Tensor) -> torch.Tensor:
    """Compare the trajectories of one prompt with each other: (reward - mean) / std, [G]."""
    return (rewards - rewards.mean()) / rewards.std().clamp(min=MIN_STD)


def grpo_loss(logprobs: torch.Tensor, old: torch.Tensor, advantage: torch.Tensor) -> torch.Tensor:
    """Clipped policy surrogate per token, [N]: arXiv:2402.03300 eq. 3 without its KL term."""
    ratio = torch.exp(logprobs - old)
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - CLIP, 1 + CLIP) * advantage)


def token_logprobs(model: torch.nn.Module, ids: list[int]) -> torch.Tensor:
    """Return the log-probability of each token but the first, [L - 1]."""
    tokens = torch.tensor(ids)
    logits = model(input_ids=tokens[None]).logits[0, :-1].float()
    return torch.log_softmax(logits, dim=-1).gather(1, tokens[1:, None]).squeeze(1)


def train(updates: int, seed: int = 0) -> list[float]:
    """Train the embedded student.

    Returns:
        The mean reward of each round.
    """
    loader = FullStudent("embedded:student")
    model = loader.load_model()
    tools = ToolBox([PythonFunctions("mentor_pl.tools.arithmetic")])
    runner = RolloutRunner(
        protocol=ChatProtocol(loader.load_tokenizer()),
        world=World(toolbox=tools, limits=RolloutLimits(max_turns=8, max_tool_calls=7, max_completion_tokens=400)),
        max_context=model.config.max_position_embeddings,
    )
    prompts: list[Prompt] = group_by_prompt(read_references(resolve("embedded:train.parallel.jsonl")))
    engine = AutoEngine()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2.5e-4, betas=(0.9, 0.95), weight_decay=0.0)
    draw = random.Random(seed)
    history: list[float] = []

    for update in range(updates):
        # 1. Explore: a group of attempts at each prompt, with real tool calls.
        with torch.no_grad():
            engine.sync(model.eval(), update)
            groups = runner.run(
                engine,
                draw.sample(prompts, PROMPTS_PER_ROUND),
                sampling=SamplingParams(temperature=1.0),
                group_size=GROUP_SIZE,
                seed=draw.getrandbits(62),
            )
        # 2. Reward each attempt, and compare it with the others of its group.
        scored = [REWARD.score_group(group) for group in groups]
        attempts = [
            (trajectory, float(advantage))
            for one in scored
            for trajectory, advantage in zip(one.group.trajectories, advantages(torch.tensor(one.rewards)), strict=True)
        ]
        # 3. Update. The mean is over all sampled tokens of the round.
        model.train()
        num_tokens = sum(trajectory.num_sampled_tokens for trajectory, _ in attempts)
        for trajectory, advantage in attempts:
            if advantage == 0:
                continue
            ids, sampled, old = [], [], []
            for turn in trajectory.turns:
                given, completion = turn.prompt_ids, turn.completion
                ids += [*given, *completion.token_ids]
                sampled += [False] * len(given) + [True] * len(completion.token_ids)
                old += [0.0] * len(given) + list(completion.logprobs)
            mask = torch.tensor(sampled)[1:]
            token_loss = grpo_loss(
                token_logprobs(model, ids)[mask], torch.tensor(old)[1:][mask], torch.tensor(advantage)
            )
            (token_loss.sum() / num_tokens).backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

        history.append(fmean(reward for one in scored for reward in one.rewards))
        correct = fmean(score for one in scored for score in one.scores["correct"])
        print(f"update {update + 1:3d}   reward {history[-1]:.3f}   correct {correct:.3f}", flush=True)

    tools.close()
    engine.close()
    return history


if __name__ == "__main__":
    train(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
