"""Rotary frequencies, against those of transformers."""

from typing import Any

import numpy as np
import pytest
from transformers import LlamaConfig, Phi3Config
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from gatehouse.engines.llm.config import parse_config
from gatehouse.engines.llm.rotary import RotaryTable, rotary_table

_HEAD_DIM = 32
_SHAPE: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 128,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
}
_SHORT = [1.0 + place / 16 for place in range(_HEAD_DIM // 2)]
_LONG = [2.0 + place for place in range(_HEAD_DIM // 2)]


def _ours(config: Any, context_length: int | None = None) -> RotaryTable:
    parameters = parse_config(config.to_dict(), context_length).layers[0].rotary
    assert parameters is not None
    return rotary_table(parameters)


def _check(config: Any, table: RotaryTable, seq_len: int | None = None) -> None:
    kind = config.rope_parameters["rope_type"]
    frequencies, factor = ROPE_INIT_FUNCTIONS[kind](config, "cpu", seq_len)
    np.testing.assert_allclose(table.frequencies, frequencies.numpy(), rtol=2e-6)
    assert table.attention_factor == pytest.approx(factor)


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "linear", "factor": 4.0},
        {"rope_type": "linear", "factor": 4.0, "partial_rotary_factor": 0.5},
        {"rope_type": "dynamic", "factor": 4.0},
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
        {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 64},
        {
            "rope_type": "yarn",
            "factor": 8.0,
            "original_max_position_embeddings": 64,
            "attention_factor": 1.25,
            "beta_fast": 16.0,
            "beta_slow": 2.0,
        },
        {
            "rope_type": "yarn",
            "factor": 8.0,
            "original_max_position_embeddings": 64,
            "mscale": 0.7,
            "mscale_all_dim": 1.3,
            "truncate": False,
        },
    ],
)
@pytest.mark.parametrize("theta", [10_000.0, 1_000_000.0])
def test_frequencies_are_those_of_transformers(rope: dict[str, Any], theta: float) -> None:
    config = LlamaConfig(**_SHAPE, rope_parameters={**rope, "rope_theta": theta})
    _check(config, _ours(config))


def test_plain_frequencies_are_powers_of_the_base() -> None:
    table = _ours(LlamaConfig(**_SHAPE, rope_parameters={"rope_type": "default", "rope_theta": 16}))
    assert table.frequencies.tolist() == pytest.approx([16 ** -(n / 16) for n in range(16)])
    assert table.attention_factor == 1.0


@pytest.mark.parametrize(("wanted", "seq_len"), [(None, None), (128, None), (129, 129), (512, 512)])
def test_longrope_goes_by_the_longest_sequence(wanted: int | None, seq_len: int | None) -> None:
    config = Phi3Config(
        **_SHAPE,
        pad_token_id=0,
        original_max_position_embeddings=128,
        rope_parameters={
            "rope_type": "longrope",
            "rope_theta": 10_000.0,
            "short_factor": _SHORT,
            "long_factor": _LONG,
        },
    )
    _check(config, _ours(config, wanted), seq_len)
