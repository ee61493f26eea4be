"""What a model's key-value cache may grow to, by its `config.json`. Trusts nothing it reads."""

from typing import Any

from gatehouse.engines.text.cache_bounds import CACHE_BYTES, MAX_RUNNING

_DTYPE_BYTES = {"float32": 4, "float64": 8, "float8_e4m3fn": 1}
_DEFAULT_DTYPE_BYTES = 2
_DEFAULT_CONTEXT_LENGTH = 2048
_LARGEST_VALUE = 2**31
_POSITIONS = (
    "max_position_embeddings",
    "max_encoder_position_embeddings",
    "max_decoder_position_embeddings",
)


def cache_bytes(config: object) -> int:
    """Bytes that an engine may come to hold for all running sequences; 0 if nobody can tell.

    An engine holds one context at least, `CACHE_BYTES` at most if that is more, and never more than
    `MAX_RUNNING` whole contexts.
    """
    if not isinstance(config, dict):
        return 0
    nested = config.get("text_config")
    config = nested if isinstance(nested, dict) else config
    if config.get("is_encoder_decoder"):
        return _decoder_cache_bytes(config)
    heads = _number(config, "num_attention_heads", "n_head")
    key_heads = _number(config, "num_key_value_heads") or heads
    layers = _number(config, "num_hidden_layers", "n_layer")
    hidden = _number(config, "hidden_size", "n_embd")
    head_size = _number(config, "head_dim") or (hidden // heads if heads else 0)
    context = _number(config, "max_position_embeddings", "n_positions") or _DEFAULT_CONTEXT_LENGTH
    return _bounded(2 * layers * key_heads * head_size * _dtype_bytes(config), context)


def _decoder_cache_bytes(config: dict[str, Any]) -> int:
    """As `cache_bytes`: a decoder remembers what the encoder read, and what it wrote itself."""
    nested = config.get("decoder")
    decoder = nested if isinstance(nested, dict) else config
    heads = _number(decoder, "decoder_attention_heads", "num_attention_heads", "num_heads")
    key_heads = _number(decoder, "num_key_value_heads") or heads
    layers = _number(
        decoder, "decoder_layers", "num_decoder_layers", "num_hidden_layers", "num_layers"
    )
    hidden = _number(decoder, "hidden_size", "d_model")
    head_size = _number(decoder, "head_dim", "d_kv") or (hidden // heads if heads else 0)
    longest = max(_number(config, name) for name in _POSITIONS)
    context = 2 * (longest or _number(decoder, _POSITIONS[0]) or _DEFAULT_CONTEXT_LENGTH)
    dtype_bytes = _dtype_bytes(decoder if "dtype" in decoder else config)
    return _bounded(2 * layers * key_heads * head_size * dtype_bytes, context)


def _bounded(token_bytes: int, context: int) -> int:
    if not token_bytes:
        return 0
    num_tokens = min(max(context, CACHE_BYTES // token_bytes), MAX_RUNNING * context)
    return num_tokens * token_bytes


def _dtype_bytes(config: dict[str, Any]) -> int:
    dtype = config.get("dtype") or config.get("torch_dtype")
    return _DTYPE_BYTES.get(str(dtype), _DEFAULT_DTYPE_BYTES)


def _number(config: dict[str, Any], *names: str) -> int:
    """The first of these that is a sound number, else 0."""
    values = (config.get(name) for name in names)
    sound = (v for v in values if isinstance(v, int) and 0 < v <= _LARGEST_VALUE)
    return next(sound, 0)
