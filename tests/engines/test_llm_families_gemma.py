"""Gemma in OpenVINO, against transformers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from family_checks import check_exact, check_law, default_runner, exact_runner
from llm_models import save_decoder
from safetensors.torch import load_file, save_file

from gatehouse.engines.llm.config_fields import ArchitectureUnknown

# Of all of them, `query_pre_attn_scalar` is not the size of a head, and the window is short.
_GEMMA2: dict[str, Any] = {
    "query_pre_attn_scalar": 24,
    "sliding_window": 24,
    "attn_logit_softcapping": None,
    "final_logit_softcapping": 3.0,
}
_GEMMA3: dict[str, Any] = {
    "num_hidden_layers": 3,
    "query_pre_attn_scalar": 24,
    "sliding_window": 24,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    "rope_parameters": {
        "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
        "full_attention": {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 8.0},
    },
}


def test_gemma_gives_what_transformers_gives(tmp_path: Path) -> None:
    check_exact(save_decoder(tmp_path, "gemma"))


def test_gemma_2_gives_what_transformers_gives(tmp_path: Path) -> None:
    check_exact(save_decoder(tmp_path, "gemma2", **_GEMMA2))


def test_gemma_3_gives_what_transformers_gives(tmp_path: Path) -> None:
    check_exact(save_decoder(tmp_path, "gemma3_text", **_GEMMA3))


def test_gemma_3_may_tie_its_head(tmp_path: Path) -> None:
    folder = save_decoder(tmp_path, "gemma3_text", **(_GEMMA3 | {"tie_word_embeddings": True}))
    tensors = load_file(folder / "model.safetensors")
    assert "lm_head.weight" not in tensors
    # So small that the layers outweigh it: else every token is followed by itself.
    tensors["model.embed_tokens.weight"] *= 0.02
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    check_exact(folder)


def test_bounded_attention_is_left_to_others(tmp_path: Path) -> None:
    folder = save_decoder(tmp_path, "gemma2", **(_GEMMA2 | {"attn_logit_softcapping": 50.0}))
    with pytest.raises(ArchitectureUnknown, match="bounds its attention"):
        exact_runner(folder)


@pytest.mark.parametrize(
    ("model_type", "changes"), [("gemma", {}), ("gemma2", _GEMMA2), ("gemma3_text", _GEMMA3)]
)
def test_logits_do_not_depend_on_what_else_runs(
    tmp_path: Path, model_type: str, changes: dict[str, Any]
) -> None:
    folder = save_decoder(tmp_path, model_type, dtype=torch.bfloat16, **changes)
    check_law(default_runner(folder))
