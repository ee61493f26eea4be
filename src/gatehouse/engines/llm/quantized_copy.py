"""Quantized matrices in a file, to be mapped at the next load instead of made again.

A safetensors file: for each matrix its numbers by the matrix's own name, 4 bits two in a byte, and
their scales as `<name>.scales`. One that is cut or has a bit changed is found out. Whoever has one
mapped keeps it, whatever becomes of its name.
"""

import json
import math
import mmap
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from gatehouse.core.errors import GatehouseError
from gatehouse.engines.llm.quantization import Layout, QuantizedMatrix, quantized_rows
from gatehouse.engines.llm.weights import StoredTensor, WeightsBroken, read_file

UNFINISHED_PREFIX = ".making-"
_SCALES = ".scales"
_TYPES: dict[str, Any] = {"I8": np.int8, "U8": np.uint8, "F32": np.float32}
# What a header says of a matrix and its scales, besides their names.
_ENTRY_BYTES = 320
_ALIGNMENT = 64


class CopyBroken(GatehouseError):
    """The file is not a copy that was written to its end, or not the one that was looked for."""


class _Metadata(msgspec.Struct, frozen=True):
    key: str
    blake3: str


class _Header(msgspec.Struct, frozen=True):
    metadata: _Metadata = msgspec.field(name="__metadata__")


_decode_header = msgspec.json.Decoder(_Header).decode


class QuantizedCopy:
    """A copy that is mapped. Its bytes were held to their digest when it was opened."""

    def __init__(self, path: Path, key: str) -> None:
        """Map a file and look all through it.

        Raises:
            FileNotFoundError: It is not there.
            OSError: It cannot be read.
            CopyBroken: It was made of something else, or is not as it was written.
        """
        try:
            self._tensors = read_file(path)
        except WeightsBroken as error:
            raise CopyBroken(error.message) from error
        if not self._tensors:
            raise CopyBroken("A copy holds nothing.")
        self._buffer: Any = next(iter(self._tensors.values())).buffer
        begin = 8 + int.from_bytes(self._buffer[:8], "little")
        try:
            metadata = _decode_header(self._buffer[8:begin]).metadata
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise CopyBroken("A copy does not say what it is of.") from error
        if metadata.key != key:
            raise CopyBroken("A copy is of something else.")
        entries = {
            name: (tensor.dtype, tensor.shape, tensor.place - begin)
            for name, tensor in self._tensors.items()
        }
        digest = blake3(memoryview(self._buffer)[begin:])
        if _sealed(digest, entries) != metadata.blake3:
            raise CopyBroken("A copy is not as it was written.")

    def get(self, name: str, layout: Layout) -> QuantizedMatrix | None:
        """A matrix; None if the copy has none of that name and layout."""
        values = self._array(name, layout.values_type, layout.values_shape)
        scales = self._array(name + _SCALES, np.float32, layout.scales_shape)
        if values is None or scales is None:
            return None
        return QuantizedMatrix(values, scales, layout.num_bits)

    def _array(self, name: str, array_type: Any, shape: tuple[int, int]) -> NDArray[Any] | None:
        tensor = self._tensors.get(name)
        if tensor is None or tensor.shape != shape or _TYPES.get(tensor.dtype) is not array_type:
            return None
        return _array(self._buffer, tensor.place, array_type, shape)

    def let_go(self) -> None:
        """Leave what was read to the system, which reads it again when asked for."""
        self._buffer.madvise(mmap.MADV_DONTNEED)


class CopyWriter:
    """Quantizes matrices into a file that has no name of its own until it is whole.

    What it gives is mapped from there: little is held in memory. A context manager: what was not
    published is gone afterwards.
    """

    def __init__(self, folder: Path, sources: Mapping[str, StoredTensor]) -> None:
        """Begin a file.

        Args:
            folder: Where it is to lie; made if it is not there.
            sources: What may be quantized, whole or in parts.

        Raises:
            OSError: Nothing can be written there.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, path = tempfile.mkstemp(prefix=UNFINISHED_PREFIX, dir=folder)
        self._path = Path(path)
        self._file = os.fdopen(descriptor, "r+b", buffering=0)
        self._begin = -(-(8 + _header_room(sources)) // _ALIGNMENT) * _ALIGNMENT
        self._end = 0
        self._digest = blake3()
        self._entries: dict[str, tuple[str, tuple[int, ...], int]] = {}
        try:
            # At the most a number and a scale for every item. What is not written takes no room.
            self._file.truncate(self._begin + 5 * _num_items(sources))
            # A shared map, as this is one: it shows what is written.
            self._buffer = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
            self._file.seek(self._begin)
        except OSError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, name: str, tensor: StoredTensor, layout: Layout) -> QuantizedMatrix:
        """Quantize a matrix. After an `OSError`, nothing can be added or published any more.

        Raises:
            WeightsBroken: A weight is no finite number.
            OSError: There is no room left.
        """
        begin, scales = self._end, []
        for some_values, some_scales in quantized_rows(name, tensor, layout):
            self._write(some_values)
            scales.append(some_scales)
        middle = self._end
        self._write(np.concatenate(scales))
        values_dtype = "I8" if layout.num_bits == 8 else "U8"
        self._entries[name] = (values_dtype, layout.values_shape, begin)
        self._entries[name + _SCALES] = ("F32", layout.scales_shape, middle)
        return QuantizedMatrix(
            _array(self._buffer, self._begin + begin, layout.values_type, layout.values_shape),
            _array(self._buffer, self._begin + middle, np.float32, layout.scales_shape),
            layout.num_bits,
        )

    def finish(self, key: str) -> None:
        """Write what the header says, and see that all is on the disk.

        Raises:
            OSError: It is not.
        """
        header = self._header(key)
        self._file.truncate(self._begin + self._end)
        self._file.seek(0)
        self._put(len(header).to_bytes(8, "little") + header)
        os.fsync(self._file.fileno())

    def publish(self, path: Path) -> None:
        """Give the file, which is finished, its name: in place of one that may be there.

        Raises:
            OSError: It cannot have it.
        """
        self._path.rename(path)

    def close(self) -> None:
        """Remove the file, unless it was published."""
        self._file.close()
        self._path.unlink(missing_ok=True)

    def let_go(self) -> None:
        """See `QuantizedCopy`."""
        self._buffer.madvise(mmap.MADV_DONTNEED)

    def _header(self, key: str) -> bytes:
        metadata = {"key": key, "blake3": _sealed(self._digest, self._entries)}
        header: dict[str, object] = {"__metadata__": metadata}
        for name, (dtype, shape, begin) in self._entries.items():
            size = math.prod(shape) * np.dtype(_TYPES[dtype]).itemsize
            offsets = (begin, begin + size)
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        encoded = json.dumps(header).encode()
        assert len(encoded) <= self._begin - 8
        return encoded.ljust(self._begin - 8)

    def _write(self, array: NDArray[Any]) -> None:
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        self._digest.update(data)
        self._put(data)
        self._end += len(data)

    def _put(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]


def _array(buffer: Any, place: int, array_type: Any, shape: tuple[int, int]) -> NDArray[Any]:
    """Where it lies; copied only where it does not lie as the type wants it."""
    array = np.frombuffer(buffer, array_type, math.prod(shape), place).reshape(shape)
    return np.require(array, requirements="A")


def _sealed(digest: blake3, entries: Mapping[str, tuple[str, tuple[int, ...], int]]) -> str:
    """The digest of all bytes and of what the header says of them, in hexadecimal."""
    whole = digest.copy()
    whole.update(json.dumps(sorted(entries.items())).encode())
    return whole.hexdigest()


def _num_items(sources: Mapping[str, StoredTensor]) -> int:
    return sum(math.prod(tensor.shape) for tensor in sources.values())


def _header_room(sources: Mapping[str, StoredTensor]) -> int:
    """Bytes for a header, if every source is kept: those of three sides as many matrices."""
    room = 512
    for name, tensor in sources.items():
        count = tensor.shape[0] if len(tensor.shape) == 3 else 1
        room += count * (2 * len(json.dumps(name)) + _ENTRY_BYTES)
    return room
