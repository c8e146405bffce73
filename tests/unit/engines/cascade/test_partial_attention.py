import math

import pytest
import torch
from torch.testing import assert_close

from mentor_pl.engines.cascade.partial_attention import additive_mask, hidden_keys, merge_attention, partial_attention


def test_two_parts_merge_to_the_whole_by_hand():
    """One query, three keys with scores ln 1, ln 2, ln 5 and values 8, 16, 24: (1*8 + 2*16 + 5*24) / 8 = 20."""
    query = torch.tensor([[[[1.0]]]])
    key = torch.tensor([1.0, 2.0, 5.0]).log().view(1, 1, 3, 1)
    value = torch.tensor([8.0, 16.0, 24.0]).view(1, 1, 3, 1)
    first = partial_attention(query, key[:, :, :2], value[:, :, :2], None, 1.0)
    second = partial_attention(query, key[:, :, 2:], value[:, :, 2:], None, 1.0)
    assert_close(first[0].item(), 40 / 3)
    assert_close(first[1].item(), math.log(3))
    assert_close(merge_attention(first, second).item(), 20.0)


@pytest.mark.parametrize("softcap", [None, 1e4], ids=["kernel", "plain"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_merged_parts_equal_one_softmax(softcap, dtype):
    """The plain path is what runs without a CPU; a cap far above all scores leaves them alone."""
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 3, n, 8, dtype=dtype) for n in (4, 10, 10))
    lengths = torch.tensor([10, 7])
    mask = additive_mask((torch.arange(10) >= lengths[:, None])[:, None, None], dtype)
    parts = [
        partial_attention(query, key[:, :, part], value[:, :, part], mask[..., part], 0.5, softcap)
        for part in (slice(0, 6), slice(6, 10))
    ]
    exact = torch.softmax(query.float() @ key.float().mT * 0.5 + mask.float(), -1) @ value.float()
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    assert_close(merge_attention(*parts).float(), exact, atol=tolerance, rtol=0)


@pytest.mark.parametrize("softcap", [None, 1e4], ids=["kernel", "plain"])
def test_a_part_of_which_nothing_is_seen_has_no_weight(softcap):
    query, key, value = torch.randn(1, 1, 2, 4), torch.randn(1, 1, 3, 4), torch.randn(1, 1, 3, 4)
    hidden = additive_mask(torch.ones(1, 1, 1, 3).bool(), torch.float32)
    nothing = partial_attention(query, key, value, hidden, 1.0, softcap)
    seen = partial_attention(query, key, value, None, 1.0, softcap)
    assert_close(merge_attention(nothing, seen), seen[0])
    assert_close(merge_attention(seen, nothing), seen[0])


def test_softcap_bends_the_scores():
    """Scores 0 and 3 capped at 1: tanh(3) = 0.99505, so the second weighs e^0.99505 = 2.7049 times the first."""
    query = torch.ones(1, 1, 1, 1)
    key, value = torch.tensor([0.0, 3.0]).view(1, 1, 2, 1), torch.tensor([0.0, 1.0]).view(1, 1, 2, 1)
    output, lse = partial_attention(query, key, value, None, 1.0, softcap=1.0)
    assert_close(output.item(), 2.7049 / 3.7049, atol=1e-4, rtol=0)
    assert_close(lse.item(), math.log(3.7049), atol=1e-4, rtol=0)


def test_hidden_keys_are_the_later_ones_and_those_before_the_window():
    hidden = hidden_keys(torch.tensor([2, 3]), torch.arange(5), None)
    assert hidden.int().tolist() == [[0, 0, 0, 1, 1], [0, 0, 0, 0, 1]]
    hidden = hidden_keys(torch.tensor([2, 3]), torch.arange(5), window=2)
    assert hidden.int().tolist() == [[1, 0, 0, 1, 1], [1, 1, 0, 0, 1]]
