"""Llama and its kin in OpenVINO, against transformers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from family_checks import check_exact, check_law, default_runner
from llm_models import save_decoder

from gatehouse.engines.llm.openvino_runner import RunnerOptions, load_runner

_LLAMA3: dict[str, Any] = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
_YARN = {
    "rope_type": "yarn",
    "rope_theta": 10_000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
}
_MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama, all heads": ("llama", {"num_key_value_heads": 4}),
    "llama, one shared head": ("llama", {"num_key_value_heads": 1}),
    "llama, tied": ("llama", {"tie_word_embeddings": True}),
    "llama, biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama, wide heads": ("llama", {"head_dim": 32}),
    "llama 3": ("llama", {"rope_parameters": _LLAMA3}),
    "mistral": ("mistral", {"sliding_window": 40}),
    "mistral, no window": ("mistral", {"sliding_window": None}),
    "qwen2": ("qwen2", {}),
    "qwen2, tied": ("qwen2", {"tie_word_embeddings": True}),
    "qwen2, a window": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 40, "max_window_layers": 1},
    ),
    "qwen3": ("qwen3", {}),
    "qwen3, yarn": ("qwen3", {"rope_parameters": _YARN}),
    "smollm3": ("smollm3", {"num_hidden_layers": 4}),
    "smollm3, tied": ("smollm3", {"no_rope_layers": [1, 0], "tie_word_embeddings": True}),
}
_WIDE: dict[str, Any] = {
    "hidden_size": 192,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "head_dim": 64,
}


@pytest.mark.parametrize("name", _MODELS)
def test_float32_gives_what_transformers_gives(name: str, tmp_path: Path) -> None:
    model_type, changes = _MODELS[name]
    check_exact(save_decoder(tmp_path, model_type, **changes))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_of_half_the_size_give_what_transformers_gives(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    check_exact(save_decoder(tmp_path, "llama", dtype=dtype))


@pytest.mark.parametrize("name", ["llama", "mistral", "qwen2", "qwen3", "smollm3"])
def test_bits_do_not_depend_on_the_batch(name: str, tmp_path: Path) -> None:
    model_type, changes = _MODELS[name]
    save_decoder(tmp_path, model_type, dtype=torch.bfloat16, **changes)
    check_law(default_runner(tmp_path))


@pytest.mark.parametrize("num_threads", [1, 2])
def test_bits_of_wider_models_do_not_depend_on_the_batch(num_threads: int, tmp_path: Path) -> None:
    save_decoder(tmp_path, "llama", dtype=torch.bfloat16, **_WIDE)
    check_law(load_runner(tmp_path, RunnerOptions(num_threads=num_threads, cache_bytes=2**24)))
