"""GPT-2 in OpenVINO, against transformers."""

from pathlib import Path

import pytest
import torch
from family_checks import check_exact, check_law, default_runner
from llm_models import save_decoder
from safetensors.torch import load_file, save_file

from gatehouse.engines.llm.config_fields import ConfigBroken

# GPT-2 has neither, but its configuration keeps what it is given.
_SHAPE = {"num_key_value_heads": 4, "n_inner": 128}

# Wide enough that a tied head does not repeat its token.
_TIED = {"tie_word_embeddings": True, "initializer_range": 0.4}


def test_a_model_gives_what_transformers_gives(tmp_path: Path) -> None:
    check_exact(save_decoder(tmp_path, "gpt2", **_SHAPE, **_TIED))


def test_attention_may_be_scaled_layer_by_layer(tmp_path: Path) -> None:
    changes = {"scale_attn_by_inverse_layer_idx": True, "scale_attn_weights": False}
    check_exact(save_decoder(tmp_path, "gpt2", **_SHAPE, **changes))


def test_logits_do_not_depend_on_what_else_runs(tmp_path: Path) -> None:
    folder = save_decoder(tmp_path, "gpt2", dtype=torch.bfloat16, **_SHAPE)
    check_law(default_runner(folder))


def test_tensors_may_be_named_without_the_head(tmp_path: Path) -> None:
    folder = save_decoder(tmp_path, "gpt2", **_SHAPE, **_TIED)
    tensors = load_file(folder / "model.safetensors")
    names = {name: name.removeprefix("transformer.") for name in tensors}
    assert names["transformer.wte.weight"] == "wte.weight"
    save_file({names[name]: t for name, t in tensors.items()}, folder / "model.safetensors")
    check_exact(folder)


def test_heads_that_the_family_cannot_have_are_refused(tmp_path: Path) -> None:
    folder = save_decoder(tmp_path, "gpt2", **(_SHAPE | {"num_key_value_heads": 2}))
    with pytest.raises(ConfigBroken, match="do not fit the model's family"):
        default_runner(folder)
