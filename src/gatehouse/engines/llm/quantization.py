"""Weights of linear layers in 8 or 4 bits, made from the stored ones.

Only weights are rounded, activations never are: a product is what it would be with the weights
that `QuantizedMatrix.floats` gives. Pure numpy: knows neither graphs nor where tensors are kept.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatehouse.engines.base import WeightFormat
from gatehouse.engines.llm.weights import StoredTensor, WeightsBroken

# Counts up whenever the same weights would give other numbers: copies that were kept are then
# made anew.
VERSION = 1

# Of int4, the first that divides the width of a matrix. Groups of 64 move what the trained demo
# model predicts by 0.0020 nats a token (of 32 by 0.0018, of 128 by 0.0025); so they do with a zero
# point of their own, or with the scale of the least error. A head in 4 bits too doubles it.
GROUP_SIZES = (64, 32)

# Items worked on at once: what they need fits into a processor's own cache.
_CHUNK_ITEMS = 2**17

# Of an item: its bits, how many, and the exponent of what is infinite or no number.
_BITS: dict[str, tuple[Any, int, int]] = {
    "F32": (np.uint32, 32, 0x7F800000),
    "F16": (np.uint16, 16, 0x7C00),
    "BF16": (np.uint16, 16, 0x7F80),
}


@dataclass(frozen=True, slots=True)
class Layout:
    """How a matrix of shape (out, in) is quantized.

    Attributes:
        shape: Of the matrix.
        num_bits: 8 or 4.
        group_size: So many inputs of an output share a scale; divides the number of inputs.
    """

    shape: tuple[int, int]
    num_bits: int
    group_size: int

    @property
    def values_shape(self) -> tuple[int, int]:
        return self.shape[0], self.shape[1] * self.num_bits // 8

    @property
    def values_type(self) -> Any:
        return np.int8 if self.num_bits == 8 else np.uint8

    @property
    def scales_shape(self) -> tuple[int, int]:
        return self.shape[0], self.shape[1] // self.group_size


def layout_of(shape: tuple[int, ...], weight_format: WeightFormat) -> Layout:
    """The layout of a matrix: in 8 bits one scale for an output, in 4 bits one for a group.

    A width that no group size divides is kept in 8 bits.
    """
    assert weight_format is not WeightFormat.STORED
    num_out, num_in = shape
    if weight_format is WeightFormat.INT4:
        for size in GROUP_SIZES:
            if num_in % size == 0:
                return Layout((num_out, num_in), 4, size)
    return Layout((num_out, num_in), 8, num_in)


@dataclass(frozen=True, slots=True)
class QuantizedMatrix:
    """A matrix of shape (out, in) as small whole numbers and what they are multiplied by.

    Attributes:
        values: In 8 bits of shape (out, in), as `int8`; in 4 bits two in a byte, the first in the
            lower half, of shape (out, in / 2), as `uint8`.
        scales: Of shape (out, groups); the inputs of an output fall into groups of one size.
        num_bits: 8 or 4.
    """

    values: NDArray[Any]
    scales: NDArray[np.float32]
    num_bits: int

    @property
    def shape(self) -> tuple[int, int]:
        num_out, width = self.values.shape
        return num_out, width * 8 // self.num_bits

    @property
    def num_bytes(self) -> int:
        return self.values.nbytes + self.scales.nbytes

    def floats(self) -> NDArray[np.float32]:
        """The weights that are in effect; of shape (out, in)."""
        whole = self.values if self.num_bits == 8 else _unpacked(self.values)
        num_out, num_groups = self.scales.shape
        groups = whole.reshape(num_out, num_groups, -1) * self.scales[:, :, None]
        floats: NDArray[np.float32] = groups.reshape(self.shape)
        return floats


def quantize(name: str, tensor: StoredTensor, layout: Layout) -> QuantizedMatrix:
    """The whole matrix, in memory; see `quantized_rows`.

    Raises:
        WeightsBroken: A weight is no finite number.
    """
    values = np.empty(layout.values_shape, layout.values_type)
    scales = np.empty(layout.scales_shape, np.float32)
    begin = 0
    for some_values, some_scales in quantized_rows(name, tensor, layout):
        end = begin + len(some_values)
        values[begin:end], scales[begin:end] = some_values, some_scales
        begin = end
    return QuantizedMatrix(values, scales, layout.num_bits)


def quantized_rows(
    name: str, tensor: StoredTensor, layout: Layout
) -> Iterator[tuple[NDArray[Any], NDArray[np.float32]]]:
    """Values and scales of a few rows at a time, as in `QuantizedMatrix`.

    What is farthest from zero under a scale becomes 127 or -127 in 8 bits. In 4 bits it becomes
    -8: a scale may be negative, so that of the sixteen numbers none is left unused.

    Args:
        name: What the tensor is called, should it be broken.
        tensor: Of shape (out, in).
        layout: Of this shape.

    Raises:
        WeightsBroken: A weight is no finite number.
    """
    assert tensor.shape == layout.shape
    rounded = _rounded_int8 if layout.num_bits == 8 else _rounded_int4
    num_out, num_in = layout.shape
    step = max(1, _CHUNK_ITEMS // max(1, num_in))
    stored = tensor.array()
    for begin in range(0, num_out, step):
        rows = stored[begin : begin + step].reshape(
            -1, num_in // layout.group_size, layout.group_size
        )
        farthest = _farthest(rows, tensor.dtype, name)
        values, scales = rounded(_floats(rows, tensor.dtype), farthest)
        yield values.reshape(len(rows), -1), scales


def _farthest(groups: NDArray[Any], dtype: str, name: str) -> NDArray[np.float32]:
    """The item of each group that is farthest from zero.

    By bits: with the sign moved to the end, as whole numbers they are in that order. Numpy finds
    the highest of whole numbers six times as fast.
    """
    bits_type, num_bits, exponent = _BITS[dtype]
    bits = groups.view(bits_type)
    turned = (bits << bits_type(1)) | (bits >> bits_type(num_bits - 1))
    highest = turned.max(2)
    if (highest >> bits_type(1) >= bits_type(exponent)).any():
        raise WeightsBroken(f"The tensor `{name}` holds what is no finite number.")
    back = (highest >> bits_type(1)) | (highest << bits_type(num_bits - 1))
    return _floats(back.view(groups.dtype), dtype)


def _floats(array: NDArray[Any], dtype: str) -> NDArray[np.float32]:
    """A copy as float32."""
    if dtype == "BF16":
        wide = array.astype(np.uint32)
        return np.left_shift(wide, 16, out=wide).view(np.float32)
    return array.astype(np.float32)


def _rounded_int8(
    groups: NDArray[np.float32], farthest: NDArray[np.float32]
) -> tuple[NDArray[Any], NDArray[np.float32]]:
    scales = _nonzero(np.abs(farthest) / np.float32(127))
    return _rounded(groups, scales).astype(np.int8), scales


def _rounded_int4(
    groups: NDArray[np.float32], farthest: NDArray[np.float32]
) -> tuple[NDArray[Any], NDArray[np.float32]]:
    scales = _nonzero(farthest / np.float32(-8))
    # The end opposite to the farthest has one number less.
    whole = np.minimum(_rounded(groups, scales), np.float32(7), out=groups)
    return _packed(whole.astype(np.int8)), scales


def _rounded(groups: NDArray[np.float32], scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """The nearest whole numbers of scales, in place."""
    groups *= (np.float32(1) / scales)[:, :, None]
    return np.rint(groups, out=groups)


def _nonzero(scales: NDArray[Any]) -> NDArray[np.float32]:
    # Below the smallest normal number, a division gives what is no number.
    ones = np.ones_like(scales)
    return np.where(np.abs(scales) < np.finfo(np.float32).tiny, ones, scales)


def _packed(whole: NDArray[np.int8]) -> NDArray[np.uint8]:
    # Little-endian, as is all that OpenVINO runs on.
    pairs = whole.view("<u2")
    packed: NDArray[np.uint8] = ((pairs & 15) | (pairs >> 4 & 240)).astype(np.uint8)
    return packed


def _unpacked(packed: NDArray[np.uint8]) -> NDArray[np.int8]:
    halves = np.stack([packed & 15, packed >> 4], -1).reshape(len(packed), -1)
    return (halves.astype(np.int8) ^ np.int8(8)) - np.int8(8)
