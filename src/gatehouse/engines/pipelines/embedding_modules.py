"""What follows the encoder of a sentence-transformers model: pooling, dense layers, normalising.

Read from `modules.json` and the folders that it names; a model without it gets the mean.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from gatehouse.engines.base import ModelNotLoadable

_ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "Identity": lambda values: values,
    "Tanh": torch.tanh,
    "ReLU": torch.relu,
    "GELU": torch.nn.functional.gelu,
    "SiLU": torch.nn.functional.silu,
    "Sigmoid": torch.sigmoid,
}
_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True, slots=True)
class Dense:
    """A linear layer; `weight` is of shape (outputs, inputs)."""

    weight: Any
    bias: Any
    activation: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class EmbeddingModules:
    """How token vectors become one vector.

    Attributes:
        pooling: One or more modes, whose vectors are put side by side.
        normalizes: Whether the model's own modules end with a length of 1.
        is_sentence_model: Whether the folder said anything at all.
        max_tokens: Longest text, if the folder says.
        prompts: Prefixes by name.
    """

    pooling: tuple[str, ...] = ("mean",)
    dense: tuple[Dense, ...] = ()
    normalizes: bool = False
    is_sentence_model: bool = False
    max_tokens: int | None = None
    prompts: dict[str, str] | None = None
    default_prompt: str | None = None

    def num_dimensions(self, hidden_size: int) -> int:
        if self.dense:
            return int(self.dense[-1].weight.shape[0])
        return hidden_size * len(self.pooling)

    def apply(self, states: Any, mask: Any, normalize: Any) -> Any:
        """Vectors of a batch.

        Args:
            states: The encoder's last states, of shape (texts, tokens, size); padding at the end.
            mask: 1 for tokens and 0 for padding, of shape (texts, tokens).
            normalize: Which vectors get the length 1, of shape (texts,).

        Returns:
            Of shape (texts, dimensions).
        """
        vectors = torch.cat([_pool(mode, states, mask) for mode in self.pooling], dim=1)
        for layer in self.dense:
            linear = torch.nn.functional.linear(vectors, layer.weight, layer.bias)
            vectors = layer.activation(linear)
        return torch.where(
            normalize[:, None], torch.nn.functional.normalize(vectors, dim=1), vectors
        )


def load_modules(folder: Path) -> EmbeddingModules:
    """The modules of a folder.

    Raises:
        ModelNotLoadable: A module is of a kind that is not known, or damaged.
    """
    listed = _read_json(folder / "modules.json", list)
    if listed is None:
        return EmbeddingModules()
    pooling: tuple[str, ...] = ("mean",)
    dense: list[Dense] = []
    normalizes = False
    for module in listed:
        kind, place = _kind_and_place(module, folder)
        if kind == "Pooling":
            pooling = _pooling(_read_json(place / "config.json", dict) or {})
        elif kind == "Dense":
            dense.append(_dense(place))
        elif kind == "Normalize":
            normalizes = True
        elif kind not in ("Transformer", "Dropout"):
            raise ModelNotLoadable(f"`modules.json` names `{kind[:50]}`, which is not known here.")
    said = _read_json(folder / "config_sentence_transformers.json", dict) or {}
    return EmbeddingModules(
        pooling,
        tuple(dense),
        normalizes,
        is_sentence_model=True,
        max_tokens=_max_tokens(folder),
        prompts=_texts(said.get("prompts")),
        default_prompt=_text_or_none(said.get("default_prompt_name")),
    )


def _pool(mode: str, states: Any, mask: Any) -> Any:
    weights = mask[:, :, None].to(states.dtype)
    match mode:
        case "cls":
            return states[:, 0]
        case "lasttoken":
            last = mask.sum(dim=1) - 1
            return states[torch.arange(len(states)), last]
        case "max":
            return states.masked_fill(weights == 0, torch.finfo(states.dtype).min).amax(dim=1)
        case "weightedmean":
            places = torch.arange(1, states.shape[1] + 1, dtype=states.dtype)
            weights = weights * places[None, :, None]
            return (states * weights).sum(dim=1) / weights.sum(dim=1)
        case "mean_sqrt_len_tokens":
            return (states * weights).sum(dim=1) / weights.sum(dim=1).sqrt()
        case _:
            return (states * weights).sum(dim=1) / weights.sum(dim=1)


def _pooling(config: dict[str, Any]) -> tuple[str, ...]:
    named = config.get("pooling_mode")
    modes = [named] if isinstance(named, str) else named if isinstance(named, list) else []
    modes += [mode for key, mode in _MODES.items() if config.get(key) is True]
    unknown = [str(mode)[:50] for mode in modes if mode not in _MODES.values()]
    if unknown:
        raise ModelNotLoadable(f"`{unknown[0]}` is no pooling mode that is known here.")
    return tuple(modes) or ("mean",)


def _dense(place: Path) -> Dense:
    config = _read_json(place / "config.json", dict) or {}
    activation = str(config.get("activation_function", "Identity")).rsplit(".", 1)[-1]
    if activation not in _ACTIVATIONS:
        raise ModelNotLoadable(f"`{activation[:50]}` is no activation that is known here.")
    try:
        tensors = load_file(place / "model.safetensors")
        weight, bias = tensors["linear.weight"].float(), tensors.get("linear.bias")
    # The library raises a plain Exception of its own for damaged files.
    except Exception as error:
        raise ModelNotLoadable(
            f"`{place.name}/model.safetensors` holds no linear layer."
        ) from error
    return Dense(weight, None if bias is None else bias.float(), _ACTIVATIONS[activation])


def _kind_and_place(module: Any, folder: Path) -> tuple[str, Path]:
    name = module.get("path", "") if isinstance(module, dict) else None
    if not isinstance(name, str) or "/" in name or name in (".", ".."):
        raise ModelNotLoadable("`modules.json` names no folder of this repository.")
    return str(module.get("type", "")).rsplit(".", 1)[-1], folder / name


def _max_tokens(folder: Path) -> int | None:
    said = _read_json(folder / "sentence_bert_config.json", dict) or {}
    value = said.get("max_seq_length")
    return value if isinstance(value, int) and 0 < value < 2**31 else None


def _texts(value: Any) -> dict[str, str]:
    pairs = value.items() if isinstance(value, dict) else ()
    return {name: text for name, text in pairs if isinstance(text, str)}


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _read_json(path: Path, kind: type) -> Any:
    """What the file holds; None if it is not there.

    Raises:
        ModelNotLoadable: It is there and holds something else.
    """
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ModelNotLoadable(f"`{path.name}` is not JSON.") from error
    if not isinstance(value, kind):
        raise ModelNotLoadable(f"`{path.name}` is not as sentence-transformers writes it.")
    return value
