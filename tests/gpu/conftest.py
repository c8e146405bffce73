"""Where the tests of this folder run: on a CUDA device, or, to try the tests themselves, where MENTOR_PL_TEST_DEVICE says."""

import os

import pytest
import torch


@pytest.fixture(scope="session")
def device() -> str:
    name = os.environ.get("MENTOR_PL_TEST_DEVICE", "cuda")
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return name
