"""The student as a policy: scoring tokens under its present weights and under the reference policy."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel

from mentor_pl.adapters import is_adapter
from mentor_pl.engines.attention_interface import KEYWORD, no_mask, take_attend_keyword
from mentor_pl.errors import StudentError
from mentor_pl.training.batching import PolicyBatch
from mentor_pl.training.logprobs import TokenScorer
from mentor_pl.training.packed_attention import PackedAttention, supports_packing

log = logging.getLogger(__name__)


class ReferencePolicy:
    """The weights that training started from: the adapter switched off where there is one, else a frozen copy.

    The copy is kept out of the module tree, so that it is neither trained nor saved.

    Args:
        model: Before anything wraps or shards it.

    Attributes:
        copy: The frozen copy; None where there is an adapter.
    """

    def __init__(self, model: nn.Module) -> None:
        self.copy: nn.Module | None = None
        if not is_adapter(model):
            self.copy = copy.deepcopy(model).eval().requires_grad_(False)

    @contextmanager
    def __call__(self, model: nn.Module) -> Iterator[nn.Module]:
        """Give the model, as it is now, with its starting weights."""
        if self.copy is None:
            trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
            with cast(Any, model).disable_adapter():
                for parameter in trained:  # peft froze them, and FSDP1 would drop the gradients accumulated so far
                    parameter.requires_grad_(True)
                yield model
        else:
            device = next(model.parameters()).device
            if next(self.copy.parameters()).device != device:
                self.copy.to(device)
            yield self.copy


class Policy:
    """Scores batches under a student.

    Args:
        model: The student.
        packing: Whether its batches come packed; None takes what the model supports.
        chunk_tokens: Tokens whose logits are held at once.
        entropy_gradient: Whether entropies have a gradient.
    """

    def __init__(
        self, model: nn.Module, *, packing: bool | None, chunk_tokens: int = 1024, entropy_gradient: bool = False
    ) -> None:
        self.model = model
        self._scorer = TokenScorer(chunk_tokens, entropy_gradient)
        able, why = supports_packing(model.module if isinstance(model, FullyShardedDataParallel) else model)
        if packing and not able:
            log.warning("model.packing is true but this student cannot be packed: %s; its batches are padded", why)
        elif not able and packing is None:
            log.warning("training batches are padded, not packed, which is slower: %s", why)
        self.packing = able and packing is not False

    def score(self, batch: PolicyBatch, model: nn.Module | None = None) -> tuple[Tensor, Tensor]:
        """Return log-probabilities (with gradient) and entropies of a batch's trained tokens, each [N].

        Raises:
            StudentError: The student's own code keeps the packed layout from its attention.
        """
        model = self.model if model is None else model
        attend = None if batch.segments is None else PackedAttention(batch.segments)
        inputs: dict[str, Any] = {"attention_mask": batch.attention_mask}
        if attend is not None:
            take_attend_keyword(model)  # the reference policy's copy is another model
            inputs = {"attention_mask": no_mask(batch.input_ids), KEYWORD: attend}
        scores = self._scorer(
            model,
            input_ids=batch.input_ids,
            position_ids=batch.position_ids,
            target_positions=batch.target_positions,
            target_ids=batch.target_ids,
            temperature=batch.temperature,
            **inputs,
        )
        if attend is not None and not attend.layers:
            raise StudentError(
                f"{type(model).__name__} does not hand keywords of its forward to its attention, so its batches cannot be packed; "
                "set model.packing: false"
            )
        return scores

    @torch.no_grad()
    def score_no_grad(self, batch: PolicyBatch, model: nn.Module | None = None) -> Tensor:
        """Return the log-probabilities of a batch's trained tokens, without gradient and without the noise of dropout, [N]."""
        model = self.model if model is None else model
        training = model.training
        model.eval()
        try:
            return self.score(batch, model)[0]
        finally:
            model.train(training)

    def score_ref_policy(self, batch: PolicyBatch, start: ReferencePolicy) -> Tensor:
        """Return the log-probabilities of a batch's trained tokens under the reference policy, [N]."""
        with start(self.model) as model:
            return self.score_no_grad(batch, model)
