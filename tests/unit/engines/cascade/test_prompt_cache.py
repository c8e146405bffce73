import torch
from torch.testing import assert_close

from mentor_pl.engines.cascade.decoder import Decoder
from mentor_pl.engines.cascade.prompt_cache import PromptCache
from tests.unit.engines.models import tiny_model


def cache_of(*prompts):
    cache = PromptCache(Decoder(tiny_model("llama")))
    with torch.no_grad():
        return cache, cache.add(prompts)


def test_each_prompt_is_computed_once_and_a_shared_beginning_only_the_first_time():
    cache, computed = cache_of((1, 2, 3, 4), (1, 2, 3, 5, 6), (1, 2, 3, 4), (1, 2, 9))
    assert computed == 4 + 2 + 1  # all of the first, then what differs
    with torch.no_grad():
        assert cache.add([(1, 2, 9)]) == 0
        assert cache.add([(1, 2, 3, 5)]) == 1  # a prefix of one that is there: its last token gives the hidden state
    assert cache.lengths() == [4, 5, 3, 4]


def test_a_copied_beginning_gives_the_same_hidden_state():
    cache, _ = cache_of((1, 2, 3, 4, 5), (1, 2, 3, 6, 7))
    alone, _ = cache_of((1, 2, 3, 6, 7))
    assert_close(cache[1, 2, 3, 6, 7].hidden, alone[1, 2, 3, 6, 7].hidden)


def test_unused_prompts_leave_and_the_last_slot_fills_the_hole():
    cache, _ = cache_of((1, 2), (3, 4, 5), (6, 7, 8, 9))
    cache[3, 4, 5].num_rows = 1
    keys, _ = cache.store.read(0, 2, 1, 4)
    keys = keys.clone()
    cache.drop_unused({(6, 7, 8, 9)})
    assert cache.lengths() == [4, 3]
    assert cache[6, 7, 8, 9].slot == 0
    assert torch.equal(cache.store.read(0, 0, 1, 4)[0], keys)
    cache.drop_unused(())
    assert cache.lengths() == [3]
    assert cache[3, 4, 5].slot == 0
