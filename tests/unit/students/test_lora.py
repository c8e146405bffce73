from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mentor_pl.errors import StudentError
from mentor_pl.students.full import FullStudent
from mentor_pl.students.lora import LoraStudent

MakeFolder = Callable[..., Path]


def test_only_the_adapter_is_trained(make_folder: MakeFolder) -> None:
    model = LoraStudent(str(make_folder()), rank=4, alpha=8.0, dtype="bfloat16").load_model()
    assert all(module.training for module in model.modules())
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    assert len(trained) == 2 * 7 * 2  # two layers with q, k, v, o, gate, up, down; two factors each
    assert all("lora_" in name and weight.dtype == torch.float32 for name, weight in trained.items())
    # Sizes (in, out) of q, k, v, o, gate, up, down; a factor pair has rank * (in + out) weights.
    sizes = [(64, 64), (64, 32), (64, 32), (64, 64), (64, 128), (64, 128), (128, 64)]
    assert sum(weight.numel() for weight in trained.values()) == 2 * sum(4 * (a + b) for a, b in sizes)


def test_the_start_is_the_frozen_model(make_folder: MakeFolder) -> None:
    folder = str(make_folder("qwen2"))
    ids = torch.arange(3, 19).view(1, 16)
    with torch.no_grad():
        frozen = FullStudent(folder).load_model()(input_ids=ids).logits
        student = LoraStudent(folder).load_model()
        torch.testing.assert_close(student(input_ids=ids).logits, frozen)
        for name, weight in student.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.1)
        assert (student(input_ids=ids).logits - frozen).abs().max() > 0.1
        with student.disable_adapter():  # type: ignore[operator]
            torch.testing.assert_close(student(input_ids=ids).logits, frozen)


def test_ranks_start_from_the_same_adapter_and_keep_their_own_random_state(make_folder: MakeFolder) -> None:
    folder = str(make_folder())

    def first_factors(rank_seed: int, init_seed: int) -> list[torch.Tensor]:
        torch.manual_seed(rank_seed)
        before = torch.get_rng_state()
        model = LoraStudent(folder, init_seed=init_seed).load_model()
        assert torch.equal(torch.get_rng_state(), before)
        return [weight for name, weight in model.named_parameters() if "lora_A" in name]

    one, other, reseeded = first_factors(1, 0), first_factors(2, 0), first_factors(1, 5)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert not torch.equal(one[0], reseeded[0])


def test_target_modules_are_a_key(make_folder: MakeFolder) -> None:
    model = LoraStudent(str(make_folder()), target_modules=["q_proj"]).load_model()
    assert sum(weight.requires_grad for weight in model.parameters()) == 2 * 2


def test_gradient_checkpointing_reaches_the_adapter(make_folder: MakeFolder) -> None:
    folder = str(make_folder())
    ids = torch.arange(3, 19).view(1, 16)
    gradients = []
    for checkpointing in (False, True):
        model = LoraStudent(folder, gradient_checkpointing=checkpointing).load_model()
        model(input_ids=ids, labels=ids).loss.backward()
        gradients.append(torch.stack([w.grad.norm() for n, w in model.named_parameters() if "lora_B" in n]))
    assert gradients[0].min() > 0
    torch.testing.assert_close(gradients[1], gradients[0])


def test_targets_that_do_not_exist(make_folder: MakeFolder) -> None:
    folder = make_folder()
    with pytest.raises(StudentError) as refused:
        LoraStudent(str(folder), target_modules=["query"]).load_model()
    assert str(refused.value).startswith(f"student {str(folder)!r}: LoRA cannot be put on target_modules ")
    assert str(refused.value).endswith("set model.student's `target_modules` to 'all-linear' or to names of its layers")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rank": 0}, "LoRA rank is 0; set model.student's `rank` to at least 1"),
        ({"dropout": 1.0}, r"LoRA dropout is 1.0; set model.student's `dropout` to a value in \[0, 1\)"),
    ],
)
def test_values_out_of_range(values: dict[str, int | float], message: str) -> None:
    with pytest.raises(StudentError, match=message):
        LoraStudent("embedded:student", **values)  # type: ignore[arg-type]
