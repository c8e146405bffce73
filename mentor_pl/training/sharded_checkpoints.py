"""Checkpoints of a student whose weights are spread over ranks: of what is trained, and the same whatever the number of ranks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import Strategy
from torch import nn
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp._common_utils import clean_tensor_name
from torch.optim import Optimizer

from mentor_pl.training.checkpoint_io import DIGESTS, METADATA, by_index, by_name, file_digest, is_sharded

_PLAN = ".metadata"
"""File of a sharded checkpoint that says where each tensor's parts lie; torch's name."""


def trained_names(module: nn.Module, *, tied: bool = True) -> set[str]:
    """Return the names of what is trained, without those of FSDP1's wrappers; a tied weight has several, or with `tied` false one."""
    parameters = module.named_parameters(remove_duplicate=not tied)
    return {clean_tensor_name(name) for name, parameter in parameters if parameter.requires_grad}


class ShardedCheckpoints(Strategy):
    """What strategies that shard have in common: to be mixed into one of Lightning's.

    Args:
        save_distributed_checkpoint: Each rank writes its own shard, to a folder; otherwise rank 0
            gathers and writes one file.
    """

    _save_distributed_checkpoint: bool
    _copies_to_cpu = True
    """Whether what is saved is copied there first."""

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
        digests = _gathered_digests(partial, dist.get_rank())
        if self.is_global_zero:
            torch.save(checkpoint, partial / METADATA)
            digests |= {name: file_digest(partial / name) for name in (METADATA, _PLAN)}
            (partial / DIGESTS).write_text(json.dumps(digests, indent=1) + "\n")
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
        self._set_shards(wanted["state_dict"])
        for index, optimizer in enumerate(self.optimizers):
            set_optimizer_state_dict(self._module, optimizer, wanted[f"optimizer_{index}"], options=trained)
        return torch.load(path / METADATA, weights_only=weights_only)

    @property
    def _module(self) -> nn.Module:
        if self.model is None:
            raise AssertionError("the Trainer has not connected a module yet")
        return self.model

    def _set_shards(self, weights: dict[str, Any]) -> None:
        set_model_state_dict(self._module, weights, options=StateDictOptions(strict=False))

    def _options(self) -> StateDictOptions:
        whole = not self._save_distributed_checkpoint
        return StateDictOptions(full_state_dict=whole, cpu_offload=self._copies_to_cpu, ignore_frozen_params=True)

    def _trained(self, state: dict[str, Any]) -> dict[str, Any]:
        """Leave out what ignoring frozen parameters leaves in: second names of tied ones, constants of a quantisation."""
        trained = trained_names(self._module)
        return {name: value for name, value in state.items() if name in trained}

    def _trained_names(self, optimizer: Optimizer) -> list[str]:
        names = {p: clean_tensor_name(name) for name, p in self._module.named_parameters()}
        return [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]


def _gathered_digests(folder: Path, rank: int) -> dict[str, str]:
    """Digest the files that this rank has written; return those of all ranks."""
    mine = {file.name: file_digest(file) for file in sorted(folder.glob(f"__{rank}_*"))}
    of_ranks: list[dict[str, str]] = [mine] * dist.get_world_size()
    dist.all_gather_object(of_ranks, mine)
    return {name: digest for digests in of_ranks for name, digest in digests.items()}


def _plain(optimizer: Any) -> Optimizer:
    """Take Lightning's wrapper off."""
    return optimizer.optimizer if isinstance(optimizer, LightningOptimizer) else optimizer


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
