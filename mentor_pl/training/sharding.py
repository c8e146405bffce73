"""Weights that are spread over ranks (FSDP2): how they are cut up, brought together for a rollout, saved and restored."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy, Strategy
from peft import PeftModel
from torch import nn
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.optim import Optimizer

from mentor_pl.errors import ConfigError
from mentor_pl.training.checkpoint_io import METADATA, by_index, by_name, is_sharded


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """Keep every sharded layer whole meanwhile, so that ranks may generate without waiting for each other.

    All ranks must enter and leave together. Without sharded layers nothing happens.
    """
    layers = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for layer in layers:
        layer.unshard()
        layer.set_reshard_after_forward(False, recurse=False)
    try:
        yield
    finally:
        for index, layer in enumerate(layers):
            layer.reshard()
            layer.set_reshard_after_forward(index > 0, recurse=False)  # the root stays whole until its backward pass


def check_strategy(strategy: Strategy) -> None:
    """Refuse strategies under which a rank cannot hold the whole student between two forward passes, as rollouts need.

    Raises:
        ConfigError: It is one of them.
    """
    name = type(strategy).__name__
    tensor_parallel = isinstance(strategy, ModelParallelStrategy) and strategy.device_mesh["tensor_parallel"].size() > 1
    if tensor_parallel or isinstance(strategy, FSDPStrategy) or "DeepSpeed" in name:
        raise ConfigError(
            f"trainer.strategy is {name}{' with tensor parallelism' if tensor_parallel else ''}, which cannot gather the student "
            "for a rollout; configs/strategy/fsdp.yaml spreads weights, gradients and optimiser in the same way, by FSDP2"
        )


def shard(model: nn.Module, mesh: DeviceMesh) -> None:
    """Spread a model's weights over a mesh, in place: each decoder layer by itself, then whatever is left.

    Args:
        model: A causal language model of transformers, perhaps wrapped by PEFT.
        mesh: Of one dimension.

    Raises:
        ConfigError: The model does not say what its layers are.
    """
    # Not the PeftModel: its generate() would meet whole and sharded tensors side by side.
    base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    names = set(getattr(base, "_no_split_modules", None) or ())
    layers = [module for module in base.modules() if type(module).__name__ in names]
    if not layers:
        raise ConfigError(
            f"{type(base).__name__} does not name its decoder layers (_no_split_modules), so it cannot be sharded; "
            "use configs/strategy/ddp.yaml"
        )
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(base, mesh=mesh)


class ShardedStrategy(ModelParallelStrategy):
    """Fully sharded data parallelism (FSDP2) over all devices of all nodes.

    Lightning's own strategy, but: its sizes follow from `trainer.devices` and `trainer.num_nodes`; frozen weights are not saved; a
    checkpoint may be resumed by any number of ranks under any strategy; and a sharded one replaces its predecessor only once whole.

    Args:
        save_distributed_checkpoint: Each rank writes its own shard, to a folder; otherwise rank 0 gathers and writes one file.
        process_group_backend: Of torch.distributed; by default nccl for GPUs and gloo for CPUs.
        timeout: How long ranks wait for one another: longer than the slowest rollout takes beyond the fastest.
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

    # State that is saved: only of what is trained, and the same whatever the number of ranks -------------------

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return the trained weights: this rank's shards, or all of them on rank 0 and none elsewhere."""
        return self._trained(get_model_state_dict(self._module, options=self._options()))

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Return the optimiser's state, distributed as the weights are."""
        state = get_optimizer_state_dict(self._module, _plain(optimizer), options=self._options())
        return state if self._save_distributed_checkpoint or not state else by_index(state)

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: Any = None) -> None:
        """Save a checkpoint; all ranks take part.

        Raises:
            OSError: The disk is full or read-only; an older checkpoint of that name is intact.
        """
        if not self._save_distributed_checkpoint:
            super().save_checkpoint(checkpoint, filepath, storage_options)
            return
        target = Path(self.broadcast(filepath))
        partial = target.with_name(f".{target.name}.partial")
        if self.is_global_zero:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        self.barrier()
        states = checkpoint.pop("optimizer_states", [])
        sharded = {f"optimizer_{index}": state for index, state in enumerate(states)}
        state_dict_saver.save({"state_dict": checkpoint.pop("state_dict"), **sharded}, checkpoint_id=partial)
        if self.is_global_zero:
            torch.save(checkpoint, partial / METADATA)
            _replace(partial, target)
        self.barrier()

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """Restore weights and optimiser from a checkpoint of any strategy, and return the rest of it."""
        path = Path(self.broadcast(checkpoint_path))
        if not is_sharded(path):
            checkpoint = self.checkpoint_io.load_checkpoint(path, weights_only=weights_only)
            weights = checkpoint.pop("state_dict")
            set_model_state_dict(self._module, weights, options=StateDictOptions(full_state_dict=True, strict=False))
            for optimizer, state in zip(self.optimizers, checkpoint.get("optimizer_states", []), strict=False):
                set_optimizer_state_dict(
                    self._module,
                    optimizer,
                    by_name(state, self._trained_names(optimizer)),
                    options=StateDictOptions(full_state_dict=True),
                )
            return checkpoint
        trained = StateDictOptions(ignore_frozen_params=True)
        wanted: dict[str, Any] = {"state_dict": self._trained(get_model_state_dict(self._module, options=trained))}
        for index, optimizer in enumerate(self.optimizers):
            wanted[f"optimizer_{index}"] = get_optimizer_state_dict(self._module, optimizer, options=trained)
        state_dict_loader.load(wanted, checkpoint_id=path)
        set_model_state_dict(self._module, wanted["state_dict"], options=StateDictOptions(strict=False))
        for index, optimizer in enumerate(self.optimizers):
            set_optimizer_state_dict(self._module, optimizer, wanted[f"optimizer_{index}"], options=trained)
        return torch.load(path / METADATA, weights_only=weights_only)

    @property
    def _module(self) -> nn.Module:
        if self.model is None:
            raise AssertionError("the Trainer has not connected a module yet")
        return self.model

    def _options(self) -> StateDictOptions:
        whole = not self._save_distributed_checkpoint
        return StateDictOptions(full_state_dict=whole, cpu_offload=True, ignore_frozen_params=True)

    def _trained(self, state: dict[str, Any]) -> dict[str, Any]:
        """Leave out what ignoring frozen parameters leaves in: second names of tied ones, constants of a quantisation."""
        trained = {name for name, p in self._module.named_parameters(remove_duplicate=False) if p.requires_grad}
        return {name: value for name, value in state.items() if name in trained}

    def _trained_names(self, optimizer: Optimizer) -> list[str]:
        names = {parameter: name for name, parameter in self._module.named_parameters()}
        return [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]


def _plain(optimizer: Any) -> Optimizer:
    """Take Lightning's wrapper off."""
    return getattr(optimizer, "_optimizer", optimizer)


def _replace(fresh: Path, target: Path) -> None:
    """Put a folder in the place of another one, or of a file or link."""
    if target.is_symlink() or target.is_file():
        target.unlink()
    elif target.exists():
        old = target.with_name(f".{target.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
        fresh.rename(target)
        shutil.rmtree(old)
        return
    fresh.rename(target)
