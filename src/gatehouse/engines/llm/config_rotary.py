"""What a `config.json` says of rotary embeddings, in the words of transformers 4 and 5."""

import math

from gatehouse.engines.llm.config_fields import ArchitectureUnknown, ConfigBroken, ConfigFields
from gatehouse.engines.llm.rotary import RotaryKind, RotaryParameters

MAX_CONTEXT_LENGTH = 2**24
_NO_ROTARY = frozenset({"gpt2"})


def _rope_fields(fields: ConfigFields, *, is_sliding: bool) -> ConfigFields:
    """The rotary entries of a kind of layer, from wherever they are written.

    transformers 5 keeps them in `rope_parameters`, under the name of a layer's kind if kinds
    differ; before, they were `rope_scaling` beside `rope_theta`, and Gemma 3 had
    `rope_local_base_freq` for its sliding layers.
    """
    shared = {
        name: fields.value(name)
        for name in ("rope_theta", "partial_rotary_factor")
        if name in fields
    }
    written = fields.inner("rope_parameters") or fields.inner("rope_scaling")
    local = fields.value("rope_local_base_freq")
    if is_sliding and local is not None and "rope_parameters" not in fields:
        return ConfigFields({**shared, "rope_theta": local})
    if written is None:
        return ConfigFields(shared)
    kind = "sliding_attention" if is_sliding else "full_attention"
    return (written.inner(kind) or written).with_defaults(shared)


def _rope_kind(rope: ConfigFields) -> RotaryKind:
    name = rope.text("rope_type") or rope.text("type", "default")
    # What Phi-3 called it first.
    name = "longrope" if name == "su" else name
    if name not in set(RotaryKind):
        raise ArchitectureUnknown("The model has a rotary embedding of an unknown kind.")
    return RotaryKind(name)


def _original_context_length(fields: ConfigFields, rope: ConfigFields, allowed: int) -> int:
    name = "original_max_position_embeddings"
    source = fields if name in fields else rope
    return source.integer(name, MAX_CONTEXT_LENGTH, default=allowed)


def kept_context_length(fields: ConfigFields, allowed: int, wanted: int | None) -> int:
    rope = _rope_fields(fields, is_sliding=False)
    if wanted is None and _rope_kind(rope) is RotaryKind.LONGROPE:
        return min(allowed, _original_context_length(fields, rope, allowed))
    return min(allowed, wanted or allowed)


def read_rotary(
    fields: ConfigFields, model_type: str, head_dim: int, context_length: int, is_sliding: bool
) -> RotaryParameters | None:
    if model_type in _NO_ROTARY:
        return None
    rope = _rope_fields(fields, is_sliding=is_sliding)
    kind = _rope_kind(rope)
    share = rope.number("partial_rotary_factor", _default_share(model_type), 1e-3, 1.0)
    dim = int(head_dim * share)
    if dim < 2 or dim % 2:
        raise ConfigBroken("The rotary embedding turns an odd number of values.")
    allowed = fields.integer("max_position_embeddings", MAX_CONTEXT_LENGTH, default=2048)
    original = _original_context_length(fields, rope, allowed)
    is_long = kind is RotaryKind.LONGROPE
    if is_long and original < 2:
        raise ConfigBroken("`original_max_position_embeddings` is not above 1.")
    low = rope.number("low_freq_factor", 1.0)
    high = rope.number("high_freq_factor", 4.0)
    if kind is RotaryKind.LLAMA3 and low >= high:
        raise ConfigBroken("`high_freq_factor` is not above `low_freq_factor`.")
    return RotaryParameters(
        kind=kind,
        theta=rope.number("rope_theta", 10_000.0, low=1.0 + 1e-6),
        dim=dim,
        factor=rope.number("factor", allowed / original, low=1e-3, high=1e6),
        context_length=context_length,
        original_context_length=original,
        attention_factor=rope.number("attention_factor", math.nan, 1e-6, 1e6)
        if "attention_factor" in rope
        else None,
        low_frequency_factor=low,
        high_frequency_factor=high,
        beta_fast=rope.number("beta_fast", 32.0),
        beta_slow=rope.number("beta_slow", 1.0),
        mscale=rope.number("mscale", 0.0, low=0.0),
        mscale_all_dim=rope.number("mscale_all_dim", 0.0, low=0.0),
        truncate=rope.flag("truncate", default=True),
        short_factors=rope.numbers("short_factor", dim // 2) if is_long else (),
        long_factors=rope.numbers("long_factor", dim // 2) if is_long else (),
    )


def _default_share(model_type: str) -> float:
    return 0.25 if model_type == "gpt_neox" else 1.0
