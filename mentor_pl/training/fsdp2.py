"""Weights that are spread over ranks: how they are cut up and brought together for a rollout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy, Strategy
from torch import nn
from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel, fully_shard

from mentor_pl.adapters import is_adapter
from mentor_pl.errors import ConfigError
from mentor_pl.training.fsdp1 import FSDP1Strategy, unwrapped
from mentor_pl.training.sharded_checkpoints import ShardedCheckpoints


@contextmanager
def gathered(model: nn.Module) -> Iterator[nn.Module]:
    """Give the plain model with whole weights, so that ranks may generate without waiting for each other.

    All ranks must enter and leave together. Without sharded layers nothing happens.
    """
    if isinstance(model, FullyShardedDataParallel):
        with unwrapped(model) as plain:
            yield plain
        return
    layers = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for layer in layers:
        layer.unshard()
        layer.set_reshard_after_forward(False, recurse=False)
    try:
        yield model
    finally:
        for index, layer in enumerate(layers):
            layer.reshard()
            layer.set_reshard_after_forward(index > 0, recurse=False)  # the root stays whole until its backward pass


def check_strategy(strategy: Strategy) -> None:
    """Refuse strategies under which a rank cannot hold the whole student between two forward passes, as rollouts need, and what else fails.

    Raises:
        ConfigError: It is one of them, or its precision would round log-probabilities too.
    """
    precision = str(strategy.precision_plugin.precision)
    if precision != "32-true" and precision.endswith("-true"):
        raise ConfigError(
            f"trainer.precision is {precision}, which converts what is measured as well, log-probabilities among it; for weights in "
            "bfloat16 set model.student.init_args.dtype: bfloat16, to compute in it with weights in float32 trainer.precision: bf16-mixed"
        )
    name = type(strategy).__name__
    if isinstance(strategy, FSDPStrategy) and not isinstance(strategy, FSDP1Strategy):
        raise ConfigError(
            f"trainer.strategy is Lightning's own {name}, which neither clips gradients by their norm nor gathers the student for a "
            "rollout; take configs/strategy/fsdp1.yaml, the same with both, or configs/strategy/fsdp.yaml, FSDP2"
        )
    tensor_parallel = isinstance(strategy, ModelParallelStrategy) and strategy.device_mesh["tensor_parallel"].size() > 1
    if tensor_parallel or "DeepSpeed" in name:
        raise ConfigError(
            f"trainer.strategy is {name}{' with tensor parallelism' if tensor_parallel else ''}, which cannot gather the student "
            "for a rollout; configs/strategy/fsdp.yaml spreads weights, gradients and optimiser in the same way, by FSDP2"
        )


def shard(model: nn.Module, strategy: Strategy) -> nn.Module:
    """Spread a model's weights over the ranks where the strategy does so: each decoder layer by itself, then whatever is left.

    Args:
        model: A causal language model of transformers, perhaps wrapped by PEFT.
        strategy: The trainer's.

    Returns:
        What to call in the model's place: the model itself, or FSDP1's wrapper of it.

    Raises:
        ConfigError: The model does not say what its layers are, or holds weights that this torch
            cannot shard.
    """
    if isinstance(strategy, FSDP1Strategy):
        # For one rank FSDP1 has a mode of its own, after which the state dict lacks frozen weights (torch 2.13).
        return strategy.wrap(model, decoder_layers(model)) if strategy.world_size > 1 else model
    if isinstance(strategy, FSDP2Strategy):
        mesh = strategy.device_mesh["data_parallel"]
        integers = {parameter.dtype for parameter in model.parameters() if not parameter.is_floating_point()}
        try:
            for layer in decoder_layers(model):
                fully_shard(layer, mesh=mesh)
            # Not the PeftModel: its generate() would meet whole and sharded tensors side by side.
            fully_shard(model.get_base_model() if is_adapter(model) else model, mesh=mesh)
        except RuntimeError as failure:
            if not integers:
                raise
            raise ConfigError(
                f"FSDP2 of torch {torch.__version__} cannot shard weights kept as {integers.pop()}, as a 4-bit student's are; set "
                "model.student's `quant_storage` to the type of its other weights, or take torch 2.13, which can"
            ) from failure
    return model


def decoder_layers(model: nn.Module) -> list[nn.Module]:
    """Return the modules that are gathered one by one.

    Raises:
        ConfigError: The model does not say what its layers are.
    """
    base: Any = model.get_base_model() if is_adapter(model) else model
    names = set(getattr(base, "_no_split_modules", None) or ())
    layers = [module for module in base.modules() if type(module).__name__ in names]
    if not layers:
        raise ConfigError(
            f"{type(base).__name__} does not name its decoder layers (_no_split_modules), so it cannot be sharded; "
            "use configs/strategy/ddp.yaml"
        )
    return layers


class FSDP2Strategy(ShardedCheckpoints, ModelParallelStrategy):
    """Fully sharded data parallelism (FSDP2) over all devices of all nodes.

    Lightning's own strategy, but: its sizes follow from `trainer.devices` and `trainer.num_nodes`;
    frozen weights are not saved; a checkpoint may be resumed by any number of ranks under any
    strategy; and a sharded one replaces its predecessor only once whole.

    Args:
        save_distributed_checkpoint: Each rank writes its own shard, to a folder; otherwise rank 0
            gathers and writes one file.
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
            tensor_parallel_size=1,
            save_distributed_checkpoint=save_distributed_checkpoint,
            process_group_backend=process_group_backend,
            timeout=timeout,
        )

    def setup_environment(self) -> None:
        """Take every device for the data-parallel dimension, then join the other ranks."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()
