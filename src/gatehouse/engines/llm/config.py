"""What a decoder's `config.json` says, held to bounds and put into one form.

Reads what transformers 4 and 5 write. Knows the words of all families, but no graph.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatehouse.engines.llm.config_fields import ArchitectureUnknown, ConfigBroken, ConfigFields
from gatehouse.engines.llm.config_rotary import (
    MAX_CONTEXT_LENGTH,
    kept_context_length,
    read_rotary,
)
from gatehouse.engines.llm.rotary import RotaryParameters
from gatehouse.engines.text.json_files import json_object

MAX_LAYERS = 512
MAX_HEADS = 1_024
MAX_HEAD_DIM = 512
MAX_HIDDEN_SIZE = 2**16
MAX_INTERMEDIATE_SIZE = 2**20
MAX_VOCABULARY_SIZE = 2**21

# Of the families whose configuration leaves out `tie_word_embeddings` when it is true.
_TIED = frozenset({"gemma", "gemma2", "gemma3", "gemma3_text", "gpt2", "smollm3"})

# Windows that a configuration means if it names none; of what transformers would assume.
_DEFAULT_WINDOWS = {"mistral": 4096, "gemma2": 4096, "gemma3_text": 4096}
_USE_SLIDING_WINDOW = frozenset({"qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "smollm3"})
# Whose attention sees everything, whatever is written.
_NO_WINDOWS = frozenset({"llama", "gemma", "gpt2", "gpt_neox"})


@dataclass(frozen=True, slots=True)
class LayerConfig:
    """What differs between the layers of a decoder.

    Attributes:
        window: How many tokens it sees, its own among them; None: all.
        rotary: None if positions are not told by turning queries and keys.
    """

    window: int | None
    rotary: RotaryParameters | None


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """A decoder's shape, in the words of `config.json`.

    Attributes:
        architecture: The class name that the configuration gives, or the model type.
        model_type: Its family.
        context_length: The longest sequence.
        activation: Of the MLP, such as `silu`.
        tied_embeddings: The head is the embedding.
        layers: One after another.
        fields: What else is written, for those who know the family.
    """

    architecture: str
    model_type: str
    vocabulary_size: int
    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    context_length: int
    norm_epsilon: float
    activation: str
    tied_embeddings: bool
    layers: tuple[LayerConfig, ...]
    fields: ConfigFields


def read_config(folder: Path, context_length: int | None = None) -> DecoderConfig:
    """Read the `config.json` of a model's folder.

    Args:
        folder: Where it lies.
        context_length: The longest sequence wanted, if shorter than what the model allows. A model
            whose rotary embedding depends on the length (`longrope`) is taken at its original
            context unless more is wanted here.

    Raises:
        ModelNotLoadable: It is missing or no JSON.
        ConfigBroken: It says what cannot be.
        ArchitectureUnknown: It says what this engine does not know.
    """
    entries = json_object(folder / "config.json")
    return parse_config(entries, context_length)


def architecture_of(entries: dict[str, Any]) -> str:
    """The class name that a configuration gives, or else its model type.

    Raises:
        ConfigBroken: It gives neither as it should.
    """
    fields = ConfigFields(entries)
    return _architecture(fields) or fields.text("model_type")


def parse_config(entries: dict[str, Any], context_length: int | None = None) -> DecoderConfig:
    """As `read_config`, from the entries."""
    fields = ConfigFields(entries)
    if "quantization_config" in fields:
        raise ArchitectureUnknown("The weights are stored quantized.")
    if fields.flag("is_encoder_decoder", default=False):
        raise ArchitectureUnknown("The model reads its prompt with an encoder.")
    model_type = fields.text("model_type")
    heads = fields.integer("num_attention_heads", MAX_HEADS)
    kv_heads = fields.integer("num_key_value_heads", MAX_HEADS, default=heads)
    hidden_size = fields.integer("hidden_size", MAX_HIDDEN_SIZE)
    head_dim = fields.integer("head_dim", MAX_HEAD_DIM, default=hidden_size // heads)
    if heads % kv_heads or not head_dim or ("head_dim" not in fields and hidden_size % heads):
        raise ConfigBroken("The numbers of attention heads do not fit each other.")
    allowed = fields.integer("max_position_embeddings", MAX_CONTEXT_LENGTH, default=2048)
    kept = kept_context_length(fields, allowed, context_length)
    return DecoderConfig(
        architecture=architecture_of(entries),
        model_type=model_type,
        vocabulary_size=fields.integer("vocab_size", MAX_VOCABULARY_SIZE, low=2),
        hidden_size=hidden_size,
        intermediate_size=fields.integer(
            "intermediate_size", MAX_INTERMEDIATE_SIZE, default=4 * hidden_size
        ),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        context_length=kept,
        norm_epsilon=fields.number("rms_norm_eps", 1e-6, low=0.0, high=1.0),
        activation=fields.text("hidden_act", "silu"),
        tied_embeddings=fields.flag("tie_word_embeddings", model_type in _TIED),
        layers=_layers(fields, model_type, head_dim, kept),
        fields=fields,
    )


def _architecture(fields: ConfigFields) -> str:
    names = fields.value("architectures")
    if names is None:
        return ""
    if not isinstance(names, list) or not names or not isinstance(names[0], str):
        raise ConfigBroken("`architectures` is not a list of names.")
    return names[0]


def _layers(
    fields: ConfigFields, model_type: str, head_dim: int, context_length: int
) -> tuple[LayerConfig, ...]:
    count = fields.integer("num_hidden_layers", MAX_LAYERS)
    turned = _turned_layers(fields, count)
    sliding = _sliding_layers(fields, model_type, count, turned)
    rotary = {
        is_sliding: read_rotary(fields, model_type, head_dim, context_length, is_sliding)
        for is_sliding in sorted(set(sliding))
    }
    window = _window(fields, model_type)
    return tuple(
        LayerConfig(
            window=window if is_sliding else None,
            rotary=rotary[is_sliding] if is_turned else None,
        )
        for is_sliding, is_turned in zip(sliding, turned, strict=True)
    )


def _turned_layers(fields: ConfigFields, count: int) -> list[bool]:
    """Which layers have a rotary embedding; SmolLM3 leaves it out of some (`no_rope_layers`)."""
    flags = fields.value("no_rope_layers")
    if flags:
        if not isinstance(flags, list) or len(flags) != count:
            raise ConfigBroken(f"`no_rope_layers` is not a list of {count} flags.")
        return [bool(flag) for flag in flags]
    if fields.text("model_type") == "smollm3":
        every = fields.integer("no_rope_layer_interval", MAX_LAYERS, default=4)
        return [(layer + 1) % every != 0 for layer in range(count)]
    return [True] * count


def _sliding_layers(
    fields: ConfigFields, model_type: str, count: int, turned: list[bool]
) -> list[bool]:
    types = fields.value("layer_types")
    if types is not None:
        if not isinstance(types, list) or len(types) != count:
            raise ConfigBroken(f"`layer_types` does not name {count} layers.")
        if not {*map(str, types)} <= {"full_attention", "sliding_attention"}:
            raise ArchitectureUnknown("The model has layers of a kind without a graph here.")
        return [kind == "sliding_attention" for kind in types]
    match model_type:
        case "qwen2" | "qwen3":
            first = fields.integer("max_window_layers", MAX_LAYERS * 8, default=28, low=0)
            return [layer >= first for layer in range(count)]
        case "qwen2_moe":
            end = fields.integer("max_window_layers", MAX_LAYERS * 8, default=28, low=0)
            return [layer % 2 == 0 and layer < end for layer in range(count)]
        case "smollm3":
            return [not is_turned for is_turned in turned]
        case "gemma2":
            return [layer % 2 == 0 for layer in range(count)]
        case "gemma3_text":
            every = fields.integer("sliding_window_pattern", MAX_LAYERS, default=6)
            return [(layer + 1) % every != 0 for layer in range(count)]
    return [True] * count


def _window(fields: ConfigFields, model_type: str) -> int | None:
    if model_type in _NO_WINDOWS:
        return None
    if model_type in _USE_SLIDING_WINDOW and not fields.flag("use_sliding_window", default=False):
        return None
    if fields.is_null("sliding_window"):
        return None
    default = _DEFAULT_WINDOWS.get(model_type, 0)
    return fields.integer("sliding_window", MAX_CONTEXT_LENGTH, default=default) or None
