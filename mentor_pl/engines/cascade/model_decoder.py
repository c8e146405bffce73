"""Any decoder of transformers that attends through its attention interface, by the model's own forward.

Keys and values are kept by our attention function (see `mentor_pl.engines.attention_interface`), so
that prompts are shared and rows continued as with `Decoder`. Tokens of many sequences go through an
attention-only model as one row; what layers they have in between (experts, gates, scaled
embeddings) takes tokens one by one. Models with a recurrent state take rows of equal length.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from mentor_pl.causal_model import has_recurrent_state
from mentor_pl.engines.attention_interface import KEYWORD, no_mask, own_attention, take_attend_keyword
from mentor_pl.engines.cascade.recurrent_states import RecurrentStates, RowCache
from mentor_pl.engines.cascade.token_decoder import Attend, AttentionLayer
from mentor_pl.engines.student_model import evaluating
from mentor_pl.errors import EngineError

_LAYER_TYPES = {"chunked_attention": "attends within chunks"}
_LENGTH_DEPENDENT = ("dynamic", "longrope")


class ModelDecoder:
    """A `TokenDecoder` that calls the model's own forward."""

    num_positions = 0
    self_contained = False

    def __init__(self, model: PreTrainedModel, dtype: torch.dtype | None = None) -> None:
        """Find out how the model's layers attend.

        Args:
            model: A causal language model.
            dtype: What it computes in; the weights' own where None.

        Raises:
            EngineError: The model is not supported; says why.
        """
        if any(isinstance(parameter, DTensor) for parameter in model.parameters()):
            raise EngineError("the student's weights are sharded; gather them before sync()")
        refuse_departures(model.config.get_text_config(), own_attention(model))
        if not take_attend_keyword(model):
            raise EngineError(f"{type(model).__name__} does not take other attention functions")
        self._model = model
        weight = model.get_input_embeddings().weight
        assert isinstance(weight, torch.Tensor)
        self.device, self.vocab_size = weight.device, len(weight)
        self.dtype = dtype or weight.dtype
        self.autocasts = self.dtype != weight.dtype
        self.is_recurrent = has_recurrent_state(model)
        parameters = inspect.signature(model.forward).parameters
        self._cache_keyword = "cache" if "cache" in parameters else "past_key_values"
        self._cuts_logits = "logits_to_keep" in parameters
        self._cache: RowCache | None = None
        self.layers: tuple[AttentionLayer, ...] = self._watch()

    def refresh(self) -> None:
        """Do nothing: the model's own weights are used."""

    def new_states(self) -> RecurrentStates | None:
        """Return an empty store of recurrent states; None where there are none."""
        return None if self._cache is None else RecurrentStates(self._cache)

    def forward(
        self,
        token_ids: torch.Tensor,
        positions: torch.Tensor,
        end: int,
        attend: Attend,
        wanted: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the logits of the wanted tokens, `[M, V]`; see `TokenDecoder.forward`."""
        if not self.is_recurrent:
            cut = {} if wanted is None or not self._cuts_logits else {"logits_to_keep": wanted}
            logits = self._run(token_ids[None], positions[None], attend, use_cache=False, **cut)[0]
            return logits if cut or wanted is None else logits[wanted]
        assert attend.states is not None
        shape = (attend.num_rows, -1)
        cache = attend.states.load(attend.state_slots)
        cut = {"logits_to_keep": 1} if self._cuts_logits else {}
        logits = self._run(token_ids.view(shape), positions.view(shape), attend, **self._caching(cache), **cut)
        attend.states.save(attend.state_slots)
        return logits[:, -1]

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return what `forward` returned: the model's own forward ends with logits."""
        return hidden

    def reserve_positions(self, end: int) -> None:
        """Do nothing: the model computes its angles itself."""

    def _run(self, token_ids: torch.Tensor, positions: torch.Tensor, attend: Attend, **inputs: Any) -> torch.Tensor:
        """Return logits `[B, M, V]` of tokens `[B, T]`."""
        layer = 0

        def attention(
            module: nn.Module,
            query: torch.Tensor,
            key: torch.Tensor,
            value: torch.Tensor,
            *,
            sinks: torch.Tensor | None,
            **_: Any,
        ) -> torch.Tensor:
            nonlocal layer
            rows, heads, length, _dim = query.shape
            dim = self.layers[layer].head_dim
            q, k, v = (_flatten(tensor, dim, self.dtype) for tensor in (query, key, value))
            output = attend(layer, q, k, v, sinks)
            layer += 1
            return output.view(rows, length, heads, dim)[..., : value.shape[-1]].to(value.dtype)

        return self._model(
            input_ids=token_ids,
            position_ids=positions,
            attention_mask=no_mask(token_ids),
            **{KEYWORD: attention},
            **inputs,
        ).logits

    def _caching(self, cache: RowCache) -> dict[str, Any]:
        return {"use_cache": True, self._cache_keyword: cache}

    @torch.no_grad()
    def _watch(self) -> tuple[AttentionLayer, ...]:
        """Send two tokens through the model and see how its layers attend and what they keep."""
        layers: list[AttentionLayer] = []

        def attention(
            module: nn.Module,
            query: torch.Tensor,
            key: torch.Tensor,
            value: torch.Tensor,
            *,
            scale: float,
            dropout: float,
            window: int | None,
            softcap: float | None,
            sinks: torch.Tensor | None,
        ) -> torch.Tensor:
            layers.append(
                AttentionLayer(
                    num_heads=query.shape[1],
                    num_kv_heads=key.shape[1],
                    head_dim=max(query.shape[-1], value.shape[-1]),
                    scale=scale,
                    softcap=softcap,
                    window=window,
                    has_sinks=sinks is not None,
                )
            )
            return value.new_zeros(query.shape[0], query.shape[2], query.shape[1], value.shape[-1])

        token_ids = torch.zeros(1, 2, dtype=torch.int64, device=self.device)
        inputs: dict[str, Any] = {"use_cache": False}
        if self.is_recurrent:
            self._cache = RowCache(self._model.config.get_text_config())
            inputs = self._caching(self._cache)
        inputs["attention_mask"] = no_mask(token_ids)
        with evaluating(self._model):
            positions = torch.arange(2, device=self.device)[None]
            self._model(input_ids=token_ids, position_ids=positions, **{KEYWORD: attention}, **inputs)
        if not layers and not self.is_recurrent:
            raise EngineError(f"{type(self._model).__name__} does not hand keywords of its forward to its attention")
        return tuple(layers)


def refuse_departures(config: object, attention: str) -> None:
    """Raise where a setting changes the computation in a way that no decoder here follows.

    Raises:
        EngineError: Says which.
    """
    # up to 5.17 transformers lets Gemma 2 attend by sdpa, which leaves the cap out
    if getattr(config, "attn_logit_softcapping", None) and attention == "sdpa":
        raise EngineError(
            "sdpa leaves out the cap on its attention scores; set the student's attn_implementation: eager"
        )
    parameters = getattr(config, "rope_parameters", None) or {}
    kinds = [parameters] if "rope_type" in parameters else [v for v in parameters.values() if isinstance(v, dict)]
    for rope in kinds:
        if rope.get("rope_type", "default") in _LENGTH_DEPENDENT:
            raise EngineError(f"rotary embeddings of type {rope['rope_type']!r} depend on the length of the sequence")
    for kind in getattr(config, "layer_types", None) or ():
        if kind in _LAYER_TYPES:
            raise EngineError(f"a layer of it {_LAYER_TYPES[kind]}")
    if getattr(config, "use_bidirectional_attention", False):
        raise EngineError("its attention is bidirectional")


def _flatten(heads: torch.Tensor, dim: int, dtype: torch.dtype) -> torch.Tensor:
    """Return `[B * T, heads, dim]` of `[B, heads, T, D]`, filled up with zeros, which change neither scores nor sums."""
    flat = heads.transpose(1, 2).flatten(0, 1).to(dtype)
    return flat if flat.shape[-1] == dim else F.pad(flat, (0, dim - flat.shape[-1]))
