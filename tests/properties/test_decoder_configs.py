"""Whatever a `config.json` holds, it is read or refused in one sentence; ropes are finite."""

import json
from typing import Any

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from gatehouse.engines.base import ModelNotLoadable
from gatehouse.engines.llm.config import DecoderConfig, parse_config
from gatehouse.engines.llm.rotary import RotaryKind, rotary_table

_LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
}
_NAMES = [
    *_LLAMA,
    "head_dim",
    "layer_types",
    "max_window_layers",
    "no_rope_layers",
    "num_key_value_heads",
    "original_max_position_embeddings",
    "rms_norm_eps",
    "rope_local_base_freq",
    "rope_theta",
    "sliding_window",
    "tie_word_embeddings",
    "use_sliding_window",
]
_MODEL_TYPES = [
    "llama",
    "mistral",
    "qwen2",
    "qwen2_moe",
    "smollm3",
    "gemma2",
    "gemma3_text",
    "gpt2",
]
_ROPE_NAMES = [
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "factor",
    "full_attention",
    "high_freq_factor",
    "low_freq_factor",
    "mscale",
    "mscale_all_dim",
    "original_max_position_embeddings",
    "partial_rotary_factor",
    "rope_theta",
    "truncate",
]
_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-2, 600)
    | st.integers()
    | st.floats()
    | st.floats(0.5, 64.0)
    | st.text("ab_é", max_size=4)
)
_json = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab_é", max_size=3), inner),
    max_leaves=6,
)
_numbers = st.integers(1, 600) | st.floats(1e-3, 1e6) | _scalars
_FACTORS = {"short_factor": [1.5] * 8, "long_factor": [4.0] * 8}
_ropes = st.fixed_dictionaries(
    {
        "rope_type": st.sampled_from(list(RotaryKind)),
        **{name: st.just(factors) for name, factors in _FACTORS.items()},
    },
    optional=dict.fromkeys(_ROPE_NAMES, _numbers),
)


def read(entries: dict[str, Any], context_length: int | None) -> DecoderConfig | None:
    try:
        return parse_config(json.loads(json.dumps(entries)), context_length)
    except ModelNotLoadable as error:
        message = error.message
    assert message.isprintable()
    assert len(message) < 200
    return None


def check(entries: dict[str, Any], context_length: int | None = None) -> None:
    config = read(entries, context_length)
    if config is None:
        return
    assert config.num_attention_heads % config.num_key_value_heads == 0
    for layer in config.layers:
        assert layer.window is None or layer.window > 0
        if layer.rotary is not None:
            table = rotary_table(layer.rotary)
            assert np.isfinite(table.frequencies).all()
            assert np.isfinite(table.attention_factor)


@given(st.dictionaries(st.sampled_from(_NAMES), _json, max_size=6), st.sampled_from(_MODEL_TYPES))
def test_any_entries_are_read_or_refused(own: dict[str, Any], model_type: str) -> None:
    check(_LLAMA | {"model_type": model_type} | own)


@example({"rope_type": "longrope", "factor": 4, **_FACTORS}, 1, None)
@given(_ropes, st.integers(1, 600), st.none() | st.integers(1, 600))
def test_any_rope_is_read_or_refused(
    rope: dict[str, Any], allowed: int, context_length: int | None
) -> None:
    entries = _LLAMA | {"max_position_embeddings": allowed, "rope_parameters": rope}
    check(entries, context_length)
