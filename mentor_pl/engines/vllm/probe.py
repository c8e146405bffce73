"""The probe: whether a server samples with the weights that the trainer holds, judged by log-probabilities of a fixed text.

An update at a small learning rate moves log-probabilities by less than a server's arithmetic
differs from the trainer's, so that a limit on the difference alone would pass a server that was
never updated. The probe therefore also asks whose log-probabilities the server's follow: those of
the present weights, or those of weights that a fault would leave there.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mentor_pl.adapters import is_lora_layer
from mentor_pl.engines.student_model import evaluating
from mentor_pl.errors import EngineError

_DECIDED_ERROR = 0.1
"""A share known less exactly than this decides nothing: half way lies five standard errors from either end."""

_SMALLEST_MOVE = 1e-5
"""Nats; below it lies the rounding of float32."""

_JUDGED_MOVE = 2.0
"""Of the server's usual deviation: of a smaller change rounding may swallow half (measured: 41 % of one of 0.8)."""

_VANISHING_MOVE = 0.02
"""Of the server's usual deviation: a change so small may leave every number that a rounding server gives as it was."""

_NOISE_FACTOR = 3.0
"""How much worse than at an earlier reading a right server may agree: the square root of 2 for two deviations, doubled."""

_ROUNDED_SHARE = 0.01
"""Of an update's effect that rounding the update to the server's dtype may change."""

_FLOAT32_NOISE = 2e-5
"""Nats that float32 may deviate more than it did at an earlier reading."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Log-probabilities of the probe's text under one state of the weights.

    Attributes:
        weights: Which weights, for messages: "version 3".
        trainer: By the trainer's model, [N] float64.
        server: By the server, [N] float64.
    """

    weights: str
    trainer: Tensor
    server: Tensor

    @property
    def deviation(self) -> Tensor:
        """What the server says beyond the trainer, [N]."""
        return self.server - self.trainer


def probe_text(vocab_size: int, *, rows: int = 4, row_tokens: int = 128) -> tuple[tuple[int, ...], ...]:
    """Return the fixed text: `rows` sequences of `row_tokens` ids, drawn evenly from the vocabulary."""
    draw = random.Random("mentor_pl.engines.probe")
    return tuple(tuple(draw.randrange(vocab_size) for _ in range(row_tokens)) for _ in range(rows))


@torch.no_grad()
def text_logprobs(model: nn.Module, text: Sequence[Sequence[int]]) -> Tensor:
    """Return the model's log-probability of every token but each row's first, [N] float64 on the CPU."""
    device = next(model.parameters()).device
    found: list[Tensor] = []
    with evaluating(model):
        for row in text:  # one by one: the logits of a large vocabulary are large
            ids = torch.tensor([row], device=device)
            logits = model(input_ids=ids).logits[0, :-1].float()
            found.append(logits.log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0].double().cpu())
    return torch.cat(found)


@contextmanager
def adapter_doubled(model: nn.Module) -> Iterator[None]:
    """Add every LoRA layer's output twice meanwhile: what a server would compute to which the adapter was sent twice."""
    layers = [module for module in model.modules() if is_lora_layer(module)]
    for layer in layers:
        layer.scale_layer(2.0)
    try:
        yield
    finally:
        for layer in layers:
            layer.unscale_layer(2.0)


class Probe:
    """Judges one server, sync by sync.

    A server's deviation from the trainer is largely the same for weights that differ little, and so
    is known from the last reading that was found right. What it says beyond that is compared along
    the line from the wrong weights to the right ones: least squares give the share of the way it
    has gone, 1 where it is right and 0 where it is not, with a standard error.

    Only what is decided is an error, so that noise never stops a run. A change that is not well
    above the server's usual deviation cannot be judged by its share, since rounding swallows part
    of it; it stays pending and is judged together with the next one. Until then a stale server
    deviates hardly more than a right one does anyhow. But a server whose numbers have not changed
    at all has received nothing.

    Args:
        server: Its name, for messages.
        tolerance: Largest deviation (root mean square, nats per token) that is put down to
            arithmetic.
    """

    def __init__(self, server: str, tolerance: float) -> None:
        self._server = server
        self._tolerance = tolerance
        self._anchor: Reading | None = None

    def check(self, reading: Reading, wrong: Mapping[str, Tensor] | None = None) -> float:
        """Compare a reading that should agree.

        Args:
            reading: Taken after a sync.
            wrong: What the trainer's model says with weights that a fault would leave on the
                server, each [N], by a description. The last reading found right is among them by
                itself.

        Returns:
            The server's deviation (root mean square, nats per token).

        Raises:
            EngineError: The server holds other weights.
        """
        anchor = self._anchor
        usual = torch.zeros_like(reading.trainer) if anchor is None else anchor.deviation
        noise = _rms(usual)
        said = reading.server - usual
        suspects = dict(wrong or {})
        former = "" if anchor is None else f"those of {anchor.weights}: what was sent since did not arrive"
        if anchor is not None:
            suspects[former] = anchor.trainer
        shares = {name: _share(said, reading.trainer, other, noise) for name, other in suspects.items()}
        guilty = [name for name, share in shares.items() if share is not None and share < 0.5]
        if anchor is not None and _unchanged(anchor, reading):
            guilty.append(former)
        off = _rms(said - reading.trainer)
        if guilty:
            nearest = min(guilty, key=lambda name: _rms(said - suspects[name]))
            away = _rms(said - suspects[nearest])
            relation = "agrees with" if away < off / 2 else "is nearer to"
            raise EngineError(
                f"vLLM server {self._server} does not hold the weights of {reading.weights}: on the probe's text it {relation} {nearest} "
                f"(off by {away:.2g} nats a token; from the right weights by {off:.2g})"
            )
        if anchor is not None:
            moved = _rms(reading.trainer - anchor.trainer)
            limit = _NOISE_FACTOR * noise + _ROUNDED_SHARE * moved + _FLOAT32_NOISE
            if off > limit:
                raise EngineError(
                    f"vLLM server {self._server} does not hold the weights of {reading.weights}: part of them is missing or other (off by "
                    f"{off:.2g} nats a token, where arithmetic explains {limit:.2g} and the change since {anchor.weights} is {moved:.2g}); "
                    "look into the server's log for layers that it did not load"
                )
        deviation = _rms(reading.deviation)
        if not deviation <= self._tolerance:
            raise EngineError(
                f"vLLM server {self._server} computes other log-probabilities than the trainer for {reading.weights}: off by "
                f"{deviation:.2g} nats a token (probe_tolerance is {self._tolerance:g}); it serves another model, in another quantisation "
                "or a coarser dtype, or still holds the weights of another run: start it anew with the student's own weights, or raise "
                "probe_tolerance if that is meant"
            )
        if anchor is None or shares[former] is not None:
            self._anchor = reading
        return deviation


def _share(said: Tensor, right: Tensor, wrong: Tensor, noise: float) -> float | None:
    """Return how much of the way from the wrong weights to the right ones the server has gone; None where that is not decided."""
    way = right - wrong
    if _rms(way) < max(_SMALLEST_MOVE, _JUDGED_MOVE * noise):
        return None
    share = float((said - wrong) @ way / (way @ way))
    error = _rms(said - wrong - share * way) / (_rms(way) * (len(way) - 1) ** 0.5)
    return share if error <= _DECIDED_ERROR else None


def _unchanged(before: Reading, now: Reading) -> bool:
    """Whether the server says exactly what it said before weights that changed were sent."""
    moved = _rms(now.trainer - before.trainer)
    changed = moved >= max(_SMALLEST_MOVE, _VANISHING_MOVE * _rms(before.deviation))
    return changed and torch.equal(now.server, before.server)


def _rms(values: Tensor) -> float:
    return float(values.square().mean().sqrt())
