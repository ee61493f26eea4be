"""How much a key-value cache may take, by configurations sound and not."""

import pytest

from gatehouse.inference.lifecycle.cache_sizes import cache_bytes

LLAMA = {
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "max_position_embeddings": 128,
    "dtype": "float32",
}
TOKEN_BYTES = 2 * 2 * 2 * 16 * 4


def test_small_models_hold_a_context_for_each_running_sequence() -> None:
    assert cache_bytes(LLAMA) == 32 * 128 * TOKEN_BYTES
    assert cache_bytes({"text_config": LLAMA}) == cache_bytes(LLAMA)
    assert (
        cache_bytes(LLAMA | {"dtype": None, "torch_dtype": "bfloat16"})
        == 32 * 128 * TOKEN_BYTES / 2
    )


def test_large_models_are_bounded_by_bytes_or_by_one_context() -> None:
    large = LLAMA | {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32}
    large |= {"num_key_value_heads": 8, "max_position_embeddings": 8192, "dtype": "bfloat16"}
    assert cache_bytes(large) == 1024**3
    assert cache_bytes(large | {"max_position_embeddings": 131072}) == 131072 * 131072


@pytest.mark.parametrize(
    "config",
    [
        None,
        [],
        {},
        LLAMA | {"num_hidden_layers": "many"},
        LLAMA | {"num_hidden_layers": -3},
        LLAMA | {"num_hidden_layers": 2**70},
        LLAMA | {"num_attention_heads": 0, "num_key_value_heads": None},
        LLAMA | {"num_hidden_layers": True, "hidden_size": None},
    ],
)
def test_unsound_configurations_count_nothing_and_raise_nothing(config: object) -> None:
    assert cache_bytes(config) == 0


def test_gpt2_has_other_names() -> None:
    config = {"n_embd": 64, "n_head": 4, "n_layer": 2, "n_positions": 128, "dtype": "float32"}
    assert cache_bytes(config) == 32 * 128 * TOKEN_BYTES * 2


def test_decoders_with_an_encoder_remember_both_texts() -> None:
    bart = {
        "is_encoder_decoder": True,
        "d_model": 64,
        "decoder_layers": 2,
        "decoder_attention_heads": 4,
        "encoder_layers": 9,
        "max_position_embeddings": 64,
        "dtype": "float32",
    }
    assert cache_bytes(bart) == 32 * 128 * TOKEN_BYTES * 2
    longer = {"max_encoder_position_embeddings": 128, "max_position_embeddings": None}
    assert cache_bytes(bart | longer) == 2 * cache_bytes(bart)
    t5 = {
        "is_encoder_decoder": True,
        "d_model": 512,
        "d_kv": 16,
        "num_heads": 4,
        "num_layers": 9,
        "num_decoder_layers": 2,
        "dtype": "float32",
    }
    assert cache_bytes(t5) == 32 * 4096 * TOKEN_BYTES * 2
    assert cache_bytes({"is_encoder_decoder": True, "decoder": [], "d_model": "x"}) == 0
    decoder = {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2}
    nested = {"is_encoder_decoder": True, "dtype": "float32", "decoder": decoder}
    assert cache_bytes(nested) == cache_bytes(t5)
