"""`mentor-pl export`: from a checkpoint of a run to an ordinary Hugging Face folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from torch import nn

from mentor_pl.callbacks.model_card import model_card
from mentor_pl.cli.layers import read_yaml
from mentor_pl.cli.parser import build, call
from mentor_pl.errors import ConfigError, StudentError
from mentor_pl.plugins import load_plugins
from mentor_pl.students.base import StudentLoader, loaded_model, loaded_tokenizer
from mentor_pl.students.export import export_student
from mentor_pl.training.checkpoint_file import read_checkpoint
from mentor_pl.training.checkpoint_io import AtomicCheckpointIO

_STUDENTS = "mentor_pl.students"
_PREFIX = "student."
"""Of the student's weights among those of the `MentorModule`."""


def export(
    checkpoint: Path,
    output: Path,
    merge: bool = True,
    dtype: Literal["float32", "bfloat16", "float16"] | None = None,
    run_dir: Path | None = None,
) -> None:
    """Write the student of a checkpoint as a folder that `from_pretrained` loads, with tokenizer, chat template and model card.

    Args:
        checkpoint: A file, or the folder that sharded ranks wrote.
        output: The folder to write; an earlier export there is replaced.
        merge: Whether an adapter is merged into its base; false writes the adapter alone.
        dtype: Of the written weights; the student's own by default.
        run_dir: The run's folder, which holds its config.yaml; by default the one in which the
            checkpoint lies.

    Raises:
        ConfigError: The checkpoint is missing or damaged, or its run's config cannot be found.
        StudentError: The checkpoint does not fit the student of that config.
    """
    read_checkpoint(checkpoint, option="--checkpoint")
    run_dir = _run_dir(checkpoint) if run_dir is None else run_dir
    loader = student_loader(run_dir / "config.yaml")
    saved = AtomicCheckpointIO().load_checkpoint(checkpoint)
    model = loaded_model(loader)
    load_weights(model, saved["state_dict"], source=checkpoint)
    card = model_card(run_dir, steps=int(saved["global_step"]), adapter_only=not merge)
    export_student(
        model,
        loaded_tokenizer(loader),
        output,
        merge=merge,
        dtype=None if dtype is None else getattr(torch, dtype),
        card=card,
    )
    print(f"the student after {saved['global_step']} weight updates is in {output}")


def student_loader(config_file: Path) -> StudentLoader:
    """Return the loader that a run's config.yaml names.

    Raises:
        ConfigError: There is no such file, or its `model.student` cannot be built.
    """
    if not config_file.is_file():
        raise ConfigError(f"there is no {config_file}; give the folder of the checkpoint's run as --run_dir")
    load_plugins(_STUDENTS)
    model = (read_yaml(config_file) or {}).get("model") or {}
    if not model.get("student"):
        raise ConfigError(
            f"{config_file}: it has no model.student; give the folder of the checkpoint's run as --run_dir"
        )
    return build({"student": model["student"]}, {"student": StudentLoader}, f"{config_file}: model")["student"]


def load_weights(model: nn.Module, state: dict[str, Any], *, source: Path) -> None:
    """Put a checkpoint's weights into a student: all that is trained, or what is trained of it.

    Raises:
        StudentError: Weights are missing, superfluous or of another shape.
    """
    weights = {name.removeprefix(_PREFIX): value for name, value in state.items() if name.startswith(_PREFIX)}
    trained = {name for name, p in model.named_parameters(remove_duplicate=False) if p.requires_grad}
    if missing := sorted(trained - weights.keys()):
        raise StudentError(
            f"{source} holds no {missing[0]!r} ({len(missing)} weights are missing); it comes from a run with another student"
        )
    try:
        unexpected = model.load_state_dict(weights, strict=False).unexpected_keys
    except RuntimeError as problem:
        raise StudentError(f"{source} does not fit the student of its run's config: {problem}") from problem
    if unexpected:
        raise StudentError(f"{source} holds {unexpected[0]!r}, which the student of its run's config does not have")


def _run_dir(checkpoint: Path) -> Path:
    folders = checkpoint.absolute().parents[:2]  # <run>/checkpoints/last.ckpt, or <run>/hpc_ckpt_1.ckpt
    for folder in folders:
        if (folder / "config.yaml").is_file():
            return folder
    raise ConfigError(
        f"neither {folders[0]} nor {folders[-1]} holds a config.yaml; give the folder of the checkpoint's run as --run_dir"
    )


def main(argv: list[str]) -> None:
    """Run `mentor-pl export`."""
    transformers.utils.logging.disable_progress_bar()
    call(export, argv, prog="mentor-pl export")
