"""Linear layers as an engine applies them: packed copies of plain ones, any other by its own forward."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import nn

Projection = Callable[[torch.Tensor], torch.Tensor]
"""Maps `[N, in]` to `[N, out]`."""


def project(modules: Sequence[nn.Module], dtype: torch.dtype, pack: bool) -> Projection:
    """Return one projection whose output is that of all modules, one after the other along the last axis.

    Plain linear layers are copied where that is of use: fused, in the type computed in, and in the
    layout that oneDNN multiplies fastest (for 64 rows 1.1 to 1.7 times `F.linear` in float32).
    Whatever else there is (LoRA, 4-bit) is called as it is.

    Args:
        modules: Layers that take the same input.
        dtype: What to compute plain layers in.
        pack: Whether to copy plain layers into oneDNN's layout; only on a CPU.
    """
    plain = all(type(module) is nn.Linear for module in modules)
    if plain and (pack or any(module.weight.dtype != dtype for module in modules)):
        return CopiedLinear(modules, dtype, pack)  # pyright: ignore[reportArgumentType] - they are plain
    if len(modules) == 1:
        return modules[0]
    return _Joined([project([module], dtype, pack) for module in modules])


def can_pack(device: torch.device, dtype: torch.dtype) -> bool:
    """Say whether oneDNN's packed linear layers exist for this device and type."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


class CopiedLinear:
    """Copies of plain linear layers with one input, fused into one."""

    def __init__(self, modules: Sequence[nn.Linear], dtype: torch.dtype, pack: bool) -> None:
        weight = torch.cat([module.weight.detach().to(dtype) for module in modules])
        self._packed = pack
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, 64) if pack else weight
        self._bias = None
        if any(module.bias is not None for module in modules):
            biases = [m.weight.new_zeros(m.out_features) if m.bias is None else m.bias.detach() for m in modules]
            self._bias = torch.cat(biases).to(dtype)
        self._dtype = dtype

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map `[N, in]` to `[N, sum of out]`."""
        inputs = inputs.to(self._dtype)
        if self._packed:
            return torch.ops.mkldnn._linear_pointwise(inputs, self._weight, self._bias, "none", [], "")
        return F.linear(inputs, self._weight, self._bias)


class _Joined:
    def __init__(self, parts: Sequence[Projection]) -> None:
        self._parts = parts

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.cat([part(inputs) for part in self._parts], -1)
