"""Weights that are spread over ranks by FSDP1: each decoder layer as one flat tensor, behind a wrapper."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.plugins.precision import FSDPPrecision, Precision
from lightning.pytorch.strategies import FSDPStrategy
from torch import nn
from torch.distributed.checkpoint.state_dict import get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, MixedPrecision
from torch.distributed.fsdp.wrap import CustomPolicy
from torch.optim import Optimizer

from mentor_pl.adapters import is_adapter
from mentor_pl.errors import ConfigError
from mentor_pl.training.sharded_checkpoints import ShardedCheckpoints


@contextmanager
def unwrapped(root: FullyShardedDataParallel) -> Iterator[nn.Module]:
    """Give the model inside, with whole weights and without any wrapper: calling it makes no rank wait for another.

    All ranks must enter and leave together.
    """
    wrapped = [
        (parent, name, child)
        for parent in root.module.modules()
        for name, child in parent.named_children()
        if isinstance(child, FullyShardedDataParallel)
    ]
    with FullyShardedDataParallel.summon_full_params(root, writeback=False):
        for parent, name, wrapper in wrapped:
            setattr(parent, name, wrapper.module)
        try:
            yield root.module
        finally:
            for parent, name, wrapper in wrapped:
                setattr(parent, name, wrapper)


class FSDP1Precision(FSDPPrecision):
    """Lightning's, but: mixed precision is autocast, as under all other strategies; and gradients can be clipped by their norm.

    FSDP1's own mixed precision casts weights and buffers, so that norms, rotary angles and the
    output head would be computed in bfloat16 too.

    Args:
        precision: As in `trainer.precision`.
        strategy: That it belongs to.
    """

    def __init__(self, precision: Any, strategy: FSDP1Strategy) -> None:
        super().__init__(precision)
        self._strategy = strategy

    def convert_module(self, module: nn.Module) -> nn.Module:
        """Leave the student in the type that it was loaded in."""
        return module

    def forward_context(self) -> AbstractContextManager[Any]:
        """Compute in the type asked for."""
        if "mixed" not in self.precision:
            return super().forward_context()
        dtype = torch.bfloat16 if self.precision == "bf16-mixed" else torch.float16
        return torch.autocast(self._strategy.root_device.type, dtype=dtype, cache_enabled=False)

    def clip_grad_by_norm(self, optimizer: Optimizer, clip_val: float) -> None:  # type: ignore[override]
        """Clip by the norm over all ranks."""
        if self._strategy.root is None:
            Precision.clip_grad_by_norm(self, optimizer, clip_val)
        else:
            self._strategy.root.clip_grad_norm_(clip_val)

    def convert_input(self, data: Any) -> Any:
        """Leave batches alone: their log-probabilities are float32 in every precision."""
        return data

    convert_output = convert_input


class FSDP1Strategy(ShardedCheckpoints, FSDPStrategy):
    """Fully sharded data parallelism (FSDP1) over all devices of all nodes.

    Lightning's own strategy, but: decoder layers are found and wrapped without a policy; gradients
    are clipped by their norm; mixed precision is autocast; it also runs on CPUs; and checkpoints
    are those of `FSDP2Strategy`.

    Args:
        save_distributed_checkpoint: Each rank writes its own shard, to a folder; otherwise rank 0
            writes one file.
        process_group_backend: Of torch.distributed; by default nccl for GPUs and gloo for CPUs.
        timeout: How long ranks wait for one another: longer than the slowest rollout takes beyond
            the fastest.
    """

    def __init__(
        self,
        save_distributed_checkpoint: bool = True,
        process_group_backend: str | None = None,
        timeout: timedelta = timedelta(hours=2),
    ) -> None:
        super().__init__(
            process_group_backend=process_group_backend,
            timeout=timeout,
            mixed_precision=MixedPrecision(),  # none, see above
            state_dict_type="sharded" if save_distributed_checkpoint else "full",
        )
        self._save_distributed_checkpoint = save_distributed_checkpoint

    def wrap(self, model: nn.Module, layers: Sequence[nn.Module]) -> FullyShardedDataParallel:
        """Spread a model's weights over the ranks, in place.

        Args:
            model: On any device.
            layers: Those of its modules that are gathered one by one.

        Raises:
            ConfigError: Weights of one layer differ in type, as FSDP1 does not allow.
        """
        units = {model, *layers, *(_adapters(model) if is_adapter(model) else ())}
        for unit in (model, *layers):
            _check_one_type(unit, units)
        return FullyShardedDataParallel(
            model,
            auto_wrap_policy=CustomPolicy(units.__contains__),
            use_orig_params=True,  # the optimiser is made for the student's own weights
            device_mesh=init_device_mesh(self.root_device.type, (self.world_size,)),
            device_id=self.root_device,
        )

    def _setup_model(self, model: nn.Module) -> nn.Module:
        return model  # the student in it is wrapped already, or there is one rank

    def setup(self, trainer: Trainer) -> None:
        """Set up as Lightning does, and let the module know which device its weights are on."""
        super().setup(trainer)
        assert self.lightning_module is not None
        self.lightning_module.to(self.root_device)

    @property
    def root(self) -> FullyShardedDataParallel | None:
        """The wrapper around the whole student; None while there is none."""
        roots = FullyShardedDataParallel.fsdp_modules(self._module, root_only=True)
        return roots[0] if roots else None

    @FSDPStrategy.precision_plugin.setter
    def precision_plugin(self, precision_plugin: Precision | None) -> None:
        """Put ours in the place of Lightning's."""
        if isinstance(precision_plugin, FSDPPrecision):
            precision_plugin = FSDP1Precision(precision_plugin.precision, self)
        self._precision_plugin = precision_plugin

    @property
    def _copies_to_cpu(self) -> bool:
        # torch 2.13 frees weights that lie on a CPU already before it has read them: a segmentation fault.
        return self.root_device.type != "cpu"

    def _set_shards(self, weights: dict[str, Any]) -> None:
        # FSDP1 misses weights that are left out: what is frozen is set to itself.
        super()._set_shards(get_model_state_dict(self._module) | weights)


def _adapters(model: nn.Module) -> Iterator[nn.Module]:
    """Give an adapter's matrices, each to be sharded by itself: beside frozen weights, those would get a gradient too."""
    for module in model.modules():
        if isinstance(module, nn.Linear) and module.weight.requires_grad:
            yield module


def _check_one_type(unit: nn.Module, units: Collection[nn.Module]) -> None:
    inner = {p for module in unit.modules() if module in units and module is not unit for p in module.parameters()}
    types = {str(p.dtype).removeprefix("torch.") for p in unit.parameters() if p not in inner}
    if len(types) > 1:
        raise ConfigError(
            f"FSDP1 keeps the weights of each {type(unit).__name__} as one tensor, but they are of types {', '.join(sorted(types))}; for "
            "a 4-bit student set model.student's `quant_storage` to the type of the others, or take configs/strategy/fsdp.yaml"
        )
