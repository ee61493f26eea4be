"""Reads the matrices of an adapter from its folder, and holds them to the model's linear layers."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gatehouse.engines.llm.adapter_config import (
    MAX_RANK,
    AdapterConfig,
    AdapterInvalid,
    parse_adapter_config,
)
from gatehouse.engines.llm.weights import StoredTensor, WeightsBroken, read_file

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
# Between `lora_A` and `weight` older versions leave the name under which the adapter was trained.
_NAME = re.compile(
    r"base_model\.model\.(?P<module>[\w.]+)\.lora_(?P<side>[AB])(?:\.\w+)?\.weight", re.ASCII
)
_TYPES = frozenset({"F32", "F16", "BF16"})
# What checkpoints that were saved without the head leave out of the names of their tensors.
_OPTIONAL_PREFIX = "transformer."


@dataclass(frozen=True, slots=True)
class LinearShape:
    """A linear layer of the model."""

    num_in: int
    num_out: int


@dataclass(frozen=True, slots=True)
class LowRankPair:
    """What an adapter adds to a layer: `x down^T up`.

    Attributes:
        down: Of shape (rank, in).
        up: Of shape (rank, out), with the scale in it.
    """

    down: NDArray[np.float32]
    up: NDArray[np.float32]

    @property
    def rank(self) -> int:
        return len(self.down)


@dataclass(frozen=True, slots=True)
class Adapter:
    """What is added to the linear layers of a model.

    Attributes:
        pairs: By the name of the layer.
    """

    pairs: dict[str, LowRankPair]

    @property
    def rank(self) -> int:
        """The highest of all its layers."""
        return max(pair.rank for pair in self.pairs.values())


def read_adapter(folder: Path, layers: Mapping[str, LinearShape]) -> Adapter:
    """The adapter in `folder`, for a model with these linear layers.

    Raises:
        AdapterInvalid: It is none, or it is one of another model.
    """
    try:
        config = parse_adapter_config((folder / CONFIG_FILE).read_bytes())
        tensors = read_file(folder / WEIGHTS_FILE)
    except OSError as error:
        raise AdapterInvalid("The adapter's files have gone: please try again.") from error
    except WeightsBroken as error:
        raise AdapterInvalid(f"`{WEIGHTS_FILE}` is broken: {error.message}") from error
    sides = _by_module(tensors, layers)
    if not sides:
        raise AdapterInvalid("The adapter has no matrices.")
    return Adapter(
        {name: _pair(config, name, layers[name], given) for name, given in sides.items()}
    )


def _by_module(
    tensors: Mapping[str, StoredTensor], layers: Mapping[str, LinearShape]
) -> dict[str, dict[str, StoredTensor]]:
    """The tensors of each layer, by their side."""
    sides: dict[str, dict[str, StoredTensor]] = {}
    for name, tensor in tensors.items():
        found = _NAME.fullmatch(name)
        if found is None:
            raise AdapterInvalid(f"The adapter's tensor `{name}` is none of a linear layer.")
        layer = _layer(found["module"], layers)
        if found["side"] in sides.setdefault(layer, {}):
            raise AdapterInvalid(f"The adapter has two tensors for `{found['module']}`.")
        sides[layer][found["side"]] = tensor
    return sides


def _layer(module: str, layers: Mapping[str, LinearShape]) -> str:
    """The model's own name for a module."""
    for name in (module, module.removeprefix(_OPTIONAL_PREFIX)):
        if name in layers:
            return name
    raise AdapterInvalid(
        f"The adapter changes `{module}`, and this model has no such linear layer in its attention "
        f"and MLPs: is it an adapter of another base model?"
    )


def _pair(
    config: AdapterConfig, name: str, shape: LinearShape, sides: Mapping[str, StoredTensor]
) -> LowRankPair:
    if len(sides) != 2:
        raise AdapterInvalid(f"The adapter has only one of two matrices for `{name}`.")
    down, up = sides["A"], sides["B"]
    rank = down.shape[0] if down.shape else 0
    if not 1 <= rank <= MAX_RANK:
        raise AdapterInvalid(f"The rank of the adapter must be >= 1 and <= {MAX_RANK}.")
    if (down.shape, up.shape) != ((rank, shape.num_in), (shape.num_out, rank)):
        raise AdapterInvalid(
            f"The adapter's matrices for `{name}` are of the shapes {list(down.shape)} and "
            f"{list(up.shape)}; for this model they should be {[rank, shape.num_in]} and "
            f"{[shape.num_out, rank]}: is it an adapter of another base model?"
        )
    scale = np.float32(config.scale(name, rank))
    # What overflows is found by whoever rounds the numbers to those of the computation.
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = _floats(up, name).T * scale
    return LowRankPair(_floats(down, name), scaled)


def _floats(tensor: StoredTensor, name: str) -> NDArray[np.float32]:
    if tensor.dtype not in _TYPES:
        raise AdapterInvalid(f"The adapter's matrices for `{name}` are not BF16, F16 or F32.")
    return tensor.floats()
