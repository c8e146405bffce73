"""The plugin point for student loaders (entry-point group `mentor_pl.students`)."""

from __future__ import annotations

from abc import ABC, abstractmethod

from transformers import PreTrainedModel, PreTrainedTokenizerBase


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
