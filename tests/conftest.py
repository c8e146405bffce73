"""What tests of several floors share: the embedded student's tokenizer and the chat protocol over it."""

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from mentor_pl.chat.protocol import ChatProtocol
from mentor_pl.embedded import resolve


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(resolve("embedded:student"))


@pytest.fixture(scope="session")
def protocol(tokenizer: PreTrainedTokenizerBase) -> ChatProtocol:
    return ChatProtocol(tokenizer)
