"""Dense decoders of transformers (Llama, Mistral, Qwen2, Qwen3, Gemma 1-3) as one forward over a flat run of tokens.

transformers' own forward spends more than half of a small model's decode step outside of matrix
products. This one computes the same function from the same modules: embedding, activation and any
linear layer that is not plain are called as they are, plain linear layers are fused.
`CascadeEngine` holds it against the model's own forward before it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from mentor_pl.engines.attention_interface import own_attention
from mentor_pl.engines.cascade.model_decoder import refuse_departures
from mentor_pl.engines.cascade.projections import CopiedLinear, Projection, can_pack, project
from mentor_pl.engines.cascade.token_decoder import Attend, AttentionLayer
from mentor_pl.errors import EngineError


@dataclass(frozen=True, slots=True, kw_only=True)
class _Family:
    """How a family departs from Llama.

    Attributes:
        norm_offset: Added to the weight of every RMS norm.
        caps_scores: Whether `attn_logit_softcapping` of the config is applied.
    """

    norm_offset: float = 0.0
    caps_scores: bool = False


_FAMILIES = {
    "llama": _Family(),
    "mistral": _Family(),
    "qwen2": _Family(),
    "qwen3": _Family(),
    "gemma": _Family(norm_offset=1.0),
    "gemma2": _Family(norm_offset=1.0, caps_scores=True),
    "gemma3_text": _Family(norm_offset=1.0),
}
"""By `model_type` of the text model's config."""

_STATIC_ROPE_TYPES = ("default", "linear", "llama3", "yarn")
"""Rotary embeddings whose angles depend on the position alone, not on the length of the sequence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layer:
    qkv: Projection
    out: Projection
    gate_up: Projection
    down: Projection
    activation: Callable[[torch.Tensor], torch.Tensor]
    norm_before_attention: torch.Tensor
    norm_after_attention: torch.Tensor | None
    norm_before_mlp: torch.Tensor
    norm_after_mlp: torch.Tensor | None
    norm_heads: torch.Tensor | None  # [Hq + Hkv, D]
    rope: str | None


class Decoder:
    """A dense decoder, described; a `TokenDecoder`."""

    is_recurrent = False

    def __init__(self, model: PreTrainedModel, dtype: torch.dtype | None = None, prepack: bool = True) -> None:
        """Describe a model and copy what is copied of its weights.

        Args:
            model: A causal language model of a supported family.
            dtype: What linear layers and attention compute in; the weights' own where None.
            prepack: Whether to copy weights into oneDNN's layout on a CPU: faster, for the memory
                of one more copy.

        Raises:
            EngineError: The model is not supported; says why.
        """
        body: Any = model.get_decoder()  # its modules are known by their names, which all families share
        config = body.config
        family = _FAMILIES.get(config.model_type)
        if family is None:
            raise EngineError(f"model type {config.model_type!r} is not among {', '.join(_FAMILIES)}")
        if any(isinstance(parameter, DTensor) for parameter in model.parameters()):
            raise EngineError("the student's weights are sharded; gather them before sync()")
        _refuse_departures(config, own_attention(model))
        head = model.get_output_embeddings()
        assert head is not None  # generating_model() checked that it generates
        self._body, self._head = body, head
        attention = body.layers[0].self_attn
        self._half_dim: int = attention.head_dim // 2
        self.num_heads: int = config.num_attention_heads
        self.num_kv_heads: int = config.num_key_value_heads
        self._final_softcap: float | None = getattr(config, "final_logit_softcapping", None)
        windows: list[int | None] = [getattr(layer.self_attn, "sliding_window", None) for layer in body.layers]
        if config.model_type == "mistral":  # one window for all layers, kept in the config alone
            windows = [config.sliding_window] * len(windows)
        self.layers: tuple[AttentionLayer, ...] = tuple(
            AttentionLayer(
                num_heads=self.num_heads,
                num_kv_heads=self.num_kv_heads,
                head_dim=attention.head_dim,
                scale=attention.scaling,
                softcap=config.attn_logit_softcapping if family.caps_scores else None,
                window=window,
            )
            for window in windows
        )
        embedding: torch.Tensor = body.embed_tokens.weight
        self.device, self._hidden_dtype = embedding.device, embedding.dtype
        self.vocab_size = len(embedding)
        self.dtype = dtype or self._hidden_dtype
        self.autocasts = self.dtype != self._hidden_dtype
        self._pack = prepack and can_pack(self.device, self.dtype)
        self._norm_offset, self._eps = family.norm_offset, float(config.rms_norm_eps)
        layer_types = getattr(config, "layer_types", None) if config.model_type == "gemma3_text" else None
        self._rope_kinds: list[str | None] = list(layer_types or [None] * len(windows))
        self._rope: dict[
            str | None, tuple[torch.Tensor, torch.Tensor]
        ] = {}  # cosines and sines, each [positions, 1, D]
        self.num_positions = 0
        self._layers: list[_Layer] = []
        self._logits: Projection | None = None
        self.refresh()

    def new_states(self) -> None:
        """Return None: nothing but keys and values is carried on."""

    @torch.no_grad()
    def refresh(self) -> None:
        """Copy again what is copied of the model's weights."""
        # the old copies go first: two sets at a time would double the peak
        self._layers, self._logits = [], None
        for layer, rope in zip(self._body.layers, self._rope_kinds, strict=True):
            attention, mlp = layer.self_attn, layer.mlp
            gemma = hasattr(layer, "pre_feedforward_layernorm")
            heads = None
            if hasattr(attention, "q_norm"):
                norms = [attention.q_norm] * self.num_heads + [attention.k_norm] * self.num_kv_heads
                heads = torch.stack([self._norm_weight(norm) for norm in norms])
            self._layers.append(
                _Layer(
                    qkv=project([attention.q_proj, attention.k_proj, attention.v_proj], self.dtype, self._pack),
                    out=project([attention.o_proj], self.dtype, self._pack),
                    gate_up=project([mlp.gate_proj, mlp.up_proj], self.dtype, self._pack),
                    down=project([mlp.down_proj], self.dtype, self._pack),
                    activation=mlp.act_fn,
                    norm_before_attention=self._norm_weight(layer.input_layernorm),
                    norm_after_attention=self._norm_weight(layer.post_attention_layernorm) if gemma else None,
                    norm_before_mlp=self._norm_weight(
                        layer.pre_feedforward_layernorm if gemma else layer.post_attention_layernorm
                    ),
                    norm_after_mlp=self._norm_weight(layer.post_feedforward_layernorm) if gemma else None,
                    norm_heads=heads,
                    rope=rope,
                )
            )
        self._logits = project([self._head], self.dtype, self._pack)
        projections = [p for layer in self._layers for p in (layer.qkv, layer.out, layer.gate_up, layer.down)]
        self.self_contained = all(type(projection) is CopiedLinear for projection in (*projections, self._logits))
        self._final_norm = self._norm_weight(self._body.norm)

    def forward(
        self,
        token_ids: torch.Tensor,
        positions: torch.Tensor,
        end: int,
        attend: Attend,
        wanted: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return hidden states before the final norm, `[M, H]`; see `TokenDecoder.forward`."""
        count = len(token_ids)
        heads, kv_heads = self.num_heads, self.num_kv_heads
        rotated = heads + kv_heads
        self.reserve_positions(end)
        angles = {kind: (cos[positions], sin[positions]) for kind, (cos, sin) in self._rope.items()}
        hidden = self._body.embed_tokens(token_ids)
        for index, layer in enumerate(self._layers):
            qkv = layer.qkv(self._norm(hidden, layer.norm_before_attention)).view(count, rotated + kv_heads, -1)
            query_key = qkv[:, :rotated]
            if layer.norm_heads is not None:
                query_key = self._norm(query_key, layer.norm_heads)
            cos, sin = angles[layer.rope]
            first, second = query_key.chunk(2, -1)
            query_key = (query_key * cos).addcmul_(torch.cat([second, first], -1), sin).to(self.dtype)
            # a layer that is called as it is may answer in another type: LoRA on 4-bit weights in float32, also under autocast
            value = qkv[:, rotated:].to(self.dtype)
            attended = attend(index, query_key[:, :heads], query_key[:, heads:], value)
            attended = layer.out(attended.reshape(count, -1))
            if layer.norm_after_attention is not None:
                attended = self._norm(attended, layer.norm_after_attention)
            hidden = hidden + attended
            gate, up = layer.gate_up(self._norm(hidden, layer.norm_before_mlp)).chunk(2, -1)
            output = layer.down(layer.activation(gate) * up)
            if layer.norm_after_mlp is not None:
                output = self._norm(output, layer.norm_after_mlp)
            hidden = hidden + output
        return hidden if wanted is None else hidden[wanted]

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the logits `[N, V]` of hidden states `[N, H]` as `forward` returns them."""
        assert self._logits is not None
        logits = self._logits(self._norm(hidden, self._final_norm))
        cap = self._final_softcap
        return logits if cap is None else torch.tanh(logits / cap) * cap

    def _norm(self, inputs: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        if weight.dim() == 1:
            return F.rms_norm(inputs.float(), weight.shape, weight, self._eps).to(inputs.dtype)
        return F.rms_norm(inputs.float(), weight.shape[1:], None, self._eps).mul_(weight).to(inputs.dtype)

    def _norm_weight(self, norm: nn.Module) -> torch.Tensor:
        weight = norm.weight
        assert isinstance(weight, torch.Tensor)
        return weight.detach().float() + self._norm_offset

    def reserve_positions(self, end: int) -> None:
        """Have the angles of all positions below `end` at hand."""
        if end <= self.num_positions:
            return
        self.num_positions = max(end, 2 * self.num_positions, 512)
        table = torch.arange(self.num_positions, device=self.device)
        like = torch.zeros(1, dtype=self._hidden_dtype, device=self.device)
        half = self._half_dim
        for kind in set(self._rope_kinds):
            extra = () if kind is None else (kind,)
            cos, sin = (part[0, :, None] for part in self._body.rotary_emb(like, table[None], *extra))
            # the first half of the sines negated, as rotating halves wants it
            self._rope[kind] = cos, torch.cat([-sin[..., :half], sin[..., half:]], -1)


def _refuse_departures(config: object, attention: str) -> None:
    """Raise where a setting changes the computation in a way that is not described here."""
    parameters = getattr(config, "rope_parameters", None) or {}
    kinds = [parameters] if "rope_type" in parameters else [value for value in parameters.values() if value]
    for rope in kinds:
        if rope.get("rope_type", "default") not in _STATIC_ROPE_TYPES:
            raise EngineError(f"rotary embeddings of type {rope['rope_type']!r} depend on the length of the sequence")
    refuse_departures(config, attention)
