"""Log-probabilities of trained tokens, without ever holding logits for more than a chunk of them."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_BLOCK_LOGITS = 2**18
"""Logits worked on at once on a CPU: what fits in its cache. A chunk is made by one matrix product but read block by block."""


class _ChunkedLogprobs(torch.autograd.Function):
    """Hidden states to (log-probability, entropy) of given targets, chunk by chunk of logits.

    The last chunk's logits are kept for the backward pass, which needs them first and would have to
    hold them anyway; those of the chunks before it are made again.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        temperature: float,
        chunk: int,
        entropy_gradient: bool,
    ) -> tuple[Tensor, Tensor]:
        device_type = hidden.device.type
        # The backward pass runs outside of autocast, and is to compute in the same type.
        dtype = torch.get_autocast_dtype(device_type) if torch.is_autocast_enabled(device_type) else weight.dtype
        states, head = hidden.to(dtype), weight.to(dtype)
        logprobs = torch.empty(len(targets), dtype=torch.float32, device=hidden.device)
        entropies = torch.empty_like(logprobs)
        normalizers = torch.empty_like(logprobs)
        logits = None
        for start in range(0, len(targets), chunk):
            logits = None  # frees the chunk before
            logits = states[start : start + chunk] @ head.t()
            for rows in _blocks(logits):
                here = slice(start + rows.start, start + rows.stop)
                block = logits[rows].float() / temperature
                peak = block.amax(-1)
                masses = (block - peak[:, None]).exp_()
                total = masses.sum(-1)
                normalizers[here] = total.log() + peak
                logprobs[here] = block.gather(-1, targets[here, None])[:, 0] - normalizers[here]
                # H = log Z - E[logit]
                entropies[here] = normalizers[here] - masses.mul_(block).sum(-1) / total
        ctx.save_for_backward(states, head, targets, normalizers, entropies if entropy_gradient else None)
        ctx.temperature, ctx.chunk, ctx.last_logits = temperature, chunk, logits
        ctx.dtypes = hidden.dtype, weight.dtype
        if not entropy_gradient:
            ctx.mark_non_differentiable(entropies)
        return logprobs, entropies

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_logprobs: Tensor, grad_entropies: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        states, head, targets, normalizers, entropies = ctx.saved_tensors
        logits, ctx.last_logits = ctx.last_logits, None
        scale = grad_logprobs / ctx.temperature
        grad_states = torch.empty_like(states)
        grad_head = None
        for start in reversed(range(0, len(targets), ctx.chunk)):
            part = slice(start, start + ctx.chunk)
            if logits is None:
                logits = states[part] @ head.t()
            for rows in _blocks(logits):
                here = slice(start + rows.start, start + rows.stop)
                log_p = (logits[rows].float() / ctx.temperature).sub_(normalizers[here, None])
                # dH/dlogit = -p (log p + H)
                slope = None if entropies is None else log_p.exp().mul_(log_p + entropies[here, None])
                block = log_p.exp_()
                block.mul_(-scale[here, None]).scatter_add_(-1, targets[here, None], scale[here, None])
                if slope is not None:
                    block -= slope.mul_(grad_entropies[here, None] / ctx.temperature)
                logits[rows] = block  # from here on the gradient of the logits
            grad_states[part] = logits @ head
            if ctx.needs_input_grad[1]:
                product = logits.t() @ states[part]
                # Summed in fp32: many small bf16 additions would be lost.
                grad_head = product.float() if grad_head is None else grad_head.add_(product)
            logits = None
        if ctx.needs_input_grad[1]:
            grad_head = torch.zeros_like(head) if grad_head is None else grad_head
        of_hidden, of_weight = ctx.dtypes
        return grad_states.to(of_hidden), None if grad_head is None else grad_head.to(of_weight), None, None, None, None


def _blocks(logits: Tensor) -> list[slice]:
    """Cut the rows of a chunk into blocks that stay in a CPU's cache; any other device takes them all at once."""
    rows, vocabulary = logits.shape
    count = max(1, _BLOCK_LOGITS // vocabulary) if logits.device.type == "cpu" else rows
    return [slice(first, min(first + count, rows)) for first in range(0, rows, count)]


class TokenScorer:
    """Scores tokens under a model, or under copies of it.

    Where logits are the hidden states times the head's weights, they are made in chunks. Else they
    are taken whole, as they come: Gemma 2 caps them, Cohere and Granite scale them, Phi adds a
    bias, an adapter may sit on the head. Which of the two holds is found out in the first forward
    and kept.

    Args:
        chunk_tokens: Tokens whose logits are held at once.
        entropy_gradient: Whether entropies have a gradient.
    """

    def __init__(self, chunk_tokens: int = 1024, entropy_gradient: bool = False) -> None:
        self.chunk_tokens = chunk_tokens
        self.entropy_gradient = entropy_gradient
        self._in_chunks: bool | None = None

    def __call__(
        self,
        model: nn.Module,
        *,
        target_positions: Tensor,
        target_ids: Tensor,
        temperature: float = 1.0,
        **inputs: Any,
    ) -> tuple[Tensor, Tensor]:
        """Score N tokens.

        Args:
            model: A causal language model of transformers, perhaps wrapped by PEFT.
            target_positions: Index into [B * T] of the position that predicts each token, [N].
            target_ids: [N].
            temperature: The one that the tokens were sampled at.
            inputs: Of the model's forward, for B rows of T tokens.

        Returns:
            Log-probabilities [N] with gradient, and entropies [N] (with `entropy_gradient`, too),
            both fp32.
        """
        head = cast(nn.Module, cast(Any, model).get_output_embeddings())
        if (
            type(head) is not nn.Linear or head.bias is not None
        ):  # an adapter or a quantised head computes in its own way
            self._in_chunks = False
        if self._in_chunks is not False:
            scores = self._scores(model, head, target_positions, target_ids, temperature, inputs)
            if self._in_chunks is None:  # what the model does to the probe, it would do to logits
                self._in_chunks = bool((scores[-1] == 1).all())
                scores = scores[:-1]
            if self._in_chunks:
                return scores[:, 0], self._entropies(scores[:, 1])
        logits = model(**inputs, use_cache=False).logits.flatten(0, 1)[target_positions].float() / temperature
        table = logits.log_softmax(-1)
        entropies = -(table.exp() * table).sum(-1)
        return table.gather(-1, target_ids[:, None])[:, 0], self._entropies(entropies)

    def _entropies(self, values: Tensor) -> Tensor:
        return values if self.entropy_gradient else values.detach()

    def _scores(
        self,
        model: nn.Module,
        head: nn.Module,
        positions: Tensor,
        targets: Tensor,
        temperature: float,
        inputs: dict[str, Any],
    ) -> Tensor:
        """Let the output head give [N, 2] (log-probability, entropy) instead of logits, and a row of ones where it is probed.

        Inside the model's own forward, the head's weights are at hand under every wrapper (PEFT,
        DDP, FSDP).
        """
        held: list[Tensor] = []
        probing = self._in_chunks is None

        def keep_hidden(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            held.append(args[0])
            return (args[0][..., :0, :], *args[1:])  # no token: the head itself has nothing to multiply

        def score(module: nn.Module, _: Any, __: Tensor) -> Tensor:
            states = held.pop().flatten(0, -2)[positions]
            weight = cast(Tensor, module.weight)
            scored = _ChunkedLogprobs.apply(
                states, weight, targets, temperature, self.chunk_tokens, self.entropy_gradient
            )
            scores = torch.stack(cast(tuple[Tensor, Tensor], scored), dim=-1)
            return torch.cat([scores, scores.new_ones(1, 2)]) if probing else scores

        # ahead of the hooks of FSDP, which put the weights away behind the head's forward
        hooks = [head.register_forward_pre_hook(keep_hidden), head.register_forward_hook(score, prepend=True)]
        try:
            return model(**inputs, use_cache=False).logits
        finally:
            for hook in hooks:
                hook.remove()
