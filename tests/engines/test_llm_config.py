"""What `config.json` says, in the words of transformers 4 and 5, and what cannot be."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

from gatehouse.engines.base import ModelNotLoadable
from gatehouse.engines.llm.config import DecoderConfig, parse_config, read_config
from gatehouse.engines.llm.config_fields import ArchitectureUnknown, ConfigBroken
from gatehouse.engines.llm.rotary import RotaryKind

_LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
}
_FEW_LAYERS = {
    "num_hidden_layers": 6,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
}


def _theta(config: DecoderConfig) -> float:
    rotary = config.layers[0].rotary
    assert rotary is not None
    return rotary.theta


def test_a_shape_is_read() -> None:
    config = parse_config(_LLAMA | {"rms_norm_eps": 1e-5, "num_key_value_heads": 2})
    assert config.architecture == "LlamaForCausalLM"
    assert (config.vocabulary_size, config.hidden_size, config.intermediate_size) == (320, 64, 128)
    assert (config.num_attention_heads, config.num_key_value_heads) == (4, 2)
    assert (config.head_dim, config.context_length) == (16, 512)
    assert (config.norm_epsilon, config.activation) == (1e-5, "silu")
    assert not config.tied_embeddings
    assert len(config.layers) == 4


def test_what_is_left_out_is_what_transformers_assumes() -> None:
    config = parse_config(_LLAMA)
    assert config.num_key_value_heads == config.num_attention_heads
    assert _theta(config) == 10_000.0
    assert config.layers[0].window is None


def test_a_head_may_be_wider_than_its_share() -> None:
    assert parse_config(_LLAMA | {"head_dim": 48}).head_dim == 48
    assert parse_config(_LLAMA | {"head_dim": None}).head_dim == 16


def test_rope_is_read_as_transformers_4_wrote_it() -> None:
    scaling = {"type": "linear", "factor": 2.0}
    rotary = parse_config(_LLAMA | {"rope_theta": 5e5, "rope_scaling": scaling}).layers[0].rotary
    assert rotary is not None
    assert (rotary.kind, rotary.theta, rotary.factor) == (RotaryKind.LINEAR, 5e5, 2.0)


def test_rope_is_read_as_transformers_5_writes_it() -> None:
    rope = {"rope_type": "linear", "rope_theta": 5e5, "factor": 2.0}
    rotary = parse_config(_LLAMA | {"rope_parameters": rope}).layers[0].rotary
    assert rotary is not None
    assert (rotary.kind, rotary.theta, rotary.factor) == (RotaryKind.LINEAR, 5e5, 2.0)


def test_kinds_of_layers_have_ropes_of_their_own() -> None:
    config = parse_config(
        _LLAMA
        | {
            "model_type": "gemma3_text",
            "sliding_window": 32,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "rope_parameters": {
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
                "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
            },
        }
    )
    assert [layer.window for layer in config.layers] == [32, None, 32, None]
    thetas = [layer.rotary.theta if layer.rotary else None for layer in config.layers]
    assert thetas == [1e4, 1e6, 1e4, 1e6]


def test_a_rope_of_part_of_a_head_is_read() -> None:
    rotary = parse_config(_LLAMA | {"partial_rotary_factor": 0.5}).layers[0].rotary
    assert rotary is not None
    assert rotary.dim == 8


@pytest.mark.parametrize(
    ("model_type", "changes"),
    [
        ("llama", {}),
        ("mistral", {"sliding_window": 32}),
        ("mistral", {"sliding_window": None}),
        ("mistral", {}),
        ("qwen2", {}),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 32, "max_window_layers": 3}),
        ("qwen2", {"use_sliding_window": False, "sliding_window": 32}),
        ("qwen3", {"use_sliding_window": True, "sliding_window": 32, "max_window_layers": 0}),
        ("smollm3", {}),
        ("smollm3", {"use_sliding_window": True, "sliding_window": 32}),
        ("gemma2", {}),
        ("gemma3_text", {}),
        ("gemma3_text", {"num_hidden_layers": 7, "sliding_window": 64}),
        ("phi3", {"pad_token_id": 0}),
        ("mixtral", {"sliding_window": 32}),
        ("qwen2_moe", {}),
        ("qwen2_moe", {"use_sliding_window": True, "sliding_window": 32, "max_window_layers": 3}),
        ("qwen3_moe", {"use_sliding_window": True, "sliding_window": 32}),
    ],
)
@pytest.mark.parametrize("is_old", [False, True])
def test_windows_are_those_of_transformers(
    model_type: str, changes: dict[str, Any], is_old: bool
) -> None:
    """Also from an older configuration, which named no kinds of layers."""
    theirs = AutoConfig.for_model(model_type, **(_FEW_LAYERS | changes))
    entries = theirs.to_dict()
    kinds = entries.get("layer_types") or ["sliding_attention"] * theirs.num_hidden_layers
    window = getattr(theirs, "sliding_window", None)
    expected = [window if kind == "sliding_attention" else None for kind in kinds]
    entries |= changes
    if is_old:
        entries.pop("layer_types", None)
    assert [layer.window for layer in parse_config(entries).layers] == expected


@pytest.mark.parametrize("model_type", ["llama", "gemma", "gpt2", "gpt_neox"])
def test_a_window_is_not_heeded_where_transformers_does_not(model_type: str) -> None:
    config = parse_config(_LLAMA | {"model_type": model_type, "sliding_window": 8})
    assert [layer.window for layer in config.layers] == [None] * 4


def test_layers_without_a_rope_are_those_of_transformers() -> None:
    theirs = AutoConfig.for_model("smollm3", num_hidden_layers=8)
    config = parse_config(theirs.to_dict())
    turned = [layer.rotary is not None for layer in config.layers]
    assert turned == [bool(flag) for flag in theirs.no_rope_layers]
    entries = theirs.to_dict() | {"no_rope_layers": None}
    assert [layer.rotary is not None for layer in parse_config(entries).layers] == turned


@pytest.mark.parametrize(
    "model_type",
    ["llama", "mistral", "qwen2", "qwen3", "smollm3", "gemma2", "gemma3_text", "gpt2", "gpt_neox"],
)
def test_embeddings_are_tied_where_transformers_ties_them(model_type: str) -> None:
    theirs = AutoConfig.for_model(model_type)
    entries = theirs.to_dict()
    assert entries.pop("tie_word_embeddings") == parse_config(entries).tied_embeddings


def test_names_of_gpt2_are_understood() -> None:
    entries = {"model_type": "gpt2", "vocab_size": 99, "n_embd": 48, "n_layer": 2, "n_head": 3}
    config = parse_config(entries | {"n_positions": 64, "activation_function": "gelu_new"})
    assert (config.hidden_size, config.num_attention_heads, len(config.layers)) == (48, 3, 2)
    assert (config.context_length, config.intermediate_size) == (64, 192)
    assert (config.activation, config.layers[0].rotary) == ("gelu_new", None)


def test_a_shorter_context_may_be_wanted() -> None:
    assert parse_config(_LLAMA, 100).context_length == 100
    assert parse_config(_LLAMA, 10_000).context_length == 512


@pytest.mark.parametrize(
    "changes",
    [
        {"num_hidden_layers": 0},
        {"num_hidden_layers": 10**6},
        {"num_hidden_layers": True},
        {"num_hidden_layers": "4"},
        {"num_hidden_layers": None},
        {"num_attention_heads": 5},
        {"num_attention_heads": 128},
        {"num_key_value_heads": 3},
        {"num_key_value_heads": -1},
        {"hidden_size": 2**30},
        {"hidden_size": 64.0},
        {"head_dim": 100_000},
        {"vocab_size": 2**40},
        {"vocab_size": 1},
        {"intermediate_size": 2**40},
        {"max_position_embeddings": 2**60},
        {"rms_norm_eps": -1.0},
        {"rms_norm_eps": "1e-5"},
        {"hidden_act": 3},
        {"hidden_act": "x" * 1000},
        {"tie_word_embeddings": 1},
        {"architectures": "LlamaForCausalLM"},
        {"architectures": []},
        {"sliding_window": -3, "model_type": "mistral"},
        {"layer_types": ["full_attention"]},
        {"no_rope_layers": [1]},
        {"rope_theta": 0},
        {"rope_theta": 1e300},
        {"rope_parameters": []},
        {"rope_parameters": {"rope_type": "linear", "factor": 0.0}},
        {"rope_parameters": {"rope_type": 7}},
        {"rope_parameters": {"rope_type": "longrope"}},
        {"rope_parameters": {"rope_type": "longrope", "short_factor": [1], "long_factor": [1]}},
        {"rope_parameters": {"rope_type": "llama3", "high_freq_factor": 1.0}},
        {"partial_rotary_factor": 0.2},
        {"partial_rotary_factor": 2.0},
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigBroken):
        parse_config(_LLAMA | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"rope_parameters": {"rope_type": "new"}},
        {"layer_types": ["full_attention", "linear_attention"] * 2},
        {"quantization_config": {"quant_method": "gptq"}},
    ],
)
def test_what_is_only_unknown_is_told_apart(changes: dict[str, Any]) -> None:
    with pytest.raises(ArchitectureUnknown):
        parse_config(_LLAMA | changes)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"a":' * 100_000, "\xff"])
def test_a_file_of_another_kind_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(ModelNotLoadable, match=r"is not (JSON|a JSON object)"):
        read_config(tmp_path)


def test_numbers_that_are_none_are_refused_where_they_matter(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(_LLAMA | {"time_step_limit": [math.inf]}))
    assert read_config(tmp_path).hidden_size == 64
    for name in ("rms_norm_eps", "rope_theta", "hidden_size"):
        (tmp_path / "config.json").write_text(json.dumps(_LLAMA | {name: math.nan}))
        with pytest.raises(ConfigBroken, match=name):
            read_config(tmp_path)


def test_a_missing_or_huge_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotLoadable, match="no `config"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(_LLAMA) + " " * 2**24)
    with pytest.raises(ModelNotLoadable, match="too large"):
        read_config(tmp_path)
