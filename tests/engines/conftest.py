"""Tiny models, one copy for the whole run."""

from pathlib import Path

import pytest
import torch
from tiny_models import save_tiny_gpt2, save_tiny_llama

# The machine is shared: threads that wait for each other by spinning are many times slower.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def gpt2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_gpt2(tmp_path_factory.mktemp("gpt2"))
