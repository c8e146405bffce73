"""The chunked head against log_softmax over whole logits."""

import pytest
import torch
from torch.testing import assert_close

from mentor_pl.training.logprobs import _ChunkedLogprobs


@pytest.mark.parametrize("chunk", [1, 3, 5, 100])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_chunked_logprobs_and_their_gradients_are_those_of_log_softmax(chunk, temperature):
    torch.manual_seed(0)
    hidden = torch.randn(5, 4, requires_grad=True)
    weight = torch.randn(9, 4, requires_grad=True)
    targets, scale = torch.tensor([0, 8, 3, 3, 7]), torch.randn(5)

    table = (hidden @ weight.t() / temperature).log_softmax(-1)
    expected = table.gather(1, targets[:, None])[:, 0]
    expected_gradients = torch.autograd.grad((expected * scale).sum(), (hidden, weight))

    logprobs, entropies = _ChunkedLogprobs.apply(hidden, weight, targets, temperature, chunk, False)
    assert_close(logprobs, expected)
    assert_close(entropies, -(table.exp() * table).sum(-1))
    assert_close(torch.autograd.grad((logprobs * scale).sum(), (hidden, weight)), expected_gradients)


def test_a_uniform_head_has_the_entropy_of_its_vocabulary():
    logprobs, entropies = _ChunkedLogprobs.apply(torch.ones(1, 2), torch.zeros(8, 2), torch.tensor([5]), 1.0, 4, False)
    assert_close(logprobs, -torch.tensor([8.0]).log())
    assert_close(entropies, torch.tensor([8.0]).log())


def test_bf16_weights_are_scored_in_fp32():
    torch.manual_seed(0)
    hidden, weight = torch.randn(6, 16).bfloat16(), torch.randn(40, 16).bfloat16().requires_grad_()
    targets = torch.arange(6)
    logprobs, _ = _ChunkedLogprobs.apply(hidden, weight, targets, 1.0, 4, False)
    exact = (hidden.float() @ weight.float().t()).log_softmax(-1).gather(1, targets[:, None])[:, 0]
    assert logprobs.dtype == torch.float32
    assert_close(logprobs, exact.detach(), rtol=0, atol=0.05)
    logprobs.sum().backward()
    assert weight.grad is not None and weight.grad.dtype == torch.bfloat16


def test_a_frozen_head_gets_no_gradient():
    hidden, weight = torch.randn(2, 3, requires_grad=True), torch.randn(4, 3)
    _ChunkedLogprobs.apply(hidden, weight, torch.tensor([1, 2]), 1.0, 8, False)[0].sum().backward()
    assert hidden.grad is not None and weight.grad is None


@pytest.mark.parametrize("chunk", [1, 3, 100])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_entropies_have_their_gradient_where_it_is_asked_for(chunk, temperature):
    torch.manual_seed(0)
    hidden = torch.randn(5, 4, requires_grad=True)
    weight = torch.randn(9, 4, requires_grad=True)
    targets, scale, scale_entropy = torch.tensor([0, 8, 3, 3, 7]), torch.randn(5), torch.randn(5)

    table = (hidden @ weight.t() / temperature).log_softmax(-1)
    expected = (table.gather(1, targets[:, None])[:, 0] * scale).sum() - (
        (table.exp() * table).sum(-1) * scale_entropy
    ).sum()
    expected_gradients = torch.autograd.grad(expected, (hidden, weight))

    logprobs, entropies = _ChunkedLogprobs.apply(hidden, weight, targets, temperature, chunk, True)
    total = (logprobs * scale).sum() + (entropies * scale_entropy).sum()
    assert_close(torch.autograd.grad(total, (hidden, weight)), expected_gradients)
