from dataclasses import replace

import pytest
import torch

from mentor_pl.training.batching import (
    Segment,
    packed_batch,
    padded_batch,
    split_evenly,
    step_statistics,
    step_sums,
)
from mentor_pl.training.samples import Source
from tests.unit.training.samples import GIVEN, SAMPLED, sample, two_groups

# Prompt 7 8; one sample of 20 2, a tool result 9, then 2; another one of 21 only; and one of another prompt 5.
SAMPLES = [
    sample([7, 8], (SAMPLED, [20, 2]), (GIVEN, [9]), (SAMPLED, [2]), advantage=1.0, logprob=-0.5),
    sample([7, 8], (SAMPLED, [21]), advantage=-1.0, logprob=-0.25),
    sample([5], (SAMPLED, [22, 2]), advantage=0.5, logprob=-0.75),
]
FLAT = {
    "target_ids": [20, 2, 2, 21, 22, 2],
    "sampling_logprobs": [-0.5, -0.5, -0.5, -0.25, -0.75, -0.75],
    "advantages": [1.0, 1.0, 1.0, -1.0, 0.5, 0.5],
    "source": [0] * 6,
    "trajectory_index": [0, 0, 0, 1, 2, 2],
}


def flat(batch):
    return {name: getattr(batch, name).tolist() for name in FLAT}


def test_a_padded_batch():
    batch = padded_batch(SAMPLES, pad_token_id=0, num_loss_tokens=6.0)
    assert batch.input_ids.tolist() == [[7, 8, 20, 2, 9, 2], [7, 8, 21, 0, 0, 0], [5, 22, 2, 0, 0, 0]]
    assert batch.attention_mask.int().tolist() == [[1] * 6, [1, 1, 1, 0, 0, 0], [1, 1, 1, 0, 0, 0]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 4, 5]] * 3
    # The token before each trained one: 8 20 . 9 | 8 | 5 22
    assert batch.target_positions.tolist() == [1, 2, 4, 6 + 1, 12 + 0, 12 + 1]
    assert flat(batch) == FLAT
    assert (batch.segments, batch.num_loss_tokens) == (None, 6.0)


def test_a_packed_batch_keeps_each_prompt_once():
    batch = packed_batch(SAMPLES, pad_token_id=0, num_loss_tokens=6.0)
    assert batch.input_ids.tolist() == [[7, 8, 20, 2, 9, 2, 21, 5, 22, 2]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 4, 5, 2, 0, 1, 2]]
    assert batch.attention_mask.all()
    assert batch.segments == (
        Segment(prefix=(0, 2), suffixes=((2, 6), (6, 7))),
        Segment(prefix=(7, 8), suffixes=((8, 10),)),
    )
    # 20 and 21 are both predicted by the prompt's last token, at 1.
    assert batch.target_positions.tolist() == [1, 2, 4, 1, 7, 8]
    assert flat(batch) == FLAT


def test_the_predicting_token_stands_right_before_the_predicted_one():
    for make in (packed_batch, padded_batch):
        batch = make(two_groups(), pad_token_id=0, num_loss_tokens=1.0)
        predicting = batch.position_ids.flatten()[batch.target_positions]
        expected = [t - 1 for s in two_groups() for t in s.loss_mask.nonzero()[:, 0].tolist()]
        assert predicting.tolist() == expected


@pytest.mark.parametrize("make", [packed_batch, padded_batch])
def test_an_empty_batch_is_one_masked_position(make):
    batch = make([], pad_token_id=3, num_loss_tokens=6.0)
    assert (batch.input_ids.tolist(), batch.position_ids.tolist()) == ([[3]], [[0]])
    assert flat(batch) == {
        "target_ids": [],
        "sampling_logprobs": [],
        "advantages": [],
        "source": [],
        "trajectory_index": [],
    }
    assert batch.target_positions.tolist() == []


def test_prompts_of_equal_length_are_not_mixed_up():
    other = sample([7, 9], (SAMPLED, [21]))
    batch = packed_batch([SAMPLES[1], other, SAMPLES[1]], pad_token_id=0, num_loss_tokens=1.0)
    assert batch.input_ids.tolist() == [[7, 8, 21, 7, 9, 21, 7, 8, 21]]


def test_a_batch_moves_as_a_whole():
    moved = packed_batch(SAMPLES, pad_token_id=0, num_loss_tokens=6.0).to("meta")
    assert {
        getattr(moved, name).device.type for name in (*FLAT, "input_ids", "attention_mask", "target_positions")
    } == {"meta"}
    assert moved.segments is not None and moved.num_loss_tokens == 6.0


def lengths(parts):
    return [[len(s.token_ids) for s in part] for part in parts]


def test_split_evenly_by_tokens():
    samples = [sample([1], (SAMPLED, [2] * (n - 1))) for n in (6, 2, 2, 2)]
    assert lengths(split_evenly(samples, 2)) == [[6], [2, 2, 2]]
    assert lengths(split_evenly(samples, 1)) == [[6, 2, 2, 2]]
    assert lengths(split_evenly(samples[:1], 3)) == [[], [6], []]
    assert lengths(split_evenly([], 2)) == [[], []]


def test_split_evenly_loses_nothing():
    rng = torch.Generator().manual_seed(0)
    for parts in range(1, 6):
        samples = [sample([1], (SAMPLED, [index] * int(torch.randint(1, 9, (), generator=rng)))) for index in range(7)]
        split = split_evenly(samples, parts)
        assert len(split) == parts
        assert [id(s) for part in split for s in part] == [id(s) for s in samples]


def test_what_is_known_of_a_whole_step():
    untrained = sample([5], (GIVEN, [22]))
    teacher = replace(SAMPLES[1], source=Source.TEACHER)
    imitated = replace(SAMPLES[2], source=Source.IMITATED)
    sums = step_sums([*SAMPLES, untrained, teacher, imitated])
    assert sums == [7.0, 2.0, 4.0, 6.0, -0.5 * 3 - 0.25 - 0.75 * 2, 3.0 - 1.0 + 1.0]
    assert step_statistics(*sums) == {
        "num_loss_tokens": 7.0,
        "num_imitated_tokens": 2.0,
        "num_trajectories": 4.0,
        "mean_sampling_logprob": -3.25 / 6,
        "mean_advantage": 0.5,
    }
    assert step_statistics(*step_sums([]))["num_trajectories"] == 1.0


def test_samples_without_trained_tokens_have_no_index():
    batch = padded_batch([sample([5], (GIVEN, [22])), *SAMPLES], pad_token_id=0, num_loss_tokens=6.0)
    assert batch.trajectory_index.tolist() == [0, 0, 0, 1, 2, 2]


def test_a_sample_knows_whose_tokens_it_trains_on_and_what_they_weigh():
    teacher = replace(SAMPLES[0], source=Source.TEACHER, weight=0.5)
    batch = packed_batch([SAMPLES[1], teacher], pad_token_id=0, num_loss_tokens=4.0)
    assert batch.source.tolist() == [0, 1, 1, 1]
    assert batch.advantages.tolist() == [-1.0, 0.5, 0.5, 0.5]
