"""Weights of linear layers in 8 or 4 bits, made from the stored ones as a model is loaded.

Only weights are rounded, activations never are: a product is what it would be with the weights
that `QuantizedMatrix.floats` gives. Pure numpy: knows neither graphs nor where tensors are kept.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatehouse.engines.base import WeightFormat
from gatehouse.engines.llm.weights import StoredTensor, WeightsBroken

# Of int4, the first that divides the width of a matrix. Of a trained model of 3 million weights,
# groups of 64 raised the loss from 0.759 to 0.803, of 128 to 0.814, of 32 to 0.795.
GROUP_SIZES = (64, 32)

# Items worked on at once: what they need fits into a processor's own cache.
_CHUNK_ITEMS = 2**17


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


# Makes a matrix of the tensor of this name. One that looks into a cache first fits here.
Quantize = Callable[[str, StoredTensor], QuantizedMatrix]


def quantizer(weight_format: WeightFormat) -> Quantize | None:
    """What makes matrices of this format; None if they stay as they are stored."""
    match weight_format:
        case WeightFormat.INT8:
            return quantize_int8
        case WeightFormat.INT4:
            return quantize_int4
        case WeightFormat.STORED:
            return None


def quantize_int8(name: str, tensor: StoredTensor) -> QuantizedMatrix:
    """Symmetric, with one scale for each output.

    Args:
        name: What the tensor is called, should it be broken.
        tensor: Of shape (out, in).

    Raises:
        WeightsBroken: A weight is no finite number.
    """
    num_out, num_in = tensor.shape
    values = np.empty((num_out, num_in), np.int8)
    scales = np.empty((num_out, 1), np.float32)
    for begin, end in _chunks(num_out, num_in):
        floats = _floats(tensor, begin, end)
        highest = np.maximum(floats.max(1), -floats.min(1))
        scales[begin:end, 0] = _nonzero(highest / np.float32(127), name)
        floats /= scales[begin:end]
        values[begin:end] = np.rint(floats, out=floats)
    return QuantizedMatrix(values, scales, 8)


def quantize_int4(name: str, tensor: StoredTensor) -> QuantizedMatrix:
    """Symmetric, with one scale for each group of inputs; see `quantize_int8`.

    What is farthest from zero in a group becomes -8: a scale may be negative, so that of the
    sixteen numbers none is left unused. A width that no group size divides is kept in 8 bits.
    """
    num_out, num_in = tensor.shape
    group = next((size for size in GROUP_SIZES if num_in % size == 0), None)
    if group is None:
        return quantize_int8(name, tensor)
    values = np.empty((num_out, num_in // 2), np.uint8)
    scales = np.empty((num_out, num_in // group), np.float32)
    for begin, end in _chunks(num_out, num_in):
        floats = _floats(tensor, begin, end).reshape(end - begin, -1, group)
        low, high = floats.min(2), floats.max(2)
        farthest = np.where(-low > high, low, high)
        scales[begin:end] = _nonzero(farthest / np.float32(-8), name)
        floats /= scales[begin:end, :, None]
        np.clip(np.rint(floats, out=floats), -8, 7, out=floats)
        values[begin:end] = _packed(floats.astype(np.int8).reshape(end - begin, num_in))
    return QuantizedMatrix(values, scales, 4)


def _chunks(num_out: int, num_in: int) -> list[tuple[int, int]]:
    step = max(1, _CHUNK_ITEMS // num_in)
    return [(begin, min(begin + step, num_out)) for begin in range(0, num_out, step)]


def _floats(tensor: StoredTensor, begin: int, end: int) -> NDArray[np.float32]:
    """A copy of some rows as float32."""
    rows = tensor.array()[begin:end]
    if tensor.dtype == "BF16":
        return (rows.astype(np.uint32) << 16).view(np.float32)
    return rows.astype(np.float32)


def _nonzero(scales: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    if not np.isfinite(scales).all():
        raise WeightsBroken(f"The tensor `{name}` holds what is no finite number.")
    # Below the smallest normal number, a division gives what is no number either.
    return np.where(np.abs(scales) < np.finfo(np.float32).tiny, np.float32(1), scales)


def _packed(whole: NDArray[np.int8]) -> NDArray[np.uint8]:
    halves: NDArray[np.uint8] = whole.view(np.uint8) & np.uint8(15)
    return halves[:, 0::2] | (halves[:, 1::2] << np.uint8(4))


def _unpacked(packed: NDArray[np.uint8]) -> NDArray[np.int8]:
    halves = np.stack([packed & 15, packed >> 4], -1).reshape(len(packed), -1)
    return (halves.astype(np.int8) ^ np.int8(8)) - np.int8(8)
