from __future__ import annotations

import pytest
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mentor_pl.errors import PluginError
from mentor_pl.students.base import StudentLoader
from mentor_pl.students.full import FullStudent
from mentor_pl.testing import check_student_loader


class Embedded(StudentLoader):
    """The embedded student; subclasses spoil it."""

    def __init__(self) -> None:
        self.loader = FullStudent("embedded:student")

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        return self.loader.load_tokenizer()

    def load_model(self) -> PreTrainedModel:
        return self.loader.load_model()


class NoPad(Embedded):
    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        tokenizer = super().load_tokenizer()
        tokenizer.pad_token = None
        return tokenizer


class Frozen(Embedded):
    def load_model(self) -> PreTrainedModel:
        return super().load_model().requires_grad_(False)


class NotFinite(Embedded):
    def load_model(self) -> PreTrainedModel:
        model = super().load_model()
        nn.init.constant_(model.get_input_embeddings().weight, float("nan"))
        return model


class TooFewTokens(Embedded):
    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        tokenizer = super().load_tokenizer()
        tokenizer.add_tokens([f"new{i}" for i in range(20_000)])
        return tokenizer


class NoModel(Embedded):
    def load_model(self) -> PreTrainedModel:
        return nn.Linear(2, 2)  # pyright: ignore[reportReturnType]


def test_the_embedded_student_keeps_the_contract() -> None:
    check_student_loader(Embedded())


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        (NoPad(), "the tokenizer has no pad token; set one in load_tokenizer"),
        (Frozen(), "no parameter has requires_grad; load_model says what is to be trained"),
        (NotFinite(), "or not all finite"),
        (TooFewTokens(), "resize the model's embeddings"),
        (NoModel(), "load_model gave Linear; it must be a model of transformers"),
    ],
)
def test_a_broken_clause_is_named(loader: StudentLoader, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        check_student_loader(loader)
