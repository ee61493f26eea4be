"""One model of each family, and a trained one: whatever differs between families is in them."""

import random
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from llm_models import save_decoder
from tiny_models import make_tokenizer
from transformers import AutoTokenizer

TRAINED = "storyteller"
STORYTELLER = Path(str(resources.files("gatehouse.server"))) / "demo_models" / "storyteller"
PROMPT_LENGTHS = (1, 2, 30, 60, 70)

_STORY = (
    "Once upon a time there was a small fox named Pip who lived in a house by the river. In the "
    "evening he went to the gate and looked at the stars. The gate opened and an old woman came "
    "out with a lamp in her hand. She said that the night was dark and that the road was long, but "
    "that a friend would wait for him at the end of it. What is the capital of France? Who are "
    "you? My name is Nora, and it was a cold morning when the wind came over the hill and the "
    "children ran to the mill. They had bread and milk, and the dog slept near the fire. Then the "
    "king asked who had found the ring, and nobody knew, for it lay under the old bridge where the "
    "water was green. What is the opposite of hot? A girl with a red cap sang to the birds."
)
_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
_GEMMA = {"query_pre_attn_scalar": 24, "sliding_window": 24}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"rope_parameters": _LLAMA3},
    "mistral": {"sliding_window": 40},
    "qwen2": {"use_sliding_window": True, "sliding_window": 40, "max_window_layers": 1},
    "qwen3": {},
    "smollm3": {"no_rope_layers": [1, 0]},
    "phi3": {"sliding_window": 40},
    "gemma": {},
    "gemma2": _GEMMA | {"attn_logit_softcapping": None, "final_logit_softcapping": 3.0},
    "gemma3_text": _GEMMA | {"layer_types": ["sliding_attention", "full_attention"]},
    "gpt2": {"num_key_value_heads": 4, "n_inner": 128},
    "gpt_neox": {"num_key_value_heads": 4},
    "mixtral": {"num_local_experts": 3, "num_experts_per_tok": 2},
    "qwen2_moe": _EXPERTS | {"shared_expert_intermediate_size": 96},
    "qwen3_moe": _EXPERTS | {"mlp_only_layers": [1]},
}


@dataclass(frozen=True)
class EqualityModel:
    """A model's folder, its tokenizer, and prompts of `PROMPT_LENGTHS`."""

    name: str
    folder: Path
    tokenizer: Any
    prompts: list[list[int]]


def equality_model(name: str, folder: Path, dtype: torch.dtype) -> EqualityModel:
    """The trained model as it is, or a random one of a family, in `dtype`."""
    if name == TRAINED:
        tokenizer = AutoTokenizer.from_pretrained(STORYTELLER)
        return EqualityModel(name, STORYTELLER, tokenizer, _cut(tokenizer(_STORY).input_ids))
    save_decoder(folder, name, dtype=dtype, **FAMILIES[name])
    draw, tokenizer = random.Random(0), make_tokenizer(adds_bos=True)
    # The model's own vocabulary is larger, as that of published models often is.
    ids = [draw.randrange(len(tokenizer)) for _ in range(sum(PROMPT_LENGTHS))]
    return EqualityModel(name, folder, tokenizer, _cut(ids))


def _cut(ids: list[int]) -> list[list[int]]:
    assert len(ids) >= sum(PROMPT_LENGTHS)
    rest = iter(ids)
    return [[next(rest) for _ in range(length)] for length in PROMPT_LENGTHS]
