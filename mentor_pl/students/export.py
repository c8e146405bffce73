"""From a trained student to an ordinary Hugging Face folder."""

from __future__ import annotations

import copy
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import init_empty_weights
from safetensors import SafetensorError
from torch import nn
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from mentor_pl.adapters import is_adapter, is_four_bit, is_lora_layer
from mentor_pl.causal_model import model_state
from mentor_pl.chat.protocol import ChatProtocol
from mentor_pl.errors import ChatFormatError, StudentError
from mentor_pl.students.atomic_folder import atomic_folder

if TYPE_CHECKING:
    from bitsandbytes.nn.modules import Linear4bit
    from peft.tuners.lora import LoraLayer


def export_student(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    output: Path,
    *,
    merge: bool = True,
    dtype: torch.dtype | None = None,
    card: str | None = None,
) -> None:
    """Write the student as a folder that `from_pretrained` loads: weights, generation config, tokenizer, chat template, card.

    The student itself is left as it is. A 4-bit base is dequantised, which is exact, before the
    adapter is added to it: adding to 4-bit weights would round the sum to 4 bits again.

    Args:
        model: A transformers model, or a `PeftModel` around one, with whole weights: gather a
            sharded one first.
        tokenizer: The student's.
        output: The folder; an earlier export there is replaced, whole.
        merge: Add the adapter to the weights. False writes the adapter alone, for
            `PeftModel.from_pretrained`.
        dtype: Of the written weights; the student's own by default. The merged sum is formed in
            float32 and rounded once, but bfloat16 has 8 bits and swallows changes much smaller than
            the weight itself: export in float32 where that matters.
        card: Text of the model card (README.md); none by default.

    Raises:
        StudentError: The output is something else than an earlier export, or the student cannot be
            written in the form asked for.
    """
    if output.exists() and not any((output / name).is_file() for name in ("config.json", "adapter_config.json")):
        raise StudentError(
            f"export to {str(output)!r}: it exists and is no model folder; remove it or choose another output"
        )
    base = model.get_base_model() if is_adapter(model) else model
    if not isinstance(base, PreTrainedModel):
        raise StudentError(
            f"export: the student is a {type(model).__name__}; only transformers and peft models are written"
        )
    with atomic_folder(output) as folder, _written_to(output):
        if merge:
            dense_copy(model, dtype=dtype).save_pretrained(folder)
        elif is_adapter(model):
            # "auto" would ask the hub whether the vocabulary has grown.
            model.save_pretrained(str(folder), save_embedding_layers=False, state_dict=model_state(model))
        else:
            raise StudentError("export: the student has no adapter to be written alone; export it merged")
        _generation_config(base, tokenizer).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        if card is not None:
            (folder / "README.md").write_text(card, encoding="utf-8")


@contextmanager
def _written_to(output: Path) -> Generator[None]:
    try:
        yield
    except SafetensorError as failure:  # also a full disk, which safetensors reports as its own
        raise StudentError(
            f"export to {str(output)!r}: the weights cannot be written ({failure}); make room there, then export the run's last checkpoint"
        ) from failure


def dense_copy(model: nn.Module, *, dtype: torch.dtype | None = None) -> PreTrainedModel:
    """Return the plain model of the student's class: nothing quantised, adapter added. Weights that need no change are shared, not copied.

    Args:
        model: As for `export_student`.
        dtype: Of all weights; the student's own by default.

    Raises:
        StudentError: The adapter is of a kind that cannot be added.
    """
    base: PreTrainedModel = model.get_base_model() if is_adapter(model) else model  # type: ignore[assignment]
    dtype = next(base.get_input_embeddings().parameters()).dtype if dtype is None else dtype
    weights = _merged_weights(base, dtype)
    config: Any = copy.deepcopy(base.config)
    config.dtype = dtype
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    if any(is_lora_layer(layer) for layer in (base.get_input_embeddings(), base.get_output_embeddings())):
        config.tie_word_embeddings = False  # the adapter of one end is not in the other
    with init_empty_weights(
        include_buffers=False
    ):  # buffers that no state dict holds, as rotary frequencies, have to be made
        plain: Any = type(base)(config)
    plain.load_state_dict(weights, assign=True)
    plain.tie_weights()  # assignment broke what was tied
    plain.generation_config = copy.deepcopy(base.generation_config)
    return plain.to(base.device)


def _merged_weights(base: PreTrainedModel, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Return weights and persistent buffers under the names that they have without quantisation and adapter."""
    adapted = {name: layer for name, layer in base.named_modules() if is_lora_layer(layer)}
    packed = {f"{name}.weight": layer for name, layer in base.named_modules() if is_four_bit(layer)}
    weights: dict[str, torch.Tensor] = {}
    for name, tensor in model_state(base).items():
        parts = name.split(".")
        if any(part.startswith("lora_") for part in parts):
            continue
        if "original_module" in parts or "modules_to_save" in parts:
            raise StudentError(f"export: {name!r} is a copy kept by peft's modules_to_save; export with merge=False")
        weight = _dequantised(tensor, packed.get(name))
        owner, _, leaf = name.rpartition(".")
        owner = owner.removesuffix(".base_layer")
        if owner in adapted and leaf == "weight":
            weight = weight.float() + _delta(adapted[owner], owner)
        weights[f"{owner}.{leaf}"] = weight.to(dtype) if weight.is_floating_point() else weight
    return weights


def _dequantised(weight: torch.Tensor, layer: Linear4bit | None) -> torch.Tensor:
    if layer is None:
        return weight.detach()
    # FSDP2 puts plain tensors in the place of those that know how they are packed; the layer knows it too.
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(weight.data, getattr(weight, "quant_state", None) or layer.quant_state)


def _delta(layer: LoraLayer, name: str) -> torch.Tensor:
    """Return what the active adapters add to a layer's weight, in float32."""
    if any(layer.use_dora.get(adapter) for adapter in layer.active_adapters):
        raise StudentError(f"export: the adapter of {name!r} is a DoRA, which is not a sum; export with merge=False")
    present = [adapter for adapter in layer.active_adapters if adapter in layer.scaling]
    missing = [adapter for adapter in present if adapter not in layer.merged_adapters]
    with torch.no_grad():
        deltas = [layer.get_delta_weight(adapter).float() for adapter in missing]  # type: ignore[attr-defined]
    return sum(deltas, start=torch.zeros(()))


def _generation_config(base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> GenerationConfig:
    """Return the model's generation config, with every token that ends a turn and the one that pads."""
    config = copy.deepcopy(base.generation_config) or GenerationConfig()
    ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    ends = [end for end in ends if end is not None]
    try:
        stops = ChatProtocol(tokenizer, ends).stop_token_ids
    except ChatFormatError:  # not a student of ours
        stops = () if tokenizer.eos_token_id is None else (tokenizer.eos_token_id,)
    ends = list(dict.fromkeys([*ends, *stops]))
    config.eos_token_id = ends[0] if len(ends) == 1 else ends or None
    config.pad_token_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else config.pad_token_id
    return config
