"""What the scheduler and the attention of `CascadeEngine` ask of a model: a forward over tokens of any number of sequences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from mentor_pl.engines.cascade.recurrent_states import RecurrentStates


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionLayer:
    """How one layer attends.

    Attributes:
        num_heads: Of queries.
        num_kv_heads: Of keys and values.
        head_dim: Numbers per head, of queries, keys and values alike.
        scale: Multiplies the scores.
        softcap: Caps the scores; None for none.
        window: Tokens seen at most; None for all.
        has_sinks: Whether one more score per head takes part in the softmax.
    """

    num_heads: int
    num_kv_heads: int
    head_dim: int
    scale: float
    softcap: float | None = None
    window: int | None = None
    has_sinks: bool = False

    @property
    def repeats(self) -> int:
        """Return how many heads share a key."""
        return self.num_heads // self.num_kv_heads


class Attend(Protocol):
    """Keeps keys and values, and attends."""

    @property
    def num_rows(self) -> int:
        """Sequences among the tokens, where all have equally many; see `TokenDecoder.is_recurrent`."""
        ...

    @property
    def states(self) -> RecurrentStates | None:
        """Where recurrent states are kept; None where there are none."""
        ...

    @property
    def state_slots(self) -> slice | torch.Tensor:
        """Which of the states are those of the rows."""
        ...

    def __call__(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, sinks: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Attend: query [N, Hq, D], key and value [N, Hkv, D], sinks [Hq] -> [N, Hq, D]."""
        ...


class TokenDecoder(Protocol):
    """A model as a forward over tokens.

    Attributes:
        layers: Those that attend, in order.
        dtype: What linear layers and attention compute in.
        device: Where.
        autocasts: True where `dtype` is not the type of the weights and of the residual stream.
        vocab_size: Rows of the embedding.
        num_positions: Whose angles are at hand.
        self_contained: True where no layer of the model's is called: inference mode, which is
            faster, is then safe. A layer that is called could keep a tensor for training, and
            training cannot use an inference tensor.
        is_recurrent: Whether states are carried from token to token. Then the tokens of a forward
            are rows of equal length.
    """

    layers: tuple[AttentionLayer, ...]
    dtype: torch.dtype
    device: torch.device
    autocasts: bool
    vocab_size: int
    num_positions: int
    self_contained: bool
    is_recurrent: bool

    def refresh(self) -> None:
        """Copy again what is copied of the model's weights."""
        ...

    def new_states(self) -> RecurrentStates | None:
        """Return an empty store of recurrent states; None where there are none."""
        ...

    def forward(
        self,
        token_ids: torch.Tensor,
        positions: torch.Tensor,
        end: int,
        attend: Attend,
        wanted: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Run all layers over tokens of any number of sequences; only attention tells these apart.

        Args:
            token_ids: `[N]`.
            positions: Of each token in its conversation, `[N]`.
            end: All positions are below it; known without asking the device.
            attend: Keeps keys and values and attends.
            wanted: Index of the tokens whose results are asked for, `[M]`; None for all. Of a
                recurrent model's rows it is the last.

        Returns:
            What `logits` makes logits of, `[M, H]`.
        """
        ...

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the logits `[M, V]` of what `forward` returned."""
        ...

    def reserve_positions(self, end: int) -> None:
        """Have the angles of all positions below `end` at hand."""
        ...
