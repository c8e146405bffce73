"""What tests of several floors share: the embedded student's tokenizer and the chat protocol over it."""

import os

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from mentor_pl.chat.protocol import ChatProtocol
from mentor_pl.embedded import resolve

# DeprecationWarnings are errors here. LightningCLI of lightning 2.6 calls and overrides what jsonargparse renamed in 4.49
# (`add_instantiator`, `instantiate_classes`, `skip_none`); that goes with Lightning's next release.
os.environ["JSONARGPARSE_DEPRECATION_WARNINGS"] = "off"


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(resolve("embedded:student"))


@pytest.fixture(scope="session")
def protocol(tokenizer: PreTrainedTokenizerBase) -> ChatProtocol:
    return ChatProtocol(tokenizer)
