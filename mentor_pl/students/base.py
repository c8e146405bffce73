"""The plugin point for student loaders (entry-point group `mentor_pl.students`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mentor_pl.errors import StudentError
from mentor_pl.plugins import keeping_contract


class StudentLoader(ABC):
    """Builds the trainable student, once per rank. Constructor arguments are the loader's YAML keys.

    Check an implementation with `mentor_pl.testing.check_student_loader`.
    """

    @abstractmethod
    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """Return the tokenizer, with a chat template that renders tools and with a pad token.

        Raises:
            StudentError: It cannot be loaded.
        """

    @abstractmethod
    def load_model(self) -> PreTrainedModel:
        """Return the causal language model with `requires_grad` set on what is to be trained (a `PeftModel` counts as one).

        Raises:
            StudentError: It cannot be loaded.
        """


def loaded_tokenizer(loader: StudentLoader) -> PreTrainedTokenizerBase:
    """Return a loader's tokenizer.

    Raises:
        StudentError: It cannot be loaded, or is none.
    """
    with keeping_contract(loader, ".load_tokenizer", StudentError):
        found: Any = loader.load_tokenizer()
    if not isinstance(found, PreTrainedTokenizerBase):
        raise StudentError(
            f"{type(loader).__name__}.load_tokenizer gave {found!r:.100}; it gives a tokenizer of transformers"
        )
    return found


def loaded_model(loader: StudentLoader) -> PreTrainedModel:
    """Return a loader's model.

    Raises:
        StudentError: It cannot be loaded, or is none.
    """
    with keeping_contract(loader, ".load_model", StudentError):
        found: Any = loader.load_model()
    if not isinstance(found, nn.Module):
        raise StudentError(f"{type(loader).__name__}.load_model gave {found!r:.100}; it gives a model of transformers")
    return found  # type: ignore[return-value]  # a PeftModel is none by its class
