"""What CUDA graphs do to a computation, on a CPU: its operators run again on the very same tensors, and its Python does not."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
HOST = {aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default, aten.lift_fresh.default}
"""Operators that wait for the device or take data from Python, which a graph cannot hold."""


class OpTape(TorchDispatchMode):
    """Notes the operators of a computation with their tensors while it lasts."""

    def __init__(self):
        super().__init__()
        self.calls = []
        self.replays = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        indices = tree_leaves(args[1]) if func is aten.index.Tensor else ()
        if func in HOST or any(index.dtype == torch.bool for index in indices if index is not None):
            raise RuntimeError(f"{func} cannot be recorded")
        outputs = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, outputs))
        return outputs

    def replay(self):
        self.replays += 1
        for func, args, kwargs, outputs in self.calls:
            again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(outputs), tree_leaves(again), strict=True):
                # views and what was changed in place are there already
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class Tapes:
    """A recorder that keeps its tapes."""

    def __init__(self):
        self.tapes = []

    def __call__(self):
        return self.record

    def record(self, compute):
        tape = OpTape()
        with tape:
            result = compute()
        # recording computes nothing on a GPU
        result.fill_(float("nan"))
        self.tapes.append(tape)
        return tape.replay, result
