"""Reads a model's safetensors files by memory map: one file, or shards named by an index.

The format: https://github.com/huggingface/safetensors#format. Nothing is copied, and the header is
held to its bounds before anything is looked at.
"""

import math
import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from gatehouse.engines.base import ModelNotLoadable

MAX_HEADER_BYTES = 16 * 2**20
MAX_TENSORS = 100_000
MAX_SHARDS = 1_000
_MAX_RANK = 8
_MAX_NAME_LENGTH = 512
_FILE = "model.safetensors"
_INDEX = "model.safetensors.index.json"

# Bytes of an item. Those that are no whole number of bytes are left out, hence refused.
_ITEM_SIZES = {
    "F64": 8, "I64": 8, "U64": 8, "C64": 8,
    "F32": 4, "I32": 4, "U32": 4,
    "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
    "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
}  # fmt: skip

# numpy has no bfloat16: its bits are kept as they are.
_ARRAY_TYPES: dict[str, Any] = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}

# Where an item's exponent lies; only what is infinite or no number has all of it set.
_EXPONENTS: dict[str, tuple[Any, Any]] = {
    "F32": (np.uint32, np.uint32(0x7F800000)),
    "F16": (np.uint16, np.uint16(0x7C00)),
    "BF16": (np.uint16, np.uint16(0x7F80)),
}
_CHUNK = 2**18


class WeightsBroken(ModelNotLoadable):
    """The weight files are not what the format or the configuration says."""


class _Entry(msgspec.Struct, frozen=True):
    """One tensor, as a header describes it; offsets count from the header's end."""

    dtype: str
    shape: Annotated[tuple[int, ...], msgspec.Meta(max_length=_MAX_RANK)]
    data_offsets: tuple[int, int]


class _Index(msgspec.Struct, frozen=True):
    weight_map: dict[str, str]


_decode_header = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_entry = msgspec.json.Decoder(_Entry).decode
_decode_index = msgspec.json.Decoder(_Index).decode


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor where it lies in its file.

    Attributes:
        dtype: As the file says, such as `BF16`.
        shape: Its sizes.
        place: Where its bytes begin in `buffer`.
        buffer: The whole file.
    """

    dtype: str
    shape: tuple[int, ...]
    place: int
    buffer: Any

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * _ITEM_SIZES[self.dtype]

    def array(self) -> NDArray[Any]:
        """The items where they lie; bfloat16 as its bits, in `uint16`.

        Copied only if the file puts them at an odd place.
        """
        array_type = np.dtype(_ARRAY_TYPES[self.dtype])
        items = np.frombuffer(self.buffer, array_type, math.prod(self.shape), self.place)
        return np.require(items.reshape(self.shape), requirements="A")

    def floats(self) -> NDArray[np.float32]:
        """The items as float32: a copy, unless they are stored so."""
        array = self.array()
        if self.dtype == "BF16":
            return (array.astype(np.uint32) << 16).view(np.float32)
        return array.astype(np.float32, copy=False)

    def is_finite(self) -> bool:
        """Whether all items are finite numbers. Reads them all, but copies few at a time."""
        bits_type, exponent = _EXPONENTS[self.dtype]
        bits = self.array().view(bits_type).reshape(-1)
        return not any(
            ((bits[begin : begin + _CHUNK] & exponent) == exponent).any()
            for begin in range(0, bits.size, _CHUNK)
        )

    def transposed(self) -> "StoredTensor":
        """A copy of a matrix with its sides changed."""
        array = np.ascontiguousarray(self.array().T)
        return StoredTensor(self.dtype, array.shape, 0, array)


class Checkpoint(Mapping[str, StoredTensor]):
    """The tensors of a model's folder, by name. The files must not change while it is used."""

    def __init__(self, folder: Path) -> None:
        """Map the files and check their headers.

        Raises:
            WeightsBroken: They are missing, or not what they should be.
        """
        self._tensors: dict[str, StoredTensor] = {}
        single = folder / _FILE
        if single.is_file():
            self._tensors = read_file(single)
        else:
            self._read_shards(folder)
        for name, tensor in self._tensors.items():
            if tensor.dtype not in _ARRAY_TYPES:
                raise WeightsBroken(
                    f"The tensor `{name}` is stored as {tensor.dtype}; this engine reads "
                    f"BF16, F16 and F32."
                )

    def __getitem__(self, name: str) -> StoredTensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def num_bytes(self) -> int:
        return sum(tensor.num_bytes for tensor in self._tensors.values())

    def let_go(self) -> None:
        """Leave what was read of the files to the system, which reads it again when asked for."""
        for buffer in {id(tensor.buffer): tensor.buffer for tensor in self.values()}.values():
            buffer.madvise(mmap.MADV_DONTNEED)

    def _read_shards(self, folder: Path) -> None:
        weight_map = _read_index(folder / _INDEX)
        for shard in sorted(set(weight_map.values())):
            path = folder / shard
            if not path.is_file():
                raise WeightsBroken("A file of weights that the index names is missing.")
            tensors = read_file(path)
            if not self._tensors.keys().isdisjoint(tensors):
                raise WeightsBroken("Two files of weights hold a tensor of the same name.")
            self._tensors.update(tensors)
        if not weight_map.keys() <= self._tensors.keys():
            raise WeightsBroken("The index of the weights names tensors that no file holds.")


def _read_index(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise WeightsBroken("The model has no `model.safetensors`.")
    if path.stat().st_size > MAX_HEADER_BYTES:
        raise WeightsBroken("The index of the weights is too large.")
    try:
        weight_map = _decode_index(path.read_bytes()).weight_map
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WeightsBroken("The index of the weights cannot be read.") from error
    shards = set(weight_map.values())
    if len(shards) > MAX_SHARDS or len(weight_map) > MAX_TENSORS:
        raise WeightsBroken("The index of the weights names too much.")
    if not all(_is_plain_name(shard) for shard in shards):
        raise WeightsBroken("The index of the weights names a file that is none of the model's.")
    return weight_map


def _is_plain_name(shard: str) -> bool:
    return (
        shard.endswith(".safetensors")
        and len(shard) <= 255
        and shard.isprintable()
        and not any(character in shard for character in "/\\:")
        and not shard.startswith(".")
    )


def read_file(path: Path) -> dict[str, StoredTensor]:
    """The tensors of one file, which stays mapped as long as one of them is held.

    Raises:
        WeightsBroken: The header is not what the format says, or the file is cut.
    """
    with path.open("rb") as file:
        size = path.stat().st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
            raise WeightsBroken("A file of weights has a header of an impossible size.")
        entries = parse_header(file.read(length), size - 8 - length)
        # Read-only, or the system would count it as memory that this process may need.
        buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    begin = 8 + length
    return {
        name: StoredTensor(entry.dtype, entry.shape, begin + entry.data_offsets[0], buffer)
        for name, entry in entries.items()
    }


def parse_header(header: bytes, num_data_bytes: int) -> dict[str, _Entry]:
    """The tensors that a header describes; together they fill the file's data, as the format asks.

    Raises:
        WeightsBroken: They do not, or the header is something else.
    """
    try:
        raw = _decode_header(header)
        raw.pop("__metadata__", None)
        if len(raw) > MAX_TENSORS:
            raise WeightsBroken("A file of weights names too many tensors.")
        entries = {name: _decode_entry(value) for name, value in raw.items()}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WeightsBroken("The header of a file of weights cannot be read.") from error
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        if not 0 < len(name) <= _MAX_NAME_LENGTH or not name.isprintable():
            raise WeightsBroken("A file of weights names a tensor in an impossible way.")
        if entry.dtype not in _ITEM_SIZES:
            raise WeightsBroken(f"The tensor `{name}` is stored in an unknown way.")
        if any(size < 0 for size in entry.shape):
            raise WeightsBroken(f"The tensor `{name}` has an impossible shape.")
        if entry.data_offsets[0] != end:
            raise WeightsBroken("The tensors in a file of weights overlap or leave holes.")
        end += math.prod(entry.shape) * _ITEM_SIZES[entry.dtype]
        if entry.data_offsets[1] != end:
            raise WeightsBroken(f"The size of the tensor `{name}` does not fit its shape.")
    if end != num_data_bytes:
        raise WeightsBroken("A file of weights is cut, or longer than its header says.")
    return entries
