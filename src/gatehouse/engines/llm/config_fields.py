"""The entries of a `config.json`, each read with its bounds. Knows words, but no decoder."""

import math
from typing import Any, TypeGuard

from gatehouse.engines.base import ModelNotLoadable, RunnerUnsuited

# The words of GPT-2 and GPT-NeoX for what all others call otherwise.
_ALIASES = {
    "hidden_size": ("n_embd",),
    "num_hidden_layers": ("n_layer",),
    "num_attention_heads": ("n_head",),
    "max_position_embeddings": ("n_positions",),
    "intermediate_size": ("n_inner",),
    "hidden_act": ("hidden_activation", "activation_function"),
    "rms_norm_eps": ("layer_norm_eps", "layer_norm_epsilon"),
    "rope_theta": ("rotary_emb_base",),
    "partial_rotary_factor": ("rotary_pct",),
}


class ArchitectureUnknown(RunnerUnsuited):
    """Nothing is wrong with the model, but this engine has no graph for it."""


class ConfigBroken(ModelNotLoadable):
    """`config.json` is not what it should be."""


class ConfigFields:
    """The entries of a `config.json`, each read with its bounds.

    Names are those of Llama; where a family calls the same thing otherwise, its word is found too.
    """

    def __init__(self, entries: dict[str, Any]) -> None:
        self._entries = entries

    def __contains__(self, name: str) -> bool:
        return self.value(name) is not None

    def value(self, name: str) -> Any:
        """What is written, or None."""
        for known in (name, *_ALIASES.get(name, ())):
            if self._entries.get(known) is not None:
                return self._entries[known]
        return None

    def is_null(self, name: str) -> bool:
        """Whether `null` is written, which some families mean otherwise than leaving it out."""
        return name in self._entries and self._entries[name] is None

    def integer(self, name: str, high: int, default: int | None = None, low: int = 1) -> int:
        """A whole number from `low` to `high`.

        Raises:
            ConfigBroken: It is something else, or missing without a default.
        """
        value = self.value(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ConfigBroken(f"`{name}` is not a whole number from {low} to {high}.")
        return value

    def number(self, name: str, default: float, low: float = 1e-12, high: float = 1e12) -> float:
        """A number from `low` to `high`.

        Raises:
            ConfigBroken: It is something else.
        """
        value = self.value(name)
        if value is None:
            return default
        if not _is_number(value) or not low <= value <= high:
            raise ConfigBroken(f"`{name}` is not a number from {low:g} to {high:g}.")
        return float(value)

    def numbers(self, name: str, count: int) -> tuple[float, ...]:
        """As many positive numbers.

        Raises:
            ConfigBroken: It is something else, or missing.
        """
        value = self.value(name)
        if not isinstance(value, list) or len(value) != count:
            raise ConfigBroken(f"`{name}` is not a list of {count} numbers.")
        if not all(_is_number(item) and 1e-12 <= item <= 1e12 for item in value):
            raise ConfigBroken(f"`{name}` holds what is no positive number.")
        return tuple(float(item) for item in value)

    def flag(self, name: str, default: bool) -> bool:
        """True or false.

        Raises:
            ConfigBroken: It is something else.
        """
        value = self.value(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise ConfigBroken(f"`{name}` is neither true nor false.")
        return value

    def text(self, name: str, default: str = "") -> str:
        """A short text.

        Raises:
            ConfigBroken: It is something else.
        """
        value = self.value(name)
        if value is None:
            return default
        if not isinstance(value, str) or len(value) > 128 or not value.isprintable():
            raise ConfigBroken(f"`{name}` is not a short text.")
        return value

    def inner(self, name: str) -> "ConfigFields | None":
        """The entries of an object inside, or None if there is none."""
        value = self.value(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise ConfigBroken(f"`{name}` is not an object.")
        return ConfigFields(value)

    def with_defaults(self, defaults: dict[str, Any]) -> "ConfigFields":
        written = {name: value for name, value in self._entries.items() if value is not None}
        return ConfigFields({**defaults, **written})


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
