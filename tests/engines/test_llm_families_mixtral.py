"""Mixtures of experts in OpenVINO, against transformers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from family_checks import check_exact, check_law, default_runner
from llm_models import save_decoder
from safetensors.torch import load_file, save_file

from gatehouse.engines.llm.config_fields import ArchitectureUnknown

_MIXTRAL = {"num_local_experts": 6, "num_experts_per_tok": 2, "sliding_window": 40}
_QWEN3: dict[str, Any] = {
    "num_experts": 8,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 48,
    "num_hidden_layers": 3,
    "mlp_only_layers": [1],
}
_QWEN2: dict[str, Any] = {
    "num_experts": 6,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 96,
    "num_hidden_layers": 4,
    "decoder_sparse_step": 2,
    "use_sliding_window": True,
    "sliding_window": 40,
}
_KINDS = [("mixtral", _MIXTRAL), ("qwen2_moe", _QWEN2), ("qwen3_moe", _QWEN3)]


@pytest.mark.parametrize(("model_type", "changes"), _KINDS)
def test_a_model_gives_what_transformers_gives(
    tmp_path: Path, model_type: str, changes: dict[str, Any]
) -> None:
    check_exact(save_decoder(tmp_path, model_type, **changes))


def test_weights_of_the_chosen_may_be_normed(tmp_path: Path) -> None:
    check_exact(save_decoder(tmp_path, "qwen3_moe", **_QWEN3, norm_topk_prob=True))


@pytest.mark.parametrize(("model_type", "changes"), _KINDS)
def test_logits_do_not_depend_on_what_else_runs(
    tmp_path: Path, model_type: str, changes: dict[str, Any]
) -> None:
    check_law(default_runner(save_decoder(tmp_path, model_type, dtype=torch.bfloat16, **changes)))


def test_a_window_is_seen_only_where_it_is_used(tmp_path: Path) -> None:
    folder = save_decoder(tmp_path, "qwen3_moe", **_QWEN3)
    entries = json.loads((folder / "config.json").read_text())
    # As transformers 4 saved it: a window, and that it is not used.
    entries |= {"sliding_window": 24, "use_sliding_window": False}
    (folder / "config.json").write_text(json.dumps(entries))
    check_exact(folder)


def test_many_experts_are_left_to_others(tmp_path: Path) -> None:
    folder = save_decoder(tmp_path, "qwen3_moe", **(_QWEN3 | {"num_experts": 400}))
    with pytest.raises(ArchitectureUnknown, match="more experts"):
        default_runner(folder)


def test_experts_may_be_stored_in_one_tensor(tmp_path: Path) -> None:
    folder = save_decoder(tmp_path, "mixtral", **_MIXTRAL)
    tensors = load_file(folder / "model.safetensors")
    for layer in range(2):
        old, new = (f"model.layers.{layer}.{part}" for part in ("block_sparse_moe", "mlp"))

        def take(part: str, old: str = old) -> torch.Tensor:
            return torch.stack([tensors.pop(f"{old}.experts.{n}.{part}.weight") for n in range(6)])

        tensors[f"{new}.experts.gate_up_proj"] = torch.cat([take("w1"), take("w3")], 1)
        tensors[f"{new}.experts.down_proj"] = take("w2")
        tensors[f"{new}.gate.weight"] = tensors.pop(f"{old}.gate.weight")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    check_exact(folder)
