"""How much an encoder-decoder model of `transformers` reads, writes and remembers."""

from typing import Any

from gatehouse.engines.base import ModelNotLoadable
from gatehouse.engines.pipelines.task_settings import task_settings
from gatehouse.engines.text.lengths import DEFAULT_NEW_TOKENS, SeparateLengths

# Of models that know positions by their distance alone: they read more, ever less well.
_RELATIVE_LENGTH = 2048
_LONGEST_BELIEVED = 16_777_216
_DEFAULT_LENGTH = 1024


def separate_lengths(model: Any, tokenizer: Any) -> SeparateLengths:
    """The bounds of a model's encoder and decoder."""
    config, defaults = model.config, model.generation_config
    said = _count(defaults.max_length)
    default = _count(defaults.max_new_tokens) or (said - 1 if said and said > 1 else None)
    tasks = task_settings(config)
    return SeparateLengths(
        encoder_length=_length(config, tokenizer, "encoder"),
        decoder_length=_length(config, None, "decoder"),
        default_new_tokens=default or DEFAULT_NEW_TOKENS,
        task_new_tokens={
            name: settings.max_length - 1
            for name, settings in tasks.items()
            if settings.max_length and settings.max_length > 1
        },
    )


def decoder_cache_bytes_per_token(model: Any) -> int:
    """One token's keys and values over all layers: a token of the prompt, or of the answer."""
    config = _side(model.config, "decoder")
    layers = _first(config, "decoder_layers", "num_decoder_layers", "num_hidden_layers")
    heads = _first(config, "decoder_attention_heads", "num_decoder_attention_heads") or _first(
        config, "num_attention_heads", "num_heads"
    )
    kept_heads = _first(config, "num_key_value_heads") or heads
    hidden = _first(config, "hidden_size", "d_model")
    head_size = _first(config, "head_dim", "d_kv") or (hidden // heads if heads else 0)
    return int(2 * layers * kept_heads * head_size * model.dtype.itemsize)


def check_start_token(model: Any, num_logits: int) -> None:
    """A decoder must have something to start from.

    Raises:
        ModelNotLoadable: It has not, or a token that it is made to say is none of its own.
    """
    defaults = model.generation_config
    start = defaults.decoder_start_token_id
    if start is None and defaults.bos_token_id is None:
        raise ModelNotLoadable("The model has no `decoder_start_token_id`.")
    named = {"decoder_start_token_id": start if start is not None else defaults.bos_token_id}
    for name in ("forced_bos_token_id", "forced_eos_token_id"):
        named[name] = getattr(defaults, name, None)
    for name, value in named.items():
        ids = value if isinstance(value, list) and name == "forced_eos_token_id" else [value]
        if value is not None and not all(_is_token(token_id, num_logits) for token_id in ids):
            raise ModelNotLoadable(f"`{name}` must be a token id below {num_logits}.")


def _length(config: Any, tokenizer: Any | None, side: str) -> int:
    """Tokens of one side; the tokenizer has a say in what is read."""
    positions = _first(config, f"max_{side}_position_embeddings") or _first(
        _side(config, side), "max_position_embeddings"
    )
    said = _believed(getattr(tokenizer, "model_max_length", None))
    if getattr(config, "relative_attention_num_buckets", None):
        return max(
            _RELATIVE_LENGTH, _believed(getattr(config, "n_positions", None)) or 0, said or 0
        )
    limits = [limit for limit in (_believed(positions), said) if limit]
    return min(limits, default=_DEFAULT_LENGTH)


def _side(config: Any, side: str) -> Any:
    """The part of a composed configuration; others are of one piece."""
    nested = getattr(config, side, None)
    return config if nested is None or isinstance(nested, dict) else nested


def _first(config: Any, *names: str) -> int:
    values = (_count(getattr(config, name, None)) for name in names)
    return next((value for value in values if value), 0)


def _believed(value: Any) -> int | None:
    count = _count(value)
    return count if count is not None and count <= _LONGEST_BELIEVED else None


def _count(value: Any) -> int | None:
    is_sound = isinstance(value, int) and not isinstance(value, bool) and value > 0
    return int(value) if is_sound else None


def _is_token(value: Any, num_logits: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < num_logits
