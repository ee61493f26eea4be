"""Checkpoints with random weights in bfloat16, made without torch."""

import json
import math
import shutil
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from benchmarks.engine.shapes import BYTES_PER_WEIGHT, Shape
from benchmarks.engine.vocabulary import write_tokenizer

_SEED = 20260
_ALIGNMENT = 8


def ensure_checkpoint(shape: Shape, folder: Path) -> Path:
    """The folder of this shape's checkpoint, made if it is not there yet."""
    place = folder / shape.name
    if place.exists():
        return place
    unfinished = folder / f"{shape.name}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    (unfinished / "config.json").write_text(json.dumps(shape.config(), indent=2))
    (unfinished / "generation_config.json").write_text("{}")
    write_tokenizer(unfinished, shape.vocab_size)
    with (unfinished / "model.safetensors").open("wb") as file:
        _write_weights(shape, file)
    unfinished.rename(place)
    return place


def read_through(folder: Path) -> None:
    """Have the system keep the weights in memory, so that a load is one from a warm cache."""
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            while file.read(1 << 24):
                pass


def _write_weights(shape: Shape, file: BinaryIO) -> None:
    """A header, then every tensor. See the safetensors format."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, sizes in shape.tensors().items():
        start, end = end, end + math.prod(sizes) * BYTES_PER_WEIGHT
        header[name] = {"dtype": "BF16", "shape": sizes, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    file.write(len(text).to_bytes(8, "little") + text)
    random = np.random.default_rng(_SEED)
    for name, sizes in shape.tensors().items():
        file.write(_bfloat16(_weights(name, sizes, shape, random)).data)


def _weights(
    name: str, sizes: tuple[int, ...], shape: Shape, random: np.random.Generator
) -> NDArray[np.float32]:
    """Of a scale at which greedy text goes on changing, as that of a trained model does.

    Where the embedding is the head as well, a token would be followed by itself: the last norm
    turns the signs of half the dimensions. What layers add has about four times the embedding's
    variance: with less, two tokens take turns, with more, the text depends on its beginning alone.
    """
    if name == "model.norm.weight":
        return random.choice(np.array([-1.0, 1.0], dtype=np.float32), sizes)
    if name.endswith("norm.weight"):
        return np.ones(sizes, dtype=np.float32)
    values = random.standard_normal(sizes, dtype=np.float32)
    if name == "model.embed_tokens.weight":
        return values
    scale = 1 / math.sqrt(sizes[1])
    if name.endswith(("o_proj.weight", "down_proj.weight")):
        scale *= 2 / math.sqrt(shape.num_hidden_layers)
    values *= np.float32(scale)
    return values


def _bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The upper halves, rounded to the nearest and, between two, to the even one."""
    bits = values.view(np.uint32)
    odd = (bits >> 16) & 1
    return ((bits + 0x7FFF + odd) >> 16).astype(np.uint16)
