"""Samples over the vocabulary of the tiny models: two groups, with a tool result in the middle of some."""

import torch

from mentor_pl.training.samples import Sample

GIVEN, SAMPLED = False, True


def sample(prompt, *parts, advantage=1.0, logprob=-1.0):
    """`sample([1, 2], (SAMPLED, [3, 4]), (GIVEN, [5]), (SAMPLED, [6]))`."""
    ids, mask = list(prompt), [GIVEN] * len(prompt)
    for sampled, tokens in parts:
        ids += tokens
        mask += [sampled] * len(tokens)
    loss_mask = torch.tensor(mask)
    return Sample(
        token_ids=torch.tensor(ids),
        loss_mask=loss_mask,
        sampling_logprobs=loss_mask * logprob,
        advantages=loss_mask * advantage,
        prompt_length=len(prompt),
    )


def two_groups():
    long, short = [11, 12, 13, 14, 15, 16, 17, 18, 19], [21, 22]
    return [
        sample(long, (SAMPLED, [31, 32, 33]), advantage=1.0),
        sample(long, (SAMPLED, [34]), (GIVEN, [5, 6, 7]), (SAMPLED, [35, 36]), advantage=-0.5),
        sample(long, (SAMPLED, [31, 32]), (GIVEN, [8]), (SAMPLED, [37]), advantage=-0.5),
        sample(short, (SAMPLED, [41, 42, 43, 44]), (GIVEN, [9, 9]), (SAMPLED, [45]), advantage=2.0),
        sample(short, (SAMPLED, [46]), advantage=-2.0),
    ]
