from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from bitsandbytes.nn import Linear4bit

from mentor_pl.students.export import dense_copy
from mentor_pl.students.full import FullStudent
from mentor_pl.students.lora import LoraStudent
from mentor_pl.students.nf4 import Nf4LoraStudent

MakeFolder = Callable[..., Path]
LINEAR_LAYERS = 2 * 7  # two decoder layers with q, k, v, o, gate, up, down


def four_bit_layers(model: torch.nn.Module) -> list[Linear4bit]:
    return [layer for layer in model.modules() if isinstance(layer, Linear4bit)]


def set_adapter(model: torch.nn.Module) -> None:
    """Both factors away from zero, so that all gradients are."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.copy_(0.05 * torch.randn(weight.shape, generator=generator))


@pytest.mark.parametrize("storage", ["uint8", "bfloat16"])
def test_frozen_weights_are_in_four_bits(make_folder: MakeFolder, storage: str) -> None:
    model = Nf4LoraStudent(str(make_folder()), rank=4, quant_storage=storage, dtype="bfloat16").load_model()  # type: ignore[arg-type]
    assert all(module.training for module in model.modules())
    layers = four_bit_layers(model)
    assert len(layers) == LINEAR_LAYERS
    for layer in layers:
        # Half a byte a weight; double quantisation keeps one float32 for every 256 of the one-byte constants of 64 weights each.
        assert layer.weight.numel() * layer.weight.element_size() == layer.in_features * layer.out_features // 2
        assert layer.weight.dtype == getattr(torch, storage)
        assert layer.weight.quant_state.quant_type == "nf4"
        assert layer.weight.quant_state.nested
        assert layer.weight.quant_state.absmax.dtype == torch.uint8
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    assert len(trained) == 2 * LINEAR_LAYERS and all(weight.dtype == torch.float32 for weight in trained)


def test_weights_are_the_folders_rounded_to_nf4(make_folder: MakeFolder) -> None:
    folder = str(make_folder())
    full = FullStudent(folder).load_model().get_submodule("model.layers.1.mlp.up_proj").weight.detach()
    student = Nf4LoraStudent(folder, double_quant=False).load_model()
    layer = student.get_submodule("base_model.model.model.layers.1.mlp.up_proj.base_layer")
    packed, state = quantize_4bit(full.clone(), quant_type="nf4")
    rounded = dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    torch.testing.assert_close(rounded.cpu(), dequantize_4bit(packed, state).cpu(), rtol=0, atol=0)
    assert (
        0 < (rounded.cpu() - full).abs().mean() < 0.15 * full.abs().mean()
    )  # NF4 on a uniform or normal weight: about a tenth


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_gradients_after_a_rollout_are_those_of_the_dequantised_model(make_folder: MakeFolder, family: str) -> None:
    """On CPUs with AVX512-BF16 bitsandbytes would repack the weights in the eval forward, and lose gradients afterwards."""
    folder = str(make_folder(family))
    student = Nf4LoraStudent(folder).load_model()
    set_adapter(student)
    plain_base = student.get_base_model()  # type: ignore[operator]
    reference = LoraStudent(folder).load_model()
    with torch.no_grad():
        weights = dict(plain_base.named_modules())
        for name, layer in reference.get_base_model().named_modules():  # type: ignore[operator]
            if isinstance(weights.get(name), Linear4bit):
                layer.weight.copy_(dequantize_4bit(weights[name].weight.data, weights[name].weight.quant_state))
    set_adapter(reference)
    ids = torch.arange(3, 35).view(2, 16).to(student.device)
    gradients = []
    for model in (student, reference.to(student.device)):
        model.eval()
        with torch.no_grad():
            model(input_ids=ids)
        model.train()
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        gradients.append({name: weight.grad for name, weight in model.named_parameters() if weight.requires_grad})
    assert all(
        not getattr(layer.weight.quant_state, "packing_format_for_cpu", False) for layer in four_bit_layers(student)
    )
    assert gradients[0].keys() == gradients[1].keys() and len(gradients[0]) == 2 * LINEAR_LAYERS
    for name, gradient in gradients[0].items():
        expected = gradients[1][name]
        assert expected.norm() > 1e-4, name
        assert (gradient - expected).norm() < 1e-3 * expected.norm(), name


def test_repacking_is_switched_off_in_every_layer(make_folder: MakeFolder) -> None:
    layers = four_bit_layers(Nf4LoraStudent(str(make_folder())).load_model())
    assert [layer.support_avx512bf16_for_cpu for layer in layers] == [False] * LINEAR_LAYERS


def test_learns_as_lora_does(make_folder: MakeFolder) -> None:
    """Same data, same rate: the losses of 30 steps stay together, and fall."""
    folder = str(make_folder())
    ids = torch.arange(3, 67).view(2, 32)
    curves = []
    for loader in (LoraStudent(folder), Nf4LoraStudent(folder)):
        model = loader.load_model()
        optimiser = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=1e-2)
        losses = []
        for _ in range(30):
            loss = model(input_ids=ids.to(model.device), labels=ids.to(model.device)).loss
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        curves.append(losses)
    assert curves[1][-1] < curves[1][0] - 1.0
    assert abs(curves[1][-1] - curves[0][-1]) < 0.2 * (curves[0][0] - curves[0][-1])


def test_dense_copy_is_the_student(make_folder: MakeFolder) -> None:
    student = Nf4LoraStudent(str(make_folder("qwen2"))).load_model()
    set_adapter(student)
    ids = torch.arange(3, 35).view(2, 16).to(student.device)
    with torch.no_grad():
        torch.testing.assert_close(
            dense_copy(student)(input_ids=ids).logits, student(input_ids=ids).logits, rtol=1e-4, atol=1e-4
        )
